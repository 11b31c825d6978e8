/** An idle worker proves that it can generate; one that can't has to go. Real processes, a clock moved by hand. */
import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { createLogger } from "../../daemon/log.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { FakeClock } from "../../tests/helpers/fake_clock.ts";
import type { FakeMode } from "../../tests/helpers/fake_worker.ts";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { testHive } from "../../tests/helpers/test_hive.ts";
import type { WorkerApi } from "./connection.ts";
import { watchGeneration } from "./watchdog.ts";

const HOUR_MS = 3_600_000;

async function watched(mode: FakeMode) {
  const home = await tempHome();
  const clock = new FakeClock();
  // For the worker a minute passes in each millisecond: it is idle whenever it is asked.
  const hive = await testHive({ home: home.rbeeHome, clock, worker: { mode, timeScale: 60_000 } });
  const { worker_id } = await hive.spawn({ idle_timeout: 0 });
  await hive.until(worker_id, "idle");
  return {
    ...{ hive, clock, worker_id },
    async [Symbol.asyncDispose]() {
      await hive[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

Deno.test("a worker that answers health checks and can't generate is degraded, stopped and replaced", async () => {
  await using at = await watched("cannot-generate");
  const { hive, clock, worker_id } = at;
  await clock.advanceUntil("its end", {
    stepMs: 1_000,
    holds: () => hive.log.some(({ message, cause }) => message === "worker left" && cause === "degraded"),
  });
  await hive.gone(worker_id);
  await eventually("no process", async () => (await hive.livePids()).length === 0);
  assertEquals(hive.registry.all(), []);
  assertNotEquals((await hive.spawn()).worker_id, worker_id);
});

Deno.test("a worker that generates something else than before is found out an hour later, by two tests in a row", async () => {
  await using at = await watched("generates-nonsense");
  const { hive, clock } = at;
  clock.advance(1_000);
  await hive.client.workers();
  const failures = () => hive.log.filter(({ message }) => message === "worker failed its self-test").length;
  assertEquals(failures(), 0);
  await clock.advanceUntil("two failures", { stepMs: HOUR_MS / 60, holds: () => failures() >= 2 });
  // What becomes of an answer that is lost on the way stands under limits of the same clock.
  await clock.advanceUntil("its end", {
    stepMs: 100,
    holds: () => hive.log.some(({ message, cause }) => message === "worker left" && cause === "degraded"),
  });
  assertEquals(failures(), 2);
});

Deno.test("a healthy worker passes for a day", async () => {
  await using at = await watched("normal");
  const { hive, clock } = at;
  for (let hour = 0; hour < 24; hour++) {
    clock.advance(HOUR_MS);
    await hive.client.workers();
  }
  assertEquals(hive.workers.snapshot().map(({ state }) => state), ["idle"]);
  assertEquals(hive.log.filter(({ message }) => message === "worker failed its self-test"), []);
});

Deno.test("an answer to a health check that is none counts as none", async () => {
  await using at = await watched("health-garbage");
  const { hive, clock } = at;
  await clock.advanceUntil("its end", {
    stepMs: 5_000,
    holds: () => hive.log.some(({ message, cause }) => message === "worker left" && cause === "health_lost"),
  });
  await eventually("no process", async () => (await hive.livePids()).length === 0);
});

Deno.test("an adopted worker of an older version, which knows no self-test, is left alone", async () => {
  const clock = new FakeClock();
  const over = new AbortController();
  let asked = 0;
  const api = {
    selfTest() {
      asked++;
      return Promise.reject(new RbeeError("NOT_FOUND", "There is no such route."));
    },
  } as unknown as WorkerApi;
  const log = createLogger({ part: "test", level: "error", format: "json", write: () => {} });
  const watching = watchGeneration(api, { signal: over.signal, clock, log });
  await clock.run(24 * HOUR_MS);
  assertEquals(asked, 1);
  over.abort(new Error("the end"));
  await assertRejects(() => watching, Error, "the end");
});
