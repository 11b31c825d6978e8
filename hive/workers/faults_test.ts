/** What the hive does about workers that misbehave: real processes, a clock that is moved by hand. */
import { assert, assertEquals, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { RbeeError } from "../../protocol/errors.ts";
import { HEALTH_TIMEOUT_MS } from "../../protocol/limits.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { FakeClock } from "../../tests/helpers/fake_clock.ts";
import type { FakeMode } from "../../tests/helpers/fake_worker.ts";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { type TestHive, testHive, type TestHiveOptions } from "../../tests/helpers/test_hive.ts";
import { tailLog } from "./process.ts";

const SECOND = 1_000;

/** One hive with workers of one mode, in a home of its own. */
async function faulty(mode: FakeMode, options: Partial<TestHiveOptions> = {}) {
  const home = await tempHome();
  const clock = new FakeClock();
  const hive = await testHive({
    home: home.rbeeHome,
    clock,
    ...options,
    worker: { mode, ...options.worker },
  });
  return {
    hive,
    clock,
    async [Symbol.asyncDispose]() {
      await hive[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

/** Waits for a line of the hive's log. */
function logged(hive: TestHive, message: string) {
  return eventually(
    `"${message}" in the hive's log`,
    () => hive.log.find((line) => line.message === message),
  );
}

function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(() => "no error", (error) => error.code);
}

async function noneLeft(hive: TestHive): Promise<void> {
  await eventually("no process", async () => (await hive.livePids()).length === 0);
  await eventually("no row", () => hive.registry.all().length === 0);
}

Deno.test("a worker that never calls back is killed after 30 s, and the spawn says so with its log", async () => {
  await using at = await faulty("never-calls-back");
  const { hive, clock } = at;
  const spawning = assertRejects(() => hive.spawn(), RbeeError);
  await logged(hive, "worker started");
  const [{ logPath }] = hive.registry.all();
  await eventually("the worker's first line", async () => (await tailLog(logPath)).length > 0);
  clock.advance(30 * SECOND - 1);
  assertEquals(hive.workers.snapshot().map(({ state }) => state), ["starting"]);
  clock.advance(1);
  const error = await spawning;
  assertEquals(error.code, "WORKER_START_FAILED");
  assertEquals((error.details.log_tail as string[])[0], "fake worker in mode never-calls-back");
  await noneLeft(hive);
});

Deno.test("a callback with a wrong token is refused, and its worker killed after 30 s", async () => {
  await using at = await faulty("wrong-token");
  const { hive, clock } = at;
  const spawning = assertRejects(() => hive.spawn(), RbeeError);
  await logged(hive, "ready callback refused");
  assertEquals(hive.workers.snapshot().map(({ state }) => state), ["starting"]);
  clock.advance(30 * SECOND);
  assertEquals((await spawning).code, "WORKER_START_FAILED");
  await noneLeft(hive);
});

Deno.test("a token is good for one callback", async () => {
  await using at = await faulty("calls-back-twice");
  const { worker_id } = await at.hive.spawn();
  await logged(at.hive, "ready callback refused");
  await at.hive.until(worker_id, "idle");
});

Deno.test("a worker that dies before its callback fails the spawn at once, with exit code and log", async () => {
  await using at = await faulty("dies-before-callback");
  const error = await assertRejects(() => at.hive.spawn(), RbeeError);
  assertEquals(error.code, "WORKER_START_FAILED");
  assertEquals(error.details.exit_code, 3);
  assertStringIncludes(error.message, "something terrible happened");
  assertStringIncludes(String(error.details.log_tail), "something terrible happened");
  assertEquals(at.hive.workers.snapshot(), []);
  await noneLeft(at.hive);
});

Deno.test("a worker that dies while loading is failed with its last words, and does not block the next", async () => {
  await using at = await faulty("dies-during-load");
  const { hive } = at;
  const first = await hive.spawn();
  const { error } = await hive.until(first.worker_id, "failed");
  assertEquals(error?.code, "WORKER_CRASHED");
  assertEquals(error?.details.exit_code, 4);
  assertStringIncludes(error!.message, "the load was too much");
  await noneLeft(hive);
  const second = await hive.spawn();
  assertNotEquals(second.worker_id, first.worker_id);
  assertEquals(second.reused, false);
});

Deno.test("a worker that dies after its load is removed at once and its last words are logged", async () => {
  await using at = await faulty("dies-after-load");
  const { hive } = at;
  await hive.spawn();
  const died = await logged(hive, "worker died");
  assertEquals([died.exit_code, died.during], [5, "idle"]);
  assertStringIncludes(String(died.log_tail), "loaded, and gone");
  assertEquals(hive.workers.snapshot(), []);
  await noneLeft(hive);
});

Deno.test("a worker killed from outside is removed at once", async () => {
  await using at = await faulty("normal");
  const { hive } = at;
  const { worker_id } = await hive.spawn();
  const { pid } = await hive.until(worker_id, "idle");
  Deno.kill(pid, "SIGKILL");
  assertEquals((await logged(hive, "worker died")).signal, "SIGKILL");
  assertEquals(hive.workers.snapshot(), []);
  assertEquals((await hive.spawn()).reused, false);
});

Deno.test("a load that fails is told in the worker's own words until it is forgotten", async () => {
  await using at = await faulty("load-fails");
  const { hive, clock } = at;
  const { worker_id } = await hive.spawn();
  const { error } = await hive.until(worker_id, "failed");
  assertEquals([error?.code, error?.message], ["INVALID_MODEL", "The fake model is damaged on purpose."]);
  await noneLeft(hive);
  assertEquals((await hive.client.worker(worker_id)).state, "failed");
  await logged(hive, "worker left");
  clock.advance(300 * SECOND);
  assertEquals(hive.workers.snapshot(), []);
});

Deno.test("a failed worker leaves the list when it is stopped", async () => {
  await using at = await faulty("load-fails");
  const { hive } = at;
  const { worker_id } = await hive.spawn();
  await hive.until(worker_id, "failed");
  await hive.client.shutdownWorker(worker_id);
  assertEquals(hive.workers.snapshot(), []);
});

Deno.test("a load that takes 300 s ends with the layer it stuck at", async () => {
  await using at = await faulty("stuck-load");
  const { hive, clock } = at;
  const { worker_id, url, api_key } = await hive.spawn();
  // What the worker tells one follower it tells the hive as well.
  const { events } = await new WorkerClient({ baseUrl: url, apiKey: api_key }).loadingProgress();
  for await (const event of events) if (event.stage === "loading_to_vram" && event.layers_loaded === 4) break;
  await hive.client.workers();
  clock.advance(300 * SECOND);
  const { error } = await hive.until(worker_id, "failed");
  assertEquals(error?.code, "LOADING_TIMEOUT");
  assertEquals([error?.details.layers_loaded, error?.details.layers_total], [4, 8]);
  assertStringIncludes(error!.message, "layer 4 of 8");
  await noneLeft(hive);
});

Deno.test("a worker that ignores its shutdown gets SIGTERM after 5 s", async () => {
  await using at = await faulty("ignores-shutdown");
  const { hive, clock } = at;
  const { worker_id } = await hive.spawn();
  await hive.until(worker_id, "idle");
  const stopping = hive.workers.shutdown(worker_id);
  assertEquals(hive.workers.snapshot().map(({ state }) => state), ["draining"]);
  clock.advance(5 * SECOND - 1);
  assertEquals((await hive.livePids()).length, 1);
  clock.advance(1);
  await stopping;
  const left = await logged(hive, "worker left");
  assertEquals([left.exit_code, left.signal], [0, null]);
  await noneLeft(hive);
});

Deno.test("a worker that ignores SIGTERM as well gets SIGKILL 10 s later", async () => {
  await using at = await faulty("ignores-sigterm");
  const { hive, clock } = at;
  const { worker_id } = await hive.spawn();
  await hive.until(worker_id, "idle");
  const stopping = hive.workers.shutdown(worker_id);
  clock.advance(5 * SECOND);
  await logged(hive, "worker did not acknowledge its shutdown");
  await clock.advanceUntil("the end of patience", {
    stepMs: SECOND,
    holds: () => hive.log.some(({ message }) => message.startsWith("worker killed")),
  });
  await stopping;
  assertEquals((await logged(hive, "worker left")).signal, "SIGKILL");
  await noneLeft(hive);
});

Deno.test("a worker that agrees to leave and stays gets SIGKILL after 10 s", async () => {
  await using at = await faulty("stays-after-shutdown");
  const { hive, clock } = at;
  const { worker_id } = await hive.spawn();
  await hive.until(worker_id, "idle");
  const stopping = hive.workers.shutdown(worker_id);
  await clock.advanceUntil("the end of patience", {
    stepMs: SECOND,
    holds: () => hive.log.some(({ message }) => message.startsWith("worker killed")),
  });
  await stopping;
  await noneLeft(hive);
});

Deno.test("a busy worker may finish its answer before it leaves", async () => {
  await using at = await faulty("normal", { worker: { tokenMs: 10 } });
  const { hive } = at;
  const { worker_id, url, api_key } = await hive.spawn();
  await hive.until(worker_id, "idle");
  const worker = new WorkerClient({ baseUrl: url, apiKey: api_key });
  const { events } = await worker.infer({ prompt: "x", max_tokens: 30 });
  await events.next();
  const stopping = hive.workers.shutdown(worker_id);
  const rest = await Array.fromAsync(events);
  const last = rest.at(-1)!;
  assert("done" in last && last.stop_reason === "length");
  await stopping;
  await noneLeft(hive);
});

Deno.test("three health checks in a row without an answer: removed and killed", async () => {
  await using at = await faulty("health-stalls");
  const { hive, clock } = at;
  const { worker_id } = await hive.spawn();
  await hive.until(worker_id, "idle");
  for (const failures of [1, 2, 3]) {
    assertEquals((await hive.livePids()).length, 1);
    await clock.advanceUntil(`failure ${failures}`, {
      stepMs: 5 * SECOND,
      holds: () => hive.log.some((line) => line.failures === failures),
    });
  }
  await logged(hive, "worker killed: it does not answer health checks");
  await noneLeft(hive);
  assertEquals(hive.workers.snapshot(), []);
});

Deno.test("a worker that stalls does not hold up the list for more than a second", async () => {
  await using at = await faulty("freezes");
  const { hive, clock } = at;
  const { worker_id } = await hive.spawn();
  await hive.until(worker_id, "idle");
  const startedMs = performance.now();
  const listing = hive.workers.list();
  clock.advance(SECOND);
  assertEquals((await listing).map(({ state }) => state), ["idle"]);
  // The hive's clock says a second; the call itself would give up by the real one, and later.
  assert(performance.now() - startedMs < HEALTH_TIMEOUT_MS / 2);
});

Deno.test("a worker that has been idle for 300 s leaves, and not before", async () => {
  // For the worker a day passes in each millisecond: it agrees whenever it is asked.
  await using at = await faulty("normal", { worker: { timeScale: 86_400_000 } });
  const { hive, clock } = at;
  const { worker_id } = await hive.spawn();
  await hive.until(worker_id, "idle");
  clock.advance(299 * SECOND);
  await hive.client.workers();
  assertEquals(hive.workers.snapshot().map(({ state }) => state), ["idle"]);
  clock.advance(SECOND);
  await logged(hive, "worker was idle and leaves");
  await noneLeft(hive);
  assertEquals(hive.workers.snapshot(), []);
});

Deno.test("a worker that was used meanwhile stays: it knows better than the hive", async () => {
  await using at = await faulty("normal");
  const { hive, clock } = at;
  const { worker_id } = await hive.spawn();
  await hive.until(worker_id, "idle");
  for (let asked = 0; asked < 3; asked++) {
    clock.advance(300 * SECOND);
    assertEquals((await hive.client.workers()).workers.length, 1);
  }
  assertEquals(hive.workers.snapshot().map(({ state }) => state), ["idle"]);
});

Deno.test("an idle timeout of 0 means never", async () => {
  await using at = await faulty("normal", { worker: { timeScale: 86_400_000 } });
  const { hive, clock } = at;
  const { worker_id } = await hive.spawn({ idle_timeout: 0 });
  await hive.until(worker_id, "idle");
  clock.advance(365 * 86_400 * SECOND);
  assertEquals((await hive.client.workers()).workers.map(({ state }) => state), ["idle"]);
});

/** Closes the hive and tells how long that took by its own clock. */
async function closingTime({ hive, clock }: { hive: TestHive; clock: FakeClock }): Promise<number> {
  const startedMs = clock.unixMs();
  let closed = false;
  const closing = hive.workers.close().then(() => closed = true);
  // In short steps: what real processes need meanwhile counts as little as can be.
  await clock.advanceUntil("closed", { stepMs: SECOND / 5, holds: () => closed });
  await closing;
  return clock.unixMs() - startedMs;
}

Deno.test("closing stops all workers at the same time, however stubborn, and then starts none", async () => {
  await using at = await faulty("ignores-sigterm");
  const { hive } = at;
  for (const slots of [1, 2]) await hive.until((await hive.spawn({ slots })).worker_id, "idle");
  assert(await closingTime(at) < 25 * SECOND);
  await noneLeft(hive);
  assertEquals(await codeOf(hive.spawn()), "SHUTTING_DOWN");
});

Deno.test("closing waits for answers, but not for 30 s", async () => {
  await using at = await faulty("stalls-mid-answer");
  const { hive } = at;
  const { worker_id, url, api_key } = await hive.spawn();
  await hive.until(worker_id, "idle");
  const { events } = await new WorkerClient({ baseUrl: url, apiKey: api_key }).infer({ prompt: "x" });
  await events.next();
  const rest = Array.fromAsync(events).catch(() => "cut");
  const tookMs = await closingTime(at);
  assert(tookMs > 10 * SECOND && tookMs < 30 * SECOND, `${tookMs}`);
  assertEquals(await rest, "cut");
  await noneLeft(hive);
});

Deno.test("a spawn that is under way when the hive closes is told so, and its process does not stay", async () => {
  await using at = await faulty("never-calls-back");
  const { hive } = at;
  const spawning = codeOf(hive.spawn());
  await logged(hive, "worker started");
  await hive.workers.close();
  assertEquals(await spawning, "SHUTTING_DOWN");
  await noneLeft(hive);
});

Deno.test("a worker program that is not there fails the spawn and names it", async () => {
  await using home = await tempHome();
  await using hive = await testHive({ home: home.rbeeHome, command: ["/no/such/worker"] });
  const error = await assertRejects(() => hive.spawn(), RbeeError);
  assertEquals(error.code, "WORKER_START_FAILED");
  assertStringIncludes(error.message, "/no/such/worker");
});
