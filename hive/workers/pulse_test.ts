/** The pulse of a loaded worker: what is held against it, and what the hive does then. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import * as fc from "fast-check";
import { createLogger } from "../../daemon/log.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { HealthResponse } from "../../protocol/worker_schemas.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { FakeClock } from "../../tests/helpers/fake_clock.ts";
import type { FakeMode } from "../../tests/helpers/fake_worker.ts";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { type TestHive, testHive } from "../../tests/helpers/test_hive.ts";
import type { WorkerApi } from "./connection.ts";
import { judgePulse, type Pulse, type PulseCheck, STEADY, watchPulse } from "./pulse.ts";

const LIMIT_MS = 5_000;
const STILL = { step_ms: null, last_step_ms: null, limit_ms: LIMIT_MS };
const log = createLogger({ part: "test", level: "error", format: "json", write: () => {} });

function step(stepMs: number | null): PulseCheck {
  return { kind: "answer", engine: { ...STILL, step_ms: stepMs } };
}

/** What all these checks lead to. */
function afterAll(checks: readonly PulseCheck[]): string {
  let pulse: Pulse = STEADY;
  for (const check of checks) {
    const next = judgePulse(pulse, check);
    if (next.lost !== undefined) return next.lost.kind;
    pulse = next.pulse;
  }
  return "well";
}

Deno.test("two checks that show one step past its limit are a stuck engine, three silent ones a frozen worker", () => {
  const silence: PulseCheck = { kind: "silence" };
  const cases: [checks: PulseCheck[], end: string][] = [
    [[step(6_000), step(6_500)], "stuck"],
    [[silence, silence, silence], "silent"],
    // A step that ended, or another one after a thaw, is a sign of life.
    [[step(3_600_000), step(400), step(6_000)], "well"],
    [[step(9_000), step(6_000)], "well"],
    [[step(9_000), step(6_000), step(6_500)], "stuck"],
    [[step(LIMIT_MS), step(LIMIT_MS)], "well"],
    [[step(null), step(null), step(null)], "well"],
    [[silence, silence, step(1), silence, silence], "well"],
    [[silence, silence, { kind: "gap" }, silence, silence], "well"],
    [[step(6_000), { kind: "gap" }, step(8_000)], "well"],
    [[silence, silence, { kind: "trouble" }, silence], "well"],
    [[{ kind: "answer", engine: { ...STILL, failure: "an exception" } }], "over"],
    // A worker of an older version tells no heartbeat.
    [Array(5).fill({ kind: "answer", engine: undefined }), "well"],
  ];
  for (const [checks, end] of cases) assertEquals(afterAll(checks), end, JSON.stringify(checks));
});

Deno.test("no worker is lost to checks of which every third at least is a sign of life", () => {
  const bad = fc.constantFrom<PulseCheck>({ kind: "silence" });
  const good = fc.oneof(
    fc.constant<PulseCheck>({ kind: "gap" }),
    fc.constant<PulseCheck>({ kind: "trouble" }),
    fc.integer({ min: 0, max: LIMIT_MS }).map(step),
  );
  fc.assert(fc.property(fc.array(fc.tuple(bad, bad, good)), (rounds) => {
    assertEquals(afterAll(rounds.flat()), "well");
  }));
});

/** Watches a worker whose health is `answer`, and tells when that ended, by the clock. */
async function watched(
  answer: (sinceMs: number, signal: AbortSignal) => Promise<HealthResponse>,
  live: (clock: FakeClock) => Promise<void>,
): Promise<{ kind: string; afterMs: number } | undefined> {
  const clock = new FakeClock();
  const over = new AbortController();
  const beganMs = clock.elapsedMs;
  let end: { kind: string; afterMs: number } | undefined;
  const health = ({ signal }: { signal: AbortSignal }) => answer(clock.elapsedMs - beganMs, signal);
  const watching = watchPulse({ health } as unknown as WorkerApi, { signal: over.signal, clock, log })
    .then(({ kind }) => end = { kind, afterMs: clock.elapsedMs - beganMs }, () => undefined);
  await live(clock);
  over.abort();
  await watching;
  return end;
}

function alive(stepMs: number | null = null): Promise<HealthResponse> {
  const engine = { ...STILL, step_ms: stepMs };
  return Promise.resolve({ status: "alive", version: "0", api_version: "v1", engine });
}

/** Never answers. */
function mute(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
}

Deno.test("an engine that stands still at any moment is found within 10 s, and so is a worker that falls silent", async () => {
  for (let atMs = 20_000; atMs < 24_500; atMs += 250) {
    const stuck = await watched(
      (sinceMs) => alive(sinceMs < atMs ? null : sinceMs - atMs),
      (clock) => clock.run(60_000),
    );
    assert(stuck?.kind === "stuck" && stuck.afterMs - atMs <= 9_000, `${stuck?.afterMs} ${atMs}`);
    const silent = await watched(
      (sinceMs, signal) => sinceMs < atMs ? alive() : mute(signal),
      (clock) => clock.run(60_000),
    );
    assert(silent?.kind === "silent" && silent.afterMs - atMs <= 9_500, `${silent?.afterMs} ${atMs}`);
  }
});

Deno.test("a hive that stood still, again and again, takes nobody's answers for missing", async () => {
  // Whatever waits in the hive is late: what the worker has answered meanwhile nobody has read.
  const end = await watched((_, signal) => mute(signal), async (clock) => {
    for (let round = 0; round < 20; round++) {
      clock.advance(30_000);
      await clock.run(0);
    }
  });
  assertEquals(end, undefined);
});

Deno.test("a worker that refuses connections is left to the slower health checks", async () => {
  const refuse = () => Promise.reject(new RbeeError("NODE_UNREACHABLE", "Nobody listens there."));
  assertEquals(await watched(refuse, (clock) => clock.run(600_000)), undefined);
});

async function busy(mode: FakeMode, timeScale: number) {
  const home = await tempHome();
  const clock = new FakeClock();
  const hive = await testHive({ home: home.rbeeHome, clock, pulses: true, worker: { mode, timeScale } });
  const { worker_id, url, api_key } = await hive.spawn({ idle_timeout: 0 });
  await hive.until(worker_id, "idle");
  const answer = async () => {
    const { events } = await new WorkerClient({ baseUrl: url, apiKey: api_key }).infer({ prompt: "x" });
    let tokens = 0;
    for await (const event of events) if ("token" in event) tokens++;
    return tokens;
  };
  return {
    ...{ hive, clock, worker_id, answer },
    async [Symbol.asyncDispose]() {
      await hive[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

async function killedFor(
  { hive, clock, worker_id }: { hive: TestHive; clock: FakeClock; worker_id: string },
  cause: string,
): Promise<string> {
  await clock.advanceUntil("its end", {
    stepMs: 50,
    holds: () => hive.log.some((line) => line.cause === cause && line.signal === "SIGKILL"),
  });
  await eventually("no process", async () => (await hive.livePids()).length === 0);
  assertEquals(hive.registry.all(), []);
  const { state, error } = await hive.client.worker(worker_id);
  assertEquals([state, error?.code], ["failed", "WORKER_CRASHED"]);
  const metrics = await hive.parts.app(
    new Request(`${hive.url}/metrics`, { headers: { Authorization: `Bearer ${hive.key}` } }),
  );
  assertStringIncludes(await metrics.text(), `rbee_hive_worker_crashes_total{cause="${cause}"} 1`);
  return error!.message;
}

Deno.test("a worker whose engine is stuck is failed at once, killed a moment later, and replaced", async () => {
  // A real second is an hour of its step.
  await using at = await busy("engine-stuck", 3_600);
  const { hive } = at;
  const answer = at.answer().then(() => "whole", () => "cut");
  assertStringIncludes(await killedFor(at, "stuck"), "its engine has been in one step for");
  assertEquals(await answer, "cut");
  hive.setWorker({ mode: "normal" });
  assertEquals((await hive.spawn()).reused, false);
});

Deno.test("a busy worker that makes steps stays", async () => {
  await using at = await busy("normal", 1);
  assertEquals(await at.answer(), 20);
  for (let second = 0; second < 60; second++) {
    at.clock.advance(1_000);
    await at.hive.client.workers();
  }
  assertEquals(at.hive.workers.snapshot().map(({ state }) => state), ["idle"]);
});

Deno.test("a loaded worker that answers nothing is killed within seconds", async () => {
  await using at = await busy("freezes", 1);
  assertStringIncludes(await killedFor(at, "frozen"), "health check");
});
