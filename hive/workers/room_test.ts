/** Making room: idle workers leave for another, and everybody is told who and why. Real processes, injected memory. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { RbeeError } from "../../protocol/errors.ts";
import { CapabilitiesResponse } from "../../protocol/hive_schemas.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { FakeClock } from "../../tests/helpers/fake_clock.ts";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { type TestHive, testHive, type TestHiveOptions } from "../../tests/helpers/test_hive.ts";

const TOTAL_MB = 1_020;
/** What each worker claims to hold once it is loaded: far more than the model's file lets expect. */
const HELD_MB = 300;

/** A hive on a machine where each live worker holds {@linkcode HELD_MB}. */
async function smallMachine(options: Partial<TestHiveOptions> & { othersMb?: () => number } = {}) {
  const home = await tempHome();
  const { othersMb = () => 0, ...more } = options;
  const machine: { hive?: TestHive } = {};
  const memory = () => {
    const loaded = machine.hive?.workers.snapshot().filter(({ memory }) => memory?.actual_mb).length ?? 0;
    return { total_mb: TOTAL_MB, free_mb: TOTAL_MB - othersMb() - loaded * HELD_MB };
  };
  const hive = machine.hive = await testHive({
    ...{ home: home.rbeeHome, memory },
    ...more,
    worker: { privateMb: HELD_MB, ...more.worker },
    config: { reserve_mb: 100, ...more.config },
  });
  return {
    hive,
    home,
    async [Symbol.asyncDispose]() {
      await hive[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

/** Spawns one that is told from the others by its slots, and waits until its memory is known. */
async function load(hive: TestHive, slots: number, wish: { pin?: boolean } = {}) {
  const spawned = await hive.spawn({ slots, ...wish });
  await hive.until(spawned.worker_id, "idle");
  await eventually(
    "its memory",
    () =>
      hive.workers.snapshot().some(({ worker_id, memory }) =>
        worker_id === spawned.worker_id && memory?.actual_mb === HELD_MB
      ),
  );
  return spawned;
}

function listed(hive: TestHive): number[] {
  return hive.workers.snapshot().map(({ slots_total }) => slots_total).sort();
}

/** Ends with one more answer: used later than all others. */
async function use(worker: { url: string; api_key: string }): Promise<void> {
  await new WorkerClient({ baseUrl: worker.url, apiKey: worker.api_key }).inferWhole({
    prompt: "x",
    max_tokens: 1,
  });
}

Deno.test("the idle worker that was used least recently leaves for another, and the answer says so", async () => {
  await using at = await smallMachine();
  const { hive } = at;
  const first = await load(hive, 1);
  const second = await load(hive, 2);
  const third = await load(hive, 3);
  assertEquals(third.evicted, []);
  await use(first);
  const fourth = await load(hive, 4);
  assertEquals(fourth.evicted.map(({ worker_id, frees_mb }) => [worker_id, frees_mb]), [[
    second.worker_id,
    HELD_MB,
  ]]);
  assertEquals(listed(hive), [1, 3, 4]);
  assertEquals((await hive.livePids()).length, 3);
  assert(hive.log.some(({ message }) => message === "workers have to leave for another"));
  assert(hive.log.some(({ message, cause }) => message === "worker left" && cause === "evicted"));
});

Deno.test("busy and pinned workers stay, and the refusal names whom to stop", async () => {
  await using at = await smallMachine({ worker: { tokenMs: 20 } });
  const { hive } = at;
  const pinned = await load(hive, 1, { pin: true });
  await load(hive, 2, { pin: true });
  const busy = await load(hive, 3);
  const { events } = await new WorkerClient({ baseUrl: busy.url, apiKey: busy.api_key })
    .infer({ prompt: "x", max_tokens: 1_000 });
  await events.next();
  await hive.workers.list();
  const error = await assertRejects(() => hive.spawn({ slots: 4 }), RbeeError);
  assertEquals([error.code, error.status], ["INSUFFICIENT_RAM", 507]);
  const verdicts = error.details.workers as { worker_id: string; verdict: string }[];
  assertEquals(verdicts.map(({ verdict }) => verdict).sort(), ["busy", "pinned", "pinned"]);
  const advice = [error.message, ...error.details.advice as string[]].join(" ");
  assertStringIncludes(
    advice,
    `Stopping worker ${pinned.worker_id} (builtin:stories, pinned) would make room.`,
  );
  assertEquals(listed(hive), [1, 2, 3]);
  await events.return();
});

Deno.test("a worker that has become busy without its hive's knowing refuses, and another leaves", async () => {
  await using at = await smallMachine({ worker: { tokenMs: 20 } });
  const { hive } = at;
  const oldest = await load(hive, 1);
  await load(hive, 2);
  await load(hive, 3);
  const { events } = await new WorkerClient({ baseUrl: oldest.url, apiKey: oldest.api_key })
    .infer({ prompt: "x", max_tokens: 1_000 });
  await events.next();
  await load(hive, 4);
  assertEquals(listed(hive), [1, 3, 4]);
  await events.return();
});

Deno.test("two spawns at once that both need room get it", async () => {
  await using at = await smallMachine();
  const { hive } = at;
  for (const slots of [1, 2, 3]) await load(hive, slots);
  // Neither offers what the other one asks for.
  const both = await Promise.all([hive.spawn({ slots: 4 }), hive.spawn({ slots: 5, ctx_size: 256 })]);
  for (const { worker_id } of both) await hive.until(worker_id, "idle");
  assertEquals(listed(hive).slice(-2), [4, 5]);
  await eventually("no more than fit", async () => (await hive.livePids()).length <= 3);
});

Deno.test("what a load took is shown, and the next estimate counts on it, also after a restart", async () => {
  await using home = await tempHome();
  const first = await testHive({ home: home.rbeeHome, worker: { privateMb: HELD_MB } });
  const before = (await first.spawn({ slots: 1 })).worker_id;
  const { memory } = await first.until(before, "idle");
  await eventually("a load in the history", () => first.workers.pastLoads().length === 1);
  await first[Symbol.asyncDispose]();
  await using second = await testHive({ home: home.rbeeHome, worker: { privateMb: HELD_MB } });
  const response = await second.app(
    new Request("http://hive/v1/capabilities", { headers: { Authorization: `Bearer ${second.key}` } }),
  );
  const { loads, cpu } = CapabilitiesResponse.parse(await response.json());
  assertEquals(loads.map(({ slots, actual_mb, predicted_mb }) => [slots, actual_mb, predicted_mb]), [
    [1, HELD_MB, memory!.predicted_mb],
  ]);
  assert(memory!.predicted_mb < 100 && cpu!.cores > 0);
  const again = await second.spawn({ slots: 1 });
  assertEquals((await second.until(again.worker_id, "idle")).memory!.predicted_mb, HELD_MB);
  // With other options the difference counts, too.
  const other = await second.spawn({ slots: 2 });
  assert((await second.until(other.worker_id, "idle")).memory!.predicted_mb > HELD_MB);
});

Deno.test("a pinned worker never idles out unless it is told when to", async () => {
  const clock = new FakeClock();
  await using at = await smallMachine({ clock, worker: { timeScale: 86_400_000 } });
  const { hive } = at;
  const { worker_id } = await hive.spawn({ slots: 1, pin: true });
  await hive.until(worker_id, "idle");
  clock.advance(3_600_000);
  await hive.client.workers();
  assertEquals(hive.workers.snapshot().map(({ state, pinned }) => [state, pinned]), [["idle", true]]);
  await hive.spawn({ slots: 1, idle_timeout: 60 });
  assertEquals(hive.registry.all().map(({ pinned, idleTimeoutSeconds }) => [pinned, idleTimeoutSeconds]), [[
    true,
    60,
  ]]);
  clock.advance(61_000);
  await hive.gone(worker_id);
});

Deno.test("other programs' need of memory makes idle workers leave: least recently used first, pinned ones never", async () => {
  const clock = new FakeClock();
  let othersMb = 0;
  // For workers hours pass between two requests, however fast the hive's clock is turned.
  await using at = await smallMachine({
    clock,
    othersMb: () => othersMb,
    worker: { timeScale: 1_000_000 },
    config: { idle_timeout: 0 },
  });
  const { hive } = at;
  const pinned = await load(hive, 1, { pin: true });
  clock.advance(1_000);
  const old = await load(hive, 2);
  clock.advance(1_000);
  await load(hive, 3);
  hive.parts.startWork();
  othersMb = 50;
  await clock.advanceUntil("the oldest leaves", {
    stepMs: 100,
    holds: () => hive.workers.snapshot().every(({ worker_id }) => worker_id !== old.worker_id),
  });
  assertEquals(listed(hive), [1, 3]);
  await eventually(
    "the reason",
    () => hive.log.some(({ message, cause }) => message === "worker left" && cause === "squeezed"),
  );
  othersMb = 900;
  await clock.advanceUntil("all others leave", { stepMs: 100, holds: () => listed(hive).length === 1 });
  assertEquals(hive.workers.snapshot().map(({ worker_id }) => worker_id), [pinned.worker_id]);
});
