/** The hive as a process: how it starts, refuses to start, leaves, and what it leaves behind. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { RbeeError } from "../protocol/errors.ts";
import { VERSION } from "../protocol/version.ts";
import { fakeWorkerEnv, startDaemon, startHive } from "../tests/helpers/daemons.ts";
import { eventually } from "../tests/helpers/eventually.ts";
import { isPortFree } from "../tests/helpers/recovery.ts";
import { type TempHome, tempHome } from "../tests/helpers/temp_home.ts";
import { processIdentity } from "../home/process_identity.ts";

const FAKE = { mode: "normal" } as const;

async function waitIdle(hive: { client: { worker(id: string): Promise<{ state: string }> } }, id: string) {
  await eventually("an idle worker", async () => (await hive.client.worker(id)).state === "idle");
}

/** Runs the hive's program to its end. */
async function runHive(home: TempHome, ...args: string[]) {
  const env = { ...home.env, ...fakeWorkerEnv(FAKE) };
  const daemon = startDaemon({ main: "hive/main.ts", permissions: "hive", args, env });
  const { code } = await daemon.status;
  return { code, output: daemon.logs() };
}

Deno.test("SIGTERM leaves no process, no port and no hive.json, and the exit code is 0", async () => {
  await using home = await tempHome();
  await using hive = await startHive({ home, worker: FAKE });
  const first = await hive.client.spawn({ model_ref: "builtin:stories" });
  const second = await hive.client.spawn({ model_ref: "builtin:stories", slots: 8 });
  for (const { worker_id } of [first, second]) await waitIdle(hive, worker_id);
  assertEquals(hive.workerPids().length, 2);

  assertEquals(await hive.stop(), { success: true, code: 0, signal: null });
  for (const pid of hive.workerPids()) assertEquals(await processIdentity(pid), undefined);
  for (const { url } of [hive, first, second]) assert(await isPortFree(url), url);
  await assertRejects(() => Deno.stat(join(home.rbeeHome, "hive.json")), Deno.errors.NotFound);
});

Deno.test("hive.json tells this machine where the hive is, and nobody else may read it", async () => {
  await using home = await tempHome();
  await using hive = await startHive({ home, worker: FAKE });
  const path = join(home.rbeeHome, "hive.json");
  const { started_unix, ...content } = JSON.parse(await Deno.readTextFile(path));
  const identity = await processIdentity(hive.pid);
  assertEquals(content, { pid: hive.pid, url: hive.url, version: VERSION, identity });
  assert(Math.abs(started_unix - Date.now() / 1000) < 60);
  assertEquals((await Deno.stat(path)).mode! & 0o777, 0o600);
  assertEquals((await Deno.stat(join(home.rbeeHome, "api_key"))).mode! & 0o777, 0o600);
  assertEquals((await Deno.stat(join(home.rbeeHome, "hive.db"))).mode! & 0o777, 0o600);
});

Deno.test("after SIGKILL the next hive adopts the workers and stops them when it leaves", async () => {
  await using home = await tempHome();
  await using killed = await startHive({ home, worker: FAKE });
  const spawned = await killed.client.spawn({ model_ref: "builtin:stories" });
  await waitIdle(killed, spawned.worker_id);
  await killed.kill();

  await using next = await startHive({ home, worker: FAKE });
  const again = await next.client.spawn({ model_ref: "builtin:stories" });
  assertEquals([again.worker_id, again.reused], [spawned.worker_id, true]);
  assertEquals(next.workerPids(), killed.workerPids());
  await next.stop();
  for (const pid of killed.workerPids()) assertEquals(await processIdentity(pid), undefined);
  assert(await isPortFree(spawned.url));
});

Deno.test("told to leave before it is ready, it leaves in order all the same", async () => {
  await using home = await tempHome();
  await using killed = await startHive({ home, worker: FAKE });
  const spawned = await killed.client.spawn({ model_ref: "builtin:stories" });
  await killed.kill();
  await using next = startDaemon({
    main: "hive/main.ts",
    permissions: "hive",
    args: ["daemon", "--listen", "127.0.0.1:0"],
    env: home.env,
  });
  await next.logged("worker adopted", ({ message }) => message === "worker adopted");
  assertEquals((await next.stop()).code, 0);
  for (const pid of killed.workerPids()) assertEquals(await processIdentity(pid), undefined);
  assert(await isPortFree(spawned.url));
  await assertRejects(() => Deno.stat(join(home.rbeeHome, "hive.json")), Deno.errors.NotFound);
});

Deno.test("a port that is taken is told, and the workers of the last hive are left alone", async () => {
  await using home = await tempHome();
  await using killed = await startHive({ home, worker: FAKE });
  const spawned = await killed.client.spawn({ model_ref: "builtin:stories" });
  await killed.kill();
  await using taken = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response(),
  );
  const { code, output } = await runHive(home, "daemon", "--listen", `127.0.0.1:${taken.addr.port}`);
  assertEquals(code, 1);
  assertStringIncludes(output, "is in use by another program");
  await using next = await startHive({ home, worker: FAKE });
  assertEquals((await next.client.workers()).workers.map(({ worker_id }) => worker_id), [spawned.worker_id]);
});

Deno.test("with --keep-workers a worker outlives its hive and is adopted by the next", async () => {
  await using home = await tempHome();
  await using first = await startHive({ home, worker: FAKE, args: ["--keep-workers"] });
  const spawned = await first.client.spawn({ model_ref: "builtin:stories" });
  await waitIdle(first, spawned.worker_id);
  assertEquals((await first.stop()).code, 0);
  assertEquals(await isPortFree(spawned.url), false);
  await using next = await startHive({ home, worker: FAKE });
  assertEquals((await next.client.workers()).workers.map(({ worker_id }) => worker_id), [spawned.worker_id]);
});

Deno.test("a second hive on the same home says who is there and exits with 1", async () => {
  await using home = await tempHome();
  await using hive = await startHive({ home, worker: FAKE });
  const { code, output } = await runHive(home, "daemon", "--listen", "127.0.0.1:0");
  assertEquals(code, 1);
  assertStringIncludes(output, `pid ${hive.pid}, ${hive.url}`);
  assertEquals((await hive.client.health()).status, "alive");
});

Deno.test("without a key it does not listen where others could reach it", async () => {
  await using home = await tempHome();
  const { code, output } = await runHive(home, "daemon", "--listen", "0.0.0.0:0");
  assertEquals(code, 1);
  assertStringIncludes(output, "no key is configured");
  assertStringIncludes(output, "api_key");
});

Deno.test("what it can't do it does not pretend: TLS is refused", async () => {
  await using home = await tempHome();
  await Deno.writeTextFile(join(home.rbeeHome, "config.yaml"), "hive: {tls_cert: a.pem, tls_key: b.pem}\n");
  const { code, output } = await runHive(home, "daemon", "--listen", "127.0.0.1:0");
  assertEquals(code, 1);
  assertStringIncludes(output, "hive.tls_cert");
});

Deno.test("listening for everybody, workers are advertised by name and still reached", async () => {
  await using home = await tempHome();
  const env = { RBEE_API_KEY: "a-key-for-everybody" };
  const args = ["--listen", "0.0.0.0:0", "--advertise", "localhost"];
  await using hive = await startHive({ home, worker: FAKE, env, args });
  const spawned = await hive.client.spawn({ model_ref: "builtin:stories" });
  assertEquals(new URL(spawned.url).hostname, "localhost");
  await waitIdle(hive, spawned.worker_id);
});

Deno.test("a spawn cut off by SIGTERM gets an answer, and its process does not stay", async () => {
  await using home = await tempHome();
  await using hive = await startHive({ home, worker: { mode: "never-calls-back" } });
  const spawning = assertRejects(() => hive.client.spawn({ model_ref: "builtin:stories" }), RbeeError);
  await hive.logged("worker started", ({ message }) => message === "worker started");
  assertEquals((await hive.stop()).code, 0);
  assertEquals((await spawning).code, "SHUTTING_DOWN");
  for (const pid of hive.workerPids()) assertEquals(await processIdentity(pid), undefined);
});

Deno.test("status tells whether a hive runs, and what on it", async () => {
  await using home = await tempHome();
  const before = await runHive(home, "status", "--json");
  assertEquals([before.code, JSON.parse(before.output)], [1, { running: false }]);
  await using hive = await startHive({ home, worker: FAKE });
  const spawned = await hive.client.spawn({ model_ref: "builtin:stories" });
  const during = await runHive(home, "status", "--json");
  const status = JSON.parse(during.output);
  assertEquals([during.code, status.running, status.pid, status.url], [0, true, hive.pid, hive.url]);
  assertEquals(status.workers[0].worker_id, spawned.worker_id);
  assertStringIncludes((await runHive(home, "status")).output, spawned.worker_id);
  await hive.kill();
  assertEquals((await runHive(home, "status")).code, 1);
  await using next = await startHive({ home, worker: FAKE });
  assertEquals((await next.stop()).code, 0);
});

Deno.test("detect shows what the worker program found", async () => {
  await using home = await tempHome();
  const json = await runHive(home, "detect", "--json");
  assertEquals(json.code, 0);
  const { devices, llama_cpp, memory, disk } = JSON.parse(json.output);
  assertEquals([devices[0].backend, devices[0].name, llama_cpp], ["cpu", "CPU", "fake"]);
  assert(memory.free_mb > 0 && disk.free_mb > 0);
  const text = await runHive(home, "detect");
  for (const part of ["cpu 0: CPU", "memory:", "llama.cpp: fake"]) assertStringIncludes(text.output, part);
});

Deno.test("the program names every mistake of its command line and exits with 2", async () => {
  await using home = await tempHome();
  const flags = await runHive(home, "daemon", "--lisen", "x", "--kep-workers", "--log-level", "loud");
  assertEquals(flags.code, 2);
  for (const part of ["--listen?", "--keep-workers?", "loud"]) assertStringIncludes(flags.output, part);
  assertEquals((await runHive(home, "--version")).output.trim(), VERSION);
});

Deno.test("systemd is told when the hive serves and when it leaves", async () => {
  await using home = await tempHome();
  const path = join(home.path, "notify");
  const socket = Deno.listenDatagram({ transport: "unixpacket", path });
  const next = async () => new TextDecoder().decode((await socket.receive())[0]);
  await using hive = await startHive({ home, worker: FAKE, env: { NOTIFY_SOCKET: path } });
  assertEquals(await next(), `READY=1\nSTATUS=Serving at ${hive.url}`);
  assertEquals((await hive.stop()).code, 0);
  assertEquals(await next(), "STOPPING=1");
  socket.close();
});
