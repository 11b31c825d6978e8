import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { keptLog } from "../tests/helpers/log_lines.ts";
import { tempHome } from "../tests/helpers/temp_home.ts";
import { METRIC_KEYS_MAX, USAGE_KEPT_DAYS, USAGE_MODELS_MAX } from "./limits.ts";
import { SqliteStore } from "./store/sqlite_store.ts";
import { OTHERS, UsageCounts } from "./usage.ts";

const DAY_MS = 86_400_000;
const TOOK = { read: 10, cached: 4, made: 6, seconds: 0.5 };
const ALL = { fromDay: "0000-01-01", toDay: "9999-12-31" };

async function withUsage(
  run: (bed: { open: () => UsageCounts; clock: { nowMs: number } }) => Promise<void>,
): Promise<void> {
  await using home = await tempHome();
  const store = new SqliteStore(join(home.path, "queen.db"));
  const clock = { nowMs: Date.UTC(2026, 10, 1, 23) };
  const opened: UsageCounts[] = [];
  const open = () => {
    opened.push(new UsageCounts({ store: store.keys, log: keptLog().log, now: () => clock.nowMs }));
    return opened.at(-1)!;
  };
  try {
    await run({ open, clock });
  } finally {
    for (const usage of opened) await usage.close();
    await store.close();
  }
}

Deno.test("what is used is told by key, model and day, over several queens", () =>
  withUsage(async ({ open, clock }) => {
    const first = open();
    first.add("ada", "m", TOOK);
    first.add("ada", "m", TOOK);
    first.add("bob", "n", TOOK);
    await first.close();
    const second = open();
    second.add("ada", "m", TOOK);
    clock.nowMs += DAY_MS;
    second.add("ada", "m", TOOK);
    const told = await second.between({ ...ALL, key: "ada" });
    assertEquals(
      told.map((
        { day, requests, read, cached, made, seconds },
      ) => [day, requests, read, cached, made, seconds]),
      [
        ["2026-11-01", 3, 30, 12, 18, 1.5],
        ["2026-11-02", 1, 10, 4, 6, 0.5],
      ],
    );
    assertEquals((await second.between({ ...ALL, toDay: "2026-11-01" })).map(({ key }) => key), [
      "ada",
      "bob",
    ]);
    assertEquals([...second.totals.keys()], ["ada"]);
  }));

Deno.test("days that are too old are forgotten", () =>
  withUsage(async ({ open, clock }) => {
    const usage = open();
    usage.add("ada", "m", TOOK);
    await usage.flush();
    clock.nowMs += USAGE_KEPT_DAYS * DAY_MS;
    await usage.prune();
    assertEquals((await usage.between(ALL)).length, 1);
    clock.nowMs += DAY_MS;
    await usage.prune();
    assertEquals((await usage.between(ALL)).length, 0);
  }));

Deno.test("models and keys beyond what is told apart are counted together", () =>
  withUsage(async ({ open }) => {
    const usage = open();
    for (let i = 0; i < USAGE_MODELS_MAX + 5; i++) usage.add("ada", `m${i}`, TOOK);
    for (let i = 0; i < METRIC_KEYS_MAX + 5; i++) usage.add(`key${i}`, "m", TOOK);
    const rows = await usage.between({ ...ALL, key: "ada" });
    assertEquals(rows.length, USAGE_MODELS_MAX + 1);
    assertEquals(rows.find(({ model }) => model === OTHERS)?.requests, 5);
    assertEquals([usage.totals.size, usage.totals.get(OTHERS)?.requests], [METRIC_KEYS_MAX + 1, 6]);
  }));
