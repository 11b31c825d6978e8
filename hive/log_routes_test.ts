/** `GET /v1/logs` and `GET /v1/events`: a hive with real processes, asked over the wire. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import type { RbeeError } from "../protocol/errors.ts";
import type { LogLine } from "../protocol/hive_schemas.ts";
import { eventually } from "../tests/helpers/eventually.ts";
import { FakeClock } from "../tests/helpers/fake_clock.ts";
import { tempHome } from "../tests/helpers/temp_home.ts";
import { type TestHive, testHive, type TestHiveOptions } from "../tests/helpers/test_hive.ts";

async function hiveAtHome(options: Partial<TestHiveOptions> = {}) {
  const home = await tempHome();
  const hive = await testHive({ home: home.rbeeHome, ...options });
  return {
    hive,
    logs: join(home.rbeeHome, "logs"),
    async [Symbol.asyncDispose]() {
      await hive[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    },
  };
}

function messages(lines: readonly LogLine[], source: LogLine["source"]): string[] {
  return lines.filter((line) => line.source === source).map(({ message }) => message);
}

async function idleWorker(hive: TestHive): Promise<string> {
  const { worker_id } = await hive.spawn();
  await hive.until(worker_id, "idle");
  return worker_id;
}

Deno.test("the log of a machine holds the hive's lines and its workers', in the order of their time", async () => {
  await using at = await hiveAtHome();
  const id = await idleWorker(at.hive);
  const lines = await at.hive.client.logs();
  assert(messages(lines, "hive").includes("worker started"));
  assert(messages(lines, "worker").includes("fake worker in mode normal"));
  assertEquals(lines.map(({ time }) => time), lines.map(({ time }) => time).toSorted());
  const started = lines.find(({ message }) => message === "worker started")!;
  assertEquals([started.worker_id, started.level, started.fields.model_ref], [id, "info", "builtin:stories"]);
});

Deno.test("one worker's log is what it says and what is said of it, also when it is gone, also by the next hive", async () => {
  await using home = await tempHome();
  const first = await testHive({ home: home.rbeeHome });
  const id = await idleWorker(first);
  const other = await first.spawn({ slots: 8 });
  await first.until(other.worker_id, "idle");
  await first.workers.shutdown(id);
  const lines = await first.client.logs({ workerId: id });
  assert(lines.every(({ worker_id }) => worker_id === id));
  assert(messages(lines, "hive").includes("worker left"));
  assert(messages(lines, "worker").includes("fake worker in mode normal"));
  await first[Symbol.asyncDispose]();
  await using second = await testHive({ home: home.rbeeHome });
  assertEquals(messages(await second.client.logs({ workerId: id }), "worker"), messages(lines, "worker"));
});

Deno.test("lines can be wanted from a time on, and only the last of them", async () => {
  await using at = await hiveAtHome();
  await idleWorker(at.hive);
  const all = await at.hive.client.logs();
  const { time } = all[2];
  const since = all.filter((line) => Date.parse(line.time) >= Date.parse(time));
  // Each question is itself in the log.
  const asked = await at.hive.client.logs({ since: time });
  assertEquals(asked.slice(0, since.length), since);
  assertEquals((await at.hive.client.logs({ since: String(Date.parse(time) / 1000) }))[0], since[0]);
  assertEquals((await at.hive.client.logs({ tail: 2 })).length, 2);
  assertEquals(await at.hive.client.logs({ tail: 0 }), []);
  assertEquals(await at.hive.client.logs({ since: "2999-01-01T00:00:00Z" }), []);
});

Deno.test("who follows a worker is told what it says until it is gone, and then of its end", async () => {
  await using at = await hiveAtHome();
  const { hive } = at;
  const id = await idleWorker(hive);
  const { events } = await hive.client.followLogs({ workerId: id });
  const first = (await events.next()).value as LogLine;
  assertEquals(first.worker_id, id);
  await Deno.writeTextFile(join(at.logs, `worker-${id}.log`), "said by a library\n", { append: true });
  const until = async (message: string) => {
    for (;;) {
      const { value, done } = await events.next();
      assert(!done, `no "${message}"`);
      if (value.message === message) return value;
    }
  };
  assertEquals((await until("said by a library")).level, undefined);
  const [{ pid }] = hive.workers.snapshot();
  Deno.kill(pid, "SIGKILL");
  const died = await until("worker died");
  assertEquals(died.fields.signal, "SIGKILL");
  assertEquals((await Array.fromAsync(events)).filter(({ source }) => source === "worker"), []);
});

Deno.test("who follows the log of a worker that is gone is told what there is, and no more", async () => {
  await using at = await hiveAtHome();
  const id = await idleWorker(at.hive);
  await at.hive.workers.shutdown(id);
  const { events } = await at.hive.client.followLogs({ workerId: id });
  const lines = await Array.fromAsync(events);
  assert(messages(lines, "worker").includes("fake worker in mode normal"));
});

Deno.test("a follower that leaves is forgotten: nothing reads for it any more", async () => {
  const clock = new FakeClock();
  await using at = await hiveAtHome({ clock });
  // The first line of the log is about this question.
  await at.hive.client.health();
  const before = clock.pending;
  const { events } = await at.hive.client.followLogs();
  await events.next();
  await eventually("a pause before the next look", () => clock.pending === before + 1);
  await events.return();
  await eventually("no pause", () => clock.pending === before);
});

Deno.test("logs of a worker that nobody knows are not found, and a path is nobody's name", async () => {
  await using at = await hiveAtHome();
  await Deno.writeTextFile(join(at.logs, "..", "secret.log"), "secret");
  for (const workerId of ["abc", "../secret", "..", "%2e%2e/secret"]) {
    for (const ask of ["logs", "followLogs"] as const) {
      const error = await assertRejects<RbeeError>(async () => void await at.hive.client[ask]({ workerId }));
      assertEquals(error.code, "WORKER_NOT_FOUND");
    }
  }
});

Deno.test("every mistake in a query for logs is named at once", async () => {
  await using at = await hiveAtHome();
  const query = "follow=maybe&since=yesterday&tail=-1&worker=x";
  const response = await fetch(`${at.hive.url}/v1/logs?${query}`, {
    headers: { Authorization: `Bearer ${at.hive.key}` },
  });
  assertEquals(response.status, 400);
  const { error } = await response.json();
  const fields = error.details.errors.map(({ field }: { field: string }) => field).sort();
  assertEquals(fields, ["follow", "since", "tail", "worker"]);
});

Deno.test("logs that grow without end are cut, and their last lines can be read all the same", async () => {
  await using at = await hiveAtHome();
  const { hive } = at;
  const id = await idleWorker(hive);
  const path = join(at.logs, `worker-${id}.log`);
  const line = `${"x".repeat(9_999)}\n`;
  await Deno.writeTextFile(path, line.repeat(1_001), { append: true });
  await Deno.writeTextFile(path, "the last one\n", { append: true });
  hive.parts.startWork();
  await eventually("the log is cut", async () => (await Deno.stat(path)).size < 10_000);
  const lines = await hive.client.logs({ workerId: id });
  assertEquals(messages(lines, "worker").at(-1), "the last one");
});

Deno.test("who follows events is told the present first, and then all that happens to workers", async () => {
  await using at = await hiveAtHome();
  const { hive } = at;
  const first = await idleWorker(hive);
  const { events } = await hive.client.events();
  const next = async () => (await events.next()).value!;
  assertEquals(await next(), {
    kind: "worker",
    worker_id: first,
    model_ref: "builtin:stories",
    what: "state",
    state: "idle",
  });
  const second = await hive.spawn({ slots: 8 });
  await hive.until(second.worker_id, "idle");
  await hive.workers.shutdown(second.worker_id);
  const told: string[] = [];
  for (let event; (event = await next()).kind === "worker";) {
    if (event.worker_id === second.worker_id) told.push(event.what === "state" ? event.state : event.what);
    if (event.what === "state" && event.state === "gone") break;
  }
  assertEquals(told.filter((what) => what !== "measured"), [
    "started",
    "loading",
    "idle",
    "loaded",
    "draining",
    "exited",
    "gone",
  ]);
});
