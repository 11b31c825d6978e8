import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import * as fc from "fast-check";
import { RbeeError } from "../protocol/errors.ts";
import { keptLog } from "../tests/helpers/log_lines.ts";
import { tempHome } from "../tests/helpers/temp_home.ts";
import { Accounts, type KeyLimits } from "./accounts.ts";
import type { Reservation } from "./budgets.ts";
import type { BudgetChange, KeyStore } from "./store/key_store.ts";
import { SqliteStore } from "./store/sqlite_store.ts";

const DAY_MS = 86_400_000;

/** Queens that come one after another over one database file; a crash leaves the file as it is. */
class Life implements AsyncDisposable {
  nowMs = Date.UTC(2026, 10, 1);
  accounts!: Accounts;
  readonly #path: string;
  readonly #limits: KeyLimits;
  readonly #stores: SqliteStore[] = [];
  #alive = { is: true };

  constructor(path: string, limits: KeyLimits) {
    this.#path = path;
    this.#limits = limits;
  }

  async start(): Promise<void> {
    const store = new SqliteStore(this.#path);
    this.#stores.push(store);
    const alive = this.#alive = { is: true };
    const keys: KeyStore = new Proxy(store.keys, {
      get: (target, name: keyof KeyStore) =>
        name === "changeBudgets"
          ? (changes: BudgetChange[]) => alive.is ? target.changeBudgets(changes) : Promise.resolve()
          : (target[name] as (...args: unknown[]) => unknown).bind(target),
    });
    this.accounts = await Accounts.open({ store: keys, log: keptLog().log, now: () => this.nowMs });
    this.accounts.limit("ada", this.#limits);
  }

  /** Nothing more of it reaches the file. */
  async kill(): Promise<void> {
    this.#alive.is = false;
    await this.accounts.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.accounts.close();
    for (const store of this.#stores) await store.close();
  }
}

async function withLife(limits: KeyLimits, run: (life: Life) => Promise<void>): Promise<void> {
  await using home = await tempHome();
  await using life = new Life(join(home.path, "queen.db"), limits);
  await life.start();
  await run(life);
}

const refusedAs = async (work: Promise<unknown>) => {
  const error = await assertRejects(() => work, RbeeError);
  return error;
};

Deno.test("of requests at once only as many are let through as the budget holds", () =>
  withLife({ tokens_per_day: 1_000 }, async ({ accounts }) => {
    const all = await Promise.allSettled(
      Array.from({ length: 30 }, (_, i) => accounts.reserve("ada", { id: `r${i}`, tokens: 150 })),
    );
    assertEquals(all.filter(({ status }) => status === "fulfilled").length, 6);
  }));

Deno.test("a refusal says what was used, of what, and when there will be enough", () =>
  withLife({ tokens_per_day: 24_000 }, async ({ accounts }) => {
    (await accounts.reserve("ada", { id: "a", tokens: 24_000 })).settle(24_000);
    const late = await refusedAs(accounts.reserve("ada", { id: "b", tokens: 1_500 }));
    assertEquals([late.code, late.retryAfterSeconds], ["RATE_LIMITED", 5_400]);
    assertMatch(late.message, /ada has used 24,000 of its 24,000 tokens a day; this request may take 1,500/);
    assertMatch(late.message, /enough in 90 min/);
    assertEquals(late.details, {
      ...{ limit: "tokens_per_day", budget: 24_000, asked: 1_500, used: 24_000, reserved: 0 },
    });
  }));

Deno.test("what only running requests hold back is worth a short wait", () =>
  withLife({ tokens_per_day: 1_000 }, async ({ accounts }) => {
    const running = await accounts.reserve("ada", { id: "a", tokens: 900 });
    const soon = await refusedAs(accounts.reserve("ada", { id: "b", tokens: 500 }));
    assertEquals([soon.code, soon.retryAfterSeconds], ["RATE_LIMITED", 10]);
    assertMatch(soon.message, /running requests have reserved 900.* when those have ended/);
    running.settle(20);
    await accounts.reserve("ada", { id: "b", tokens: 500 });
  }));

Deno.test("a request that is larger than the whole budget is refused for good, and says so", () =>
  withLife({ tokens_per_day: 500 }, async ({ accounts }) => {
    const never = await refusedAs(accounts.reserve("ada", { id: "a", tokens: 501 }));
    assertEquals([never.code, never.retryAfterSeconds], ["INVALID_REQUEST", undefined]);
    assertMatch(
      never.message,
      /may take 501 tokens, and the whole budget of the key ada is 500 a day, so it can never run/,
    );
  }));

Deno.test("requests of a minute are counted as well, and who has no limits is never refused", () =>
  withLife({ requests_per_minute: 2 }, async ({ accounts }) => {
    accounts.admit("ada");
    accounts.admit("ada");
    const often = assertThrows(() => accounts.admit("ada"), RbeeError);
    assertEquals([often.code, often.retryAfterSeconds, often.details.limit], [
      "RATE_LIMITED",
      30,
      "requests_per_minute",
    ]);
    for (let i = 0; i < 100; i++) {
      accounts.admit("bob");
      await accounts.reserve("bob", { id: `b${i}`, tokens: 1e9 });
    }
  }));

Deno.test("a restart gives nothing back, and takes nothing but what time does", () =>
  withLife({ tokens_per_day: 1_000, requests_per_minute: 3 }, async (life) => {
    life.accounts.admit("ada");
    life.accounts.admit("ada");
    (await life.accounts.reserve("ada", { id: "a", tokens: 800 })).settle(600);
    await life.accounts.close();
    await life.start();
    assertEquals(life.accounts.room("ada").available, 400);
    life.accounts.admit("ada");
    assertThrows(() => life.accounts.admit("ada"), RbeeError);
    life.nowMs += DAY_MS / 10;
    assertEquals(life.accounts.room("ada").available, 500);
  }));

Deno.test("a queen that is killed forgets no reservation: a task's goes on, the others are charged as a whole", () =>
  withLife({ tokens_per_day: 1_000 }, async (life) => {
    await life.accounts.reserve("ada", { id: "task", tokens: 300 });
    await life.accounts.reserve("ada", { id: "stream", tokens: 200 });
    await life.kill();
    await life.start();
    assertEquals(life.accounts.room("ada").available, 500);
    const task = life.accounts.adopt("ada", { id: "task", tokens: 999 });
    life.accounts.chargeLeft();
    assertEquals([task.amount, life.accounts.room("ada").available], [300, 500]);
    task.settle(100);
    assertEquals(life.accounts.room("ada").available, 700);
    await life.accounts.close();
    await life.start();
    life.accounts.chargeLeft();
    assertEquals(life.accounts.room("ada").available, 700);
  }));

const Step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      act: fc.constant("requests" as const),
      amounts: fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 8 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      act: fc.constant("end" as const),
      which: fc.nat(),
      part: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ act: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 3_600_000 }) }),
  },
  { weight: 1, arbitrary: fc.record({ act: fc.constantFrom("restart" as const, "kill" as const) }) },
);

Deno.test("over a real database no order of requests, ends, restarts and kills gets a key more than its budget", async () => {
  const size = 2_000;
  let requests = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(Step, { minLength: 60, maxLength: 60 }),
      (steps) =>
        withLife({ tokens_per_day: size }, async (life) => {
          const got: { atMs: number; tokens: number }[] = [];
          let running: Reservation[] = [];
          let count = 0;
          for (const step of steps) {
            if (step.act === "requests") {
              requests += step.amounts.length;
              const all = await Promise.allSettled(step.amounts.map((tokens) =>
                life.accounts.reserve("ada", {
                  id: `${count++ % 2 === 0 ? "task" : "stream"}${count}`,
                  tokens,
                })
              ));
              running.push(...all.flatMap((one) => one.status === "fulfilled" ? [one.value] : []));
            } else if (step.act === "end" && running.length > 0) {
              const [one] = running.splice(step.which % running.length, 1);
              const tokens = Math.round(one.amount * step.part);
              one.settle(tokens);
              got.push({ atMs: life.nowMs, tokens });
            } else if (step.act === "wait") {
              life.nowMs += step.ms;
            } else if (step.act === "restart" || step.act === "kill") {
              if (step.act === "restart") {
                await life.accounts.close();
              } else await life.kill();
              await life.start();
              // Streams are lost with their queen; they may have told all of their tokens before.
              for (const { amount } of running.filter(({ id }) => id.startsWith("stream"))) {
                got.push({ atMs: life.nowMs, tokens: amount });
              }
              running = running.filter(({ id }) => id.startsWith("task"))
                .map(({ id, amount }) => life.accounts.adopt("ada", { id, tokens: amount }));
              life.accounts.chargeLeft();
            }
          }
          for (let from = 0; from < got.length; from++) {
            let sum = 0;
            for (const { atMs, tokens } of got.slice(from)) {
              sum += tokens;
              const allowed = size * (1 + (atMs - got[from].atMs) / DAY_MS);
              assert(sum <= allowed + 1e-3, `${sum} tokens, of ${allowed}`);
            }
          }
        }),
    ),
    { numRuns: 25 },
  );
  assert(requests > 1_500, `only ${requests} requests`);
});
