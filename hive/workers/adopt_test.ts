/** A hive after a hive: what becomes of the workers. */
import { assertEquals } from "@std/assert";
import { WorkerClient } from "../../protocol/worker_client.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { testHive } from "../../tests/helpers/test_hive.ts";

Deno.test("the next hive adopts what is alive: same ids, same keys, reused, and watched", async () => {
  await using home = await tempHome();
  const first = await testHive({ home: home.rbeeHome });
  const spawned = await first.spawn();
  await first.until(spawned.worker_id, "idle");
  await first.abandon();

  await using second = await testHive({ home: home.rbeeHome });
  await second.workers.adopt();
  const { workers } = await second.client.workers();
  assertEquals(workers.map(({ worker_id, state }) => [worker_id, state]), [[spawned.worker_id, "idle"]]);
  const again = await second.spawn();
  assertEquals([again.worker_id, again.api_key, again.reused], [spawned.worker_id, spawned.api_key, true]);

  Deno.kill(workers[0].pid, "SIGKILL");
  await eventually(
    "the end of an adopted worker to be noticed",
    () => second.workers.snapshot().length === 0,
  );
  assertEquals(second.registry.all(), []);
});

Deno.test("an adopted worker is stopped like any other", async () => {
  await using home = await tempHome();
  const first = await testHive({ home: home.rbeeHome });
  const { worker_id } = await first.spawn();
  await first.until(worker_id, "idle");
  await first.abandon();
  await using second = await testHive({ home: home.rbeeHome });
  await second.workers.adopt();
  await second.client.shutdownWorker(worker_id);
  assertEquals(await first.livePids(), []);
});

Deno.test("an answer that streams while the hive changes arrives whole", async () => {
  await using home = await tempHome();
  const first = await testHive({ home: home.rbeeHome, worker: { tokenMs: 10 } });
  const { worker_id, url, api_key } = await first.spawn();
  await first.until(worker_id, "idle");
  const { events } = await new WorkerClient({ baseUrl: url, apiKey: api_key }).infer({
    prompt: "x",
    max_tokens: 60,
  });
  const answer = Array.fromAsync(events);
  await first.abandon();
  await using second = await testHive({ home: home.rbeeHome });
  await second.workers.adopt();
  assertEquals(second.workers.snapshot().map(({ state }) => state), ["busy"]);
  assertEquals((await answer).length, 61);
});

Deno.test("a worker that is still loading is adopted and followed to its end", async () => {
  await using home = await tempHome();
  const first = await testHive({ home: home.rbeeHome, worker: { loadMs: 1500 } });
  const { worker_id } = await first.spawn();
  await first.abandon();
  await using second = await testHive({ home: home.rbeeHome });
  await second.workers.adopt();
  assertEquals(second.workers.snapshot().map(({ state }) => state), ["loading"]);
  await second.until(worker_id, "idle");
});

Deno.test("a worker that died meanwhile is forgotten, and its pid left alone", async () => {
  await using home = await tempHome();
  const first = await testHive({ home: home.rbeeHome });
  const { worker_id } = await first.spawn();
  const { pid } = await first.until(worker_id, "idle");
  await first.abandon();
  Deno.kill(pid, "SIGKILL");
  await eventually("its end", async () => (await first.livePids()).length === 0);
  await using second = await testHive({ home: home.rbeeHome });
  // As if the pid now belonged to somebody else: here, to this very process.
  const [row] = second.registry.all();
  second.registry.save({ ...row, pid: Deno.pid });
  await second.workers.adopt();
  assertEquals([second.workers.snapshot(), second.registry.all()], [[], []]);
});

Deno.test("a worker that does not know its key is not ours any more and is killed", async () => {
  await using home = await tempHome();
  const first = await testHive({ home: home.rbeeHome });
  const { worker_id } = await first.spawn();
  await first.until(worker_id, "idle");
  await first.abandon();
  await using second = await testHive({ home: home.rbeeHome });
  const [row] = second.registry.all();
  second.registry.save({ ...row, apiKey: "another-key" });
  await second.workers.adopt();
  assertEquals([second.workers.snapshot(), second.registry.all()], [[], []]);
  assertEquals(await first.livePids(), []);
});

Deno.test("a worker that never called back is killed by the next hive", async () => {
  await using home = await tempHome();
  const first = await testHive({ home: home.rbeeHome, worker: { mode: "never-calls-back" } });
  const spawning = first.spawn().catch(() => {});
  const row = await eventually(
    "a row with the process's identity",
    () => first.registry.all().find(({ identity }) => identity !== ""),
  );
  // A copy of the row stands for a hive that was killed before it could take it away.
  await using second = await testHive({ home: home.rbeeHome });
  await second.workers.adopt();
  assertEquals([second.workers.snapshot(), second.registry.all()], [[], []]);
  await eventually("its end", async () => (await first.livePids()).length === 0);
  await spawning;
  assertEquals(row.url, null);
  await first.abandon();
});

Deno.test("a worker whose identity the last hive had no time to store is known by its key", async () => {
  await using home = await tempHome();
  const first = await testHive({ home: home.rbeeHome });
  const { worker_id } = await first.spawn();
  await first.until(worker_id, "idle");
  await first.abandon();
  await using second = await testHive({ home: home.rbeeHome });
  const [row] = second.registry.all();
  second.registry.save({ ...row, identity: "" });
  await second.workers.adopt();
  assertEquals(second.workers.snapshot().map(({ worker_id, state }) => [worker_id, state]), [[
    worker_id,
    "idle",
  ]]);
  await eventually("its identity", () => second.registry.all()[0].identity === row.identity);
});

Deno.test("a process that may be anybody's is left alone", async () => {
  await using home = await tempHome();
  const first = await testHive({ home: home.rbeeHome });
  const { worker_id } = await first.spawn();
  await first.until(worker_id, "idle");
  await first.abandon();
  await using second = await testHive({ home: home.rbeeHome });
  const [row] = second.registry.all();
  // No identity, and an address where nobody answers to the key: all that is left is a pid, here this process's own.
  second.registry.save({ ...row, pid: Deno.pid, identity: "", url: "http://127.0.0.1:9" });
  await second.workers.adopt();
  assertEquals([second.workers.snapshot(), second.registry.all()], [[], []]);
  for (const pid of await first.livePids()) Deno.kill(pid, "SIGKILL");
});
