/**
 * The fault matrix of a hive that is a process of its own, with the real worker: whatever happens, afterwards no process
 * and no port is left, the registry is true, and the next request works. The rest of the matrix is in
 * hive/workers/fault_matrix_test.ts.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { join } from "@std/path";
import { workerCommand } from "../hive/workers/command.ts";
import { RbeeError } from "../protocol/errors.ts";
import { WorkerClient } from "../protocol/worker_client.ts";
import { type RunningHive, startDaemon, startHive } from "./helpers/daemons.ts";
import { eventually } from "./helpers/eventually.ts";
import { FakeClock } from "./helpers/fake_clock.ts";
import { writeLlamaGguf } from "./helpers/gguf_writer.ts";
import { assertGone, assertNextRequestWorks, assertRegistryTrue, tracedWorkers } from "./helpers/recovery.ts";
import { SLOW } from "./helpers/slow_model.ts";
import { type TempHome, tempHome } from "./helpers/temp_home.ts";
import { type TestHive, testHive } from "./helpers/test_hive.ts";
import { canMount, fill, inNamespace } from "./helpers/mounts.ts";

const SECOND = 1_000;
const STORY = { model_ref: "builtin:stories", slots: 2 };
/** They take a second or two. */
const TOKENS = 500;

async function loaded(
  hive: Pick<RunningHive, "client">,
  wish: { model_ref: string; slots?: number; ctx_size?: number },
) {
  const spawned = await hive.client.spawn(wish);
  const client = new WorkerClient({ baseUrl: spawned.url, apiKey: spawned.api_key });
  await eventually("a loaded model", async () => (await client.ready()).ready);
  const { pid } = await hive.client.worker(spawned.worker_id);
  return { id: spawned.worker_id, url: spawned.url, pid, client };
}

/** A worker in the middle of an answer. */
async function generating(hive: Pick<RunningHive, "client">, home: TempHome) {
  const path = join(home.path, "chain.gguf");
  await writeLlamaGguf(path, SLOW);
  const worker = await loaded(hive, { model_ref: `file:${path}`, slots: 1, ctx_size: SLOW.ctx });
  const { events } = await worker.client.infer({ prompt: "a", max_tokens: TOKENS, temperature: 0 });
  await events.next();
  return { ...worker, rest: Array.fromAsync(events) };
}

/** A hive of this process with real workers and a clock that is moved by hand. */
async function withRealWorkers(
  provoke: (at: { hive: TestHive; clock: FakeClock; home: TempHome }) => Promise<void>,
): Promise<void> {
  await using home = await tempHome();
  const clock = new FakeClock();
  await using hive = await testHive({ home: home.rbeeHome, clock, command: workerCommand(new Map()) });
  await provoke({ hive, clock, home });
  await assertRegistryTrue(home.rbeeHome, hive.client);
  await assertGone(await tracedWorkers(hive.client));
  await assertNextRequestWorks(hive.client);
  await assertRegistryTrue(home.rbeeHome, hive.client);
}

Deno.test("fault: the real worker is killed in the middle of an answer", () =>
  withRealWorkers(async ({ hive, home }) => {
    const { id, pid, rest } = await generating(hive, home);
    Deno.kill(pid, "SIGKILL");
    await assertRejects(() => rest);
    await hive.gone(id);
  }));

Deno.test("fault: the real worker is killed as soon as it has called back", () =>
  withRealWorkers(async ({ hive }) => {
    const { worker_id } = await hive.spawn();
    const { pid } = await hive.client.worker(worker_id);
    Deno.kill(pid, "SIGKILL");
    await eventually(
      "its end to be noticed",
      () => hive.workers.snapshot().every(({ state }) => state === "failed"),
    );
  }));

Deno.test("fault: the real worker stands still in the middle of an answer", () =>
  withRealWorkers(async ({ hive, home, clock }) => {
    const { id, pid, rest } = await generating(hive, home);
    const cut = assertRejects(() => rest);
    Deno.kill(pid, "SIGSTOP");
    await clock.advanceUntil("the worker's end", {
      stepMs: 5 * SECOND,
      holds: () => hive.workers.snapshot().every(({ worker_id }) => worker_id !== id),
    });
    await cut;
    assert(hive.log.some(({ message }) => message === "worker killed: it does not answer health checks"));
  }));

/** What every hive process must show after its fault, up to its own end. */
async function assertSound(hive: RunningHive, home: string): Promise<void> {
  await assertNextRequestWorks(hive.client, STORY);
  await assertRegistryTrue(home, hive.client);
  const workers = await tracedWorkers(hive.client);
  assertEquals((await hive.stop()).code, 0);
  await assertGone(workers);
}

/** A hive that does not get as far as serving: its exit code and what it wrote. */
async function refusal(home: TempHome, within?: readonly [string, ...string[]]) {
  const args = ["daemon", "--listen", "127.0.0.1:0"];
  await using daemon = startDaemon({
    main: "hive/main.ts",
    permissions: "hive",
    args,
    env: home.env,
    within,
  });
  const { code } = await daemon.status;
  return { code, output: daemon.logs() };
}

Deno.test("fault: hive.db is damaged while no hive runs; the worker it knew finishes its answer and goes", async () => {
  await using home = await tempHome();
  await using killed = await startHive({ home });
  const { pid, url, rest } = await generating(killed, home);
  await killed.kill();
  const path = join(home.rbeeHome, "hive.db");
  for (const suffix of ["", "-wal"]) {
    const { size } = await Deno.stat(path + suffix);
    await Deno.writeFile(path + suffix, crypto.getRandomValues(new Uint8Array(Math.min(size, 4_096))));
  }
  await using next = await startHive({ home });
  await next.logged("the damage", ({ message }) => message === "hive.db was damaged: beginning a new one");
  await next.logged("the stray", (line) => line.message === "worker that no registry knows has to go");
  const last = (await rest).at(-1)!;
  assertEquals("done" in last && last.total_tokens, TOKENS);
  await assertGone([{ pid, url }]);
  assertEquals((await Deno.stat(`${path}.damaged`)).mode! & 0o777, 0o600);
  await assertSound(next, home.rbeeHome);
});

Deno.test("fault: hive.db is removed while no hive runs; the worker it knew goes", async () => {
  await using home = await tempHome();
  await using killed = await startHive({ home });
  const { pid, url } = await loaded(killed, STORY);
  await killed.kill();
  for (const suffix of ["", "-wal", "-shm"]) await Deno.remove(join(home.rbeeHome, `hive.db${suffix}`));
  await using next = await startHive({ home });
  await assertGone([{ pid, url }]);
  await assertSound(next, home.rbeeHome);
});

Deno.test("fault: models.db is damaged; the catalog begins anew", async () => {
  await using home = await tempHome();
  await using first = await startHive({ home });
  await assertNextRequestWorks(first.client, STORY);
  await first.stop();
  await Deno.writeTextFile(join(home.rbeeHome, "models.db"), "no database ".repeat(1_000));
  await using next = await startHive({ home });
  await next.logged("the damage", ({ message }) => message === "models.db was damaged: beginning a new one");
  await assertSound(next, home.rbeeHome);
});

Deno.test("fault: another program holds hive.db when the hive starts; it refuses and changes nothing", async () => {
  await using home = await tempHome();
  await using killed = await startHive({ home });
  const { id } = await loaded(killed, STORY);
  await killed.kill();
  using other = new DatabaseSync(join(home.rbeeHome, "hive.db"));
  // In WAL mode nobody may even read then; see "PRAGMA locking_mode" of SQLite.
  other.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; UPDATE workers SET pinned = pinned");
  const { code, output } = await refusal(home);
  assertEquals(code, 1);
  assertStringIncludes(output, "hive.db: database is locked. Another program holds it");
  other.exec("ROLLBACK");
  other.close();
  await using next = await startHive({ home });
  assertEquals((await next.client.workers()).workers.map(({ worker_id }) => worker_id), [id]);
  await assertSound(next, home.rbeeHome);
});

Deno.test({
  name: "fault: the home can only be read when the hive starts; it refuses and changes nothing",
  ignore: !canMount,
  async fn() {
    await using home = await tempHome();
    await using killed = await startHive({ home });
    const { id } = await loaded(killed, STORY);
    await killed.kill();
    const readOnly =
      `mount --bind ${home.rbeeHome} ${home.rbeeHome} && mount -o remount,bind,ro ${home.rbeeHome}`;
    const { code, output } = await refusal(home, inNamespace(readOnly));
    assertEquals(code, 1);
    assertStringIncludes(output, home.rbeeHome);
    assertStringIncludes(output, "ead-only");
    await using next = await startHive({ home });
    assertEquals((await next.client.workers()).workers.map(({ worker_id }) => worker_id), [id]);
    await assertSound(next, home.rbeeHome);
  },
});

Deno.test({
  name:
    "fault: the disk is full; workers there are go on, no new one is started, and all is well once there is room",
  ignore: !canMount,
  async fn() {
    await using home = await tempHome();
    await using hive = await startHive({
      home,
      env: { RBEE_API_KEY: "a-key-for-this-test" },
      within: inNamespace(`mount -t tmpfs -o size=64m none ${home.rbeeHome}`),
    });
    // Seen from outside its namespace.
    const inside = join(`/proc/${hive.pid}/root`, home.rbeeHome);
    const worker = await loaded(hive, STORY);
    await fill(join(inside, "filler"));
    const error = await assertRejects(() => hive.client.spawn({ ...STORY, slots: 3 }), RbeeError);
    assertEquals(error.code, "INSUFFICIENT_DISK");
    const events = await Array.fromAsync(
      (await worker.client.infer({ prompt: "Once", max_tokens: 5 })).events,
    );
    assertEquals(events.length, 6);
    assertEquals((await hive.client.workers()).workers.map(({ worker_id }) => worker_id), [worker.id]);
    await hive.client.shutdownWorker(worker.id);
    await assertGone([worker]);
    assertEquals((await hive.client.workers()).workers, []);
    await Deno.remove(join(inside, "filler"));
    await assertRegistryTrue(inside, hive.client);
    await assertSound(hive, inside).catch((error) => {
      throw new Error(hive.logs(), { cause: error });
    });
  },
});
