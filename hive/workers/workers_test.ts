import { assert, assertEquals, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { RbeeError } from "../../protocol/errors.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import { FakeClock } from "../../tests/helpers/fake_clock.ts";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { STORIES } from "../../tests/helpers/test_models.ts";
import { testHive } from "../../tests/helpers/test_hive.ts";

Deno.test("a worker is spawned, calls back, loads, is listed and is stopped", async () => {
  await using home = await tempHome();
  await using hive = await testHive({ home: home.rbeeHome });
  const spawned = await hive.spawn({ slots: 2, ctx_size: 64 });
  assertEquals(spawned.reused, false);
  assertEquals(spawned.state, "loading");
  assertEquals(spawned.backend, "cpu");
  const info = await hive.until(spawned.worker_id, "idle");
  const { workers } = await hive.client.workers();
  assertEquals(workers.map(({ worker_id }) => worker_id), [spawned.worker_id]);
  assertEquals(workers[0].slots_total, 2);
  assertEquals(workers[0].slots_available, 2);
  assertEquals(workers[0].model_ref, "builtin:stories");
  assertEquals(info.url, spawned.url);

  const worker = new WorkerClient({ baseUrl: spawned.url, apiKey: spawned.api_key });
  const answer = await worker.inferWhole({ prompt: "x", max_tokens: 4 });
  assertEquals(answer.text, "Once upon a time ");

  await hive.client.shutdownWorker(spawned.worker_id);
  assertEquals(hive.workers.snapshot(), []);
  assertEquals(await hive.livePids(), []);
  assertEquals(hive.registry.all(), []);
  const error = await assertRejects(() => hive.client.worker(spawned.worker_id), RbeeError);
  assertEquals(error.code, "WORKER_NOT_FOUND");
});

Deno.test("a spawn gets a worker of the same file that offers at least as much, and a new one beyond that", async () => {
  await using home = await tempHome();
  await using hive = await testHive({ home: home.rbeeHome });
  const first = await hive.spawn();
  for (const same of [{ backend: "cpu" as const }, { model_ref: `file:${STORIES}` }]) {
    const again = await hive.spawn(same);
    assertEquals([again.worker_id, again.api_key, again.reused], [first.worker_id, first.api_key, true]);
  }
  const large = await hive.spawn({ slots: 8 });
  assertEquals(large.reused, false);
  assertNotEquals(large.worker_id, first.worker_id);
  assertNotEquals(large.api_key, first.api_key);
  for (const [slots, worker] of [[1, first], [4, first], [5, large], [8, large]] as const) {
    const again = await hive.spawn({ slots });
    assertEquals([again.worker_id, again.reused], [worker.worker_id, true], `${slots} slots`);
  }
  assertEquals((await hive.spawn({ slots: 1, ctx_size: 64 })).worker_id, first.worker_id);
});

Deno.test("many spawns of the same at once start one process", async () => {
  await using home = await tempHome();
  await using hive = await testHive({ home: home.rbeeHome });
  const answers = await Promise.all(Array.from({ length: 8 }, () => hive.spawn()));
  assertEquals(new Set(answers.map(({ worker_id }) => worker_id)).size, 1);
  assertEquals(answers.filter(({ reused }) => !reused).length, 1);
  assertEquals((await hive.livePids()).length, 1);
});

Deno.test("spawns at once of a worker that dies all get the reason", async () => {
  await using home = await tempHome();
  await using hive = await testHive({ home: home.rbeeHome, worker: { mode: "dies-before-callback" } });
  const errors = await Promise.all(
    Array.from({ length: 4 }, () => assertRejects(() => hive.spawn(), RbeeError)),
  );
  assertEquals(new Set(errors.map(({ code }) => code)), new Set(["WORKER_START_FAILED"]));
});

Deno.test("a list shows a worker that answers as busy, and since when it has been idle", async () => {
  await using home = await tempHome();
  await using hive = await testHive({ home: home.rbeeHome, worker: { tokenMs: 20 } });
  const { worker_id, url, api_key } = await hive.spawn();
  await hive.until(worker_id, "idle");
  const { events } = await new WorkerClient({ baseUrl: url, apiKey: api_key })
    .infer({ prompt: "x", max_tokens: 1000 });
  await events.next();
  const busy = await hive.client.worker(worker_id);
  assertEquals([busy.state, busy.slots_available], ["busy", 3]);
  await events.return();
});

Deno.test({
  name: "no secret is in the flags or in any log",
  ignore: Deno.build.os !== "linux",
  async fn() {
    await using home = await tempHome();
    await using hive = await testHive({ home: home.rbeeHome });
    const { worker_id, api_key } = await hive.spawn();
    await hive.until(worker_id, "idle");
    const [pid] = await hive.livePids();
    const flags = await Deno.readTextFile(`/proc/${pid}/cmdline`);
    const workerLog = await Deno.readTextFile(`${home.rbeeHome}/logs/worker-${worker_id}.log`);
    assertStringIncludes(flags, worker_id);
    for (const text of [flags, workerLog, JSON.stringify(hive.log)]) assert(!text.includes(api_key));
  },
});

Deno.test("a worker that is given out again has all of its idle timeout before it", async () => {
  const clock = new FakeClock();
  await using home = await tempHome();
  // It says that it has been idle for days.
  await using hive = await testHive({ home: home.rbeeHome, clock, worker: { timeScale: 86_400_000 } });
  const { worker_id, url, api_key } = await hive.spawn({ idle_timeout: 600 });
  await hive.until(worker_id, "idle");
  clock.advance(599_000);
  assertEquals((await hive.spawn()).reused, true);
  clock.advance(599_000);
  assertEquals((await hive.spawn({ idle_timeout: 5 })).reused, true);
  clock.advance(4_000);
  const answer = await new WorkerClient({ baseUrl: url, apiKey: api_key }).inferWhole({
    prompt: "x",
    max_tokens: 4,
  });
  assertEquals(answer.text, "Once upon a time ");
  clock.advance(2_000);
  await hive.gone(worker_id);
});

Deno.test("a worker with a new idle timeout keeps it after being reused", async () => {
  await using home = await tempHome();
  await using hive = await testHive({ home: home.rbeeHome });
  await hive.spawn();
  await hive.spawn({ idle_timeout: 7 });
  assertEquals(hive.registry.all().map(({ idleTimeoutSeconds }) => idleTimeoutSeconds), [7]);
});
