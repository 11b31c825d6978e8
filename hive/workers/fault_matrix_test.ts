/**
 * The fault matrix of one hive: whatever a worker or a database does, afterwards no process and no port is left, the
 * registry is true, and the next request works. Real processes, a clock that is moved by hand. What exactly is told of
 * each fault, other tests look at; what needs a hive process of its own is in tests/fault_matrix_test.ts.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { DatabaseSync } from "node:sqlite";
import { RbeeError } from "../../protocol/errors.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { FakeClock } from "../../tests/helpers/fake_clock.ts";
import type { FakeWorkerOptions } from "../../tests/helpers/fake_worker.ts";
import {
  assertGone,
  assertNextRequestWorks,
  assertRegistryTrue,
  tracedWorkers,
} from "../../tests/helpers/recovery.ts";
import { tempHome } from "../../tests/helpers/temp_home.ts";
import { type TestHive, testHive } from "../../tests/helpers/test_hive.ts";

const SECOND = 1_000;
const HOUR = 3_600_000;

interface At {
  hive: TestHive;
  clock: FakeClock;
  home: string;
}

/** A worker with the model in memory, as far as it ever comes. */
async function idle({ hive }: At, wish: Parameters<TestHive["spawn"]>[0] = {}) {
  const spawned = await hive.spawn(wish);
  await hive.until(spawned.worker_id, "idle");
  return {
    id: spawned.worker_id,
    client: new WorkerClient({ baseUrl: spawned.url, apiKey: spawned.api_key }),
  };
}

/** A spawn that the worker never answers: time goes on until the hive has had enough. */
async function neverStarts({ hive, clock }: At): Promise<void> {
  const spawning = assertRejects(() => hive.spawn(), RbeeError);
  await eventually("a process", () => hive.log.find(({ message }) => message === "worker started"));
  await clock.advanceUntil("the end of patience", {
    stepMs: 5 * SECOND,
    holds: () => hive.workers.snapshot().length === 0,
  });
  assertEquals((await spawning).code, "WORKER_START_FAILED");
}

/** Time goes on until the worker is off the list. */
async function untilRemoved({ hive, clock }: At, id: string, stepMs = 5 * SECOND): Promise<void> {
  await clock.advanceUntil("the worker's end", {
    stepMs,
    holds: () => hive.workers.snapshot().every(({ worker_id }) => worker_id !== id),
  });
}

async function stopped(at: At, id: string): Promise<void> {
  const stopping = at.hive.workers.shutdown(id);
  await untilRemoved(at, id, SECOND);
  await stopping;
}

/** While another program has hive.db, or it can't be written, workers start and stop all the same. */
async function worksWithoutRegistry(at: At, end: () => void): Promise<void> {
  const { hive, clock } = at;
  const { id } = await idle(at);
  const second = await idle(at, { slots: 8 });
  await stopped(at, second.id);
  assert(hive.log.some(({ message }) => message === "worker registry not written: trying again"));
  end();
  await clock.advanceUntil("the registry to be written", {
    stepMs: SECOND,
    holds: () => hive.log.some(({ message }) => message === "worker registry written again"),
  });
  assertEquals(hive.registry.all().map((record) => record.id), [id]);
}

const FAULTS: { fault: string; worker?: FakeWorkerOptions; provoke: (at: At) => Promise<unknown> }[] = [
  { fault: "a worker never calls back", worker: { mode: "never-calls-back" }, provoke: neverStarts },
  { fault: "a worker calls back with a wrong token", worker: { mode: "wrong-token" }, provoke: neverStarts },
  { fault: "a worker calls back twice", worker: { mode: "calls-back-twice" }, provoke: idle },
  {
    fault: "a worker dies before its load",
    worker: { mode: "dies-before-callback" },
    provoke: ({ hive }) => assertRejects(() => hive.spawn(), RbeeError),
  },
  {
    fault: "a worker dies during its load",
    worker: { mode: "dies-during-load" },
    async provoke({ hive }) {
      await hive.until((await hive.spawn()).worker_id, "failed");
    },
  },
  {
    fault: "a worker dies after its load",
    worker: { mode: "dies-after-load" },
    provoke: async ({ hive }) => await hive.gone((await hive.spawn()).worker_id),
  },
  {
    fault: "a worker dies in the middle of an answer",
    worker: { mode: "dies-mid-answer" },
    async provoke(at) {
      const { id, client } = await idle(at);
      await assertRejects(async () => await Array.fromAsync((await client.infer({ prompt: "x" })).events));
      await at.hive.gone(id);
    },
  },
  {
    fault: "a worker stalls in the middle of an answer and is stopped",
    worker: { mode: "stalls-mid-answer" },
    async provoke(at) {
      const { id, client } = await idle(at);
      const answer = client.infer({ prompt: "x" }).then(({ events }) => Array.fromAsync(events)).catch(() =>
        "cut"
      );
      await eventually("a busy worker", async () => (await client.ready()).state === "busy");
      await stopped(at, id);
      assertEquals(await answer, "cut");
    },
  },
  {
    fault: "a worker reports that its load failed",
    worker: { mode: "load-fails" },
    async provoke({ hive }) {
      await hive.until((await hive.spawn()).worker_id, "failed");
    },
  },
  {
    fault: "a worker is stuck in its load",
    worker: { mode: "stuck-load" },
    async provoke({ hive, clock }) {
      const { worker_id } = await hive.spawn();
      await hive.until(worker_id, "loading");
      clock.advance(300 * SECOND);
      await hive.until(worker_id, "failed");
    },
  },
  {
    fault: "a worker ignores its shutdown",
    worker: { mode: "ignores-shutdown" },
    provoke: async (at) => await stopped(at, (await idle(at)).id),
  },
  {
    fault: "a worker ignores SIGTERM",
    worker: { mode: "ignores-sigterm" },
    provoke: async (at) => await stopped(at, (await idle(at)).id),
  },
  {
    fault: "a worker agrees to leave and stays",
    worker: { mode: "stays-after-shutdown" },
    provoke: async (at) => await stopped(at, (await idle(at)).id),
  },
  {
    fault: "a worker does not answer health checks",
    worker: { mode: "health-stalls" },
    provoke: async (at) => await untilRemoved(at, (await idle(at)).id),
  },
  {
    fault: "a worker answers health checks with something that is none",
    worker: { mode: "health-garbage" },
    provoke: async (at) => await untilRemoved(at, (await idle(at)).id),
  },
  {
    fault: "a worker freezes",
    worker: { mode: "freezes" },
    provoke: async (at) => await untilRemoved(at, (await idle(at)).id),
  },
  {
    fault: "a worker says that it is well and can't generate",
    worker: { mode: "cannot-generate", timeScale: 60_000 },
    provoke: async (at) => await untilRemoved(at, (await idle(at, { idle_timeout: 0 })).id, SECOND),
  },
  {
    fault: "a worker generates something else each time",
    worker: { mode: "generates-nonsense", timeScale: 60_000 },
    async provoke(at) {
      const { id } = await idle(at, { idle_timeout: 0 });
      at.clock.advance(SECOND);
      await at.hive.client.workers();
      await untilRemoved(at, id, HOUR / 60);
    },
  },
  {
    fault: "a worker is killed from outside",
    async provoke(at) {
      const { id } = await idle(at);
      Deno.kill(at.hive.workers.snapshot()[0].pid, "SIGKILL");
      await at.hive.gone(id);
    },
  },
  {
    fault: "another program holds hive.db for a while",
    async provoke(at) {
      using other = new DatabaseSync(join(at.home, "hive.db"));
      other.exec("BEGIN EXCLUSIVE");
      await worksWithoutRegistry(at, () => other.exec("ROLLBACK"));
    },
  },
  {
    fault: "hive.db can only be read for a while",
    async provoke(at) {
      at.hive.parts.database.exec("PRAGMA query_only = ON");
      await worksWithoutRegistry(at, () => at.hive.parts.database.exec("PRAGMA query_only = OFF"));
    },
  },
  {
    fault: "the clock of the machine jumps by an hour, there and back",
    async provoke(at) {
      const { hive, clock } = at;
      const { id } = await idle(at);
      for (const jumpMs of [HOUR, -2 * HOUR, HOUR]) {
        clock.jump(jumpMs);
        clock.advance(40 * SECOND);
        const { workers } = await hive.client.workers();
        assertEquals(workers.map(({ worker_id, state }) => [worker_id, state]), [[id, "idle"]]);
      }
      assertEquals((await hive.spawn()).worker_id, id);
    },
  },
];

for (const { fault, worker = {}, provoke } of FAULTS) {
  Deno.test(`fault: ${fault}; then nothing is left of it, and the next request works`, async () => {
    await using temp = await tempHome();
    const home = temp.rbeeHome;
    const clock = new FakeClock();
    await using hive = await testHive({ home, clock, worker });
    const at = { hive, clock, home };
    await provoke(at);
    await assertRegistryTrue(home, hive.client);
    for (const { worker_id } of hive.workers.snapshot()) await stopped(at, worker_id);
    await assertGone(await tracedWorkers(hive.client));

    hive.setWorker({});
    const next = await assertNextRequestWorks(hive.client);
    assertEquals(hive.workers.snapshot().map(({ worker_id }) => worker_id), [next]);
    await assertRegistryTrue(home, hive.client);
  });
}

Deno.test("the first ports of the range are taken: a worker takes the next one, and says so when there is none", async () => {
  await using temp = await tempHome();
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr as Deno.NetAddr;
  const last = Math.min(65_535, port + 50);
  await using hive = await testHive({ home: temp.rbeeHome, config: { worker_ports: [port, last] } });
  const { url } = await hive.spawn();
  assert(Number(new URL(url).port) > port && Number(new URL(url).port) <= last);
  await using none = await testHive({ home: temp.rbeeHome, config: { worker_ports: [port, port] } });
  const error = await assertRejects(() => none.spawn(), RbeeError);
  assertEquals(error.code, "WORKER_START_FAILED");
  assertEquals(none.workers.snapshot(), []);
});

Deno.test("somebody else has taken a dead worker's port when the next hive comes: it is left alone, and not adopted", async () => {
  await using temp = await tempHome();
  const first = await testHive({ home: temp.rbeeHome });
  const { worker_id, url } = await first.spawn();
  const { pid } = await first.until(worker_id, "idle");
  await first.abandon();
  Deno.kill(pid, "SIGKILL");
  await assertGone([{ pid, url }]);
  const asked: string[] = [];
  await using thief = Deno.serve(
    { hostname: "127.0.0.1", port: Number(new URL(url).port), onListen() {} },
    (request) => {
      asked.push(new URL(request.url).pathname);
      return Response.json({ ready: true, state: "idle" });
    },
  );
  await using next = await testHive({ home: temp.rbeeHome });
  await next.workers.adopt();
  assertEquals([next.workers.snapshot(), next.registry.all()], [[], []]);
  // The dead worker's key is nobody else's business.
  assertEquals(asked, []);
  assertEquals(await (await fetch(url)).json(), { ready: true, state: "idle" });
  const other = await assertNextRequestWorks(next.client);
  assertEquals(next.registry.all().map(({ id }) => id), [other]);
  assertEquals(thief.addr.port, Number(new URL(url).port));
});
