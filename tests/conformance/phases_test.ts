/** The eight phases of `infer` (SPEC §8), each by what it shows and what it leaves. */
import { assert, assertEquals } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { join } from "@std/path";
import { eventually } from "../helpers/eventually.ts";
import { given, INFER, LOADING, saw, STARTING, STORY, type World } from "./scenario.ts";
import { freePort } from "../helpers/free_port.ts";

const BEE = [...INFER, "--model", "hf:acme/bee"];

/** The person's registry, as far as SPEC names its columns. */
function registry({ home }: World): Record<string, unknown>[] {
  using database = new DatabaseSync(join(home.path, "keeper.db"), { readOnly: true });
  return database.prepare("SELECT node, model_ref, backend, device, state FROM workers").all();
}

const row = (state: string) => ({
  node: "mac",
  model_ref: "builtin:stories",
  backend: "cpu",
  device: 0,
  state,
});

Deno.test("phase 1: given a worker that is known and well, infer answers without a word, and without its hive", () =>
  given({}, async (world) => {
    const { hive, type, knowMac, hiveHome } = world;
    assertEquals((await type(...INFER)).code, 0);
    // Where no hive is: what is known is enough.
    await knowMac({ url: `http://127.0.0.1:${freePort()}` });
    saw(await type(...INFER), { code: 0, stdout: `${STORY}\n`, stderr: [] });
    assertEquals([(await hive.client.workers()).workers.length, hive.workerPids().length], [1, 1]);
    assert(hiveHome.path !== world.home.path);
  }));

Deno.test("phase 1: given a known worker that is gone, infer drops it without a fuss and gets another", () =>
  given({}, async (world) => {
    const { hive, type } = world;
    assertEquals((await type(...INFER)).code, 0);
    const [first] = (await hive.client.workers()).workers;
    await hive.client.shutdownWorker(first.worker_id);
    await eventually("no worker", async () => (await hive.client.workers()).workers.length === 0);
    saw(await type(...INFER), { code: 0, stdout: `${STORY}\n`, stderr: [STARTING, ...LOADING] });
    assertEquals(registry(world), [row("idle")]);
  }));

Deno.test("phase 2: given a hive that comes late, infer tries again and goes on", () =>
  given({}, async ({ hive, knowMac, start }) => {
    const port = freePort();
    await knowMac({ url: `http://127.0.0.1:${port}` });
    const infer = start(...INFER);
    await infer.shows("stderr", "Attempt 1/3");
    await using _late = forward(port, new URL(hive.url));
    const { code, stdout, stderr } = await infer.finished;
    assertEquals([code, stdout], [0, `${STORY}\n`]);
    assert(stderr.startsWith("Attempt 1/3: Cannot connect to"), stderr);
  }));

Deno.test("phase 3: given a model that is not there, infer fetches it, once", () =>
  given({}, async ({ hub, type }) => {
    const begun = ["Downloading model...", "Verifying model..."];
    saw(await type(...BEE), { code: 0, stdout: `${STORY}\n`, stderr: [...begun, STARTING, ...LOADING] });
    const requests = hub.requests.length;
    saw(await type(...BEE, "--slots", "8"), {
      code: 0,
      stdout: `${STORY}\n`,
      stderr: [STARTING, ...LOADING],
    });
    assertEquals(hub.requests.length, requests);
  }));

Deno.test("phases 4 and 5: given what no machine has, nothing is started", () =>
  given({}, async ({ hive, type }) => {
    saw(await type(...INFER, "--backend", "metal"), {
      code: 1,
      stderr: [
        "Error: This machine can't compute on metal; it can on cpu.",
        "  Choose one of those with --backend, or leave it to auto.",
      ],
    });
    assertEquals([(await hive.client.workers()).workers, hive.workerPids()], [[], []]);
  }));

Deno.test("phases 6 and 7: given a load that takes its time, the registry has the worker, and it is used when it is ready", () =>
  given({ worker: { loadMs: 600 } }, async (world) => {
    const infer = world.start(...INFER);
    await infer.shows("stderr", "Loading model");
    assertEquals(registry(world), [row("loading")]);
    saw(await infer.finished, { code: 0, stdout: `${STORY}\n`, stderr: [STARTING, ...LOADING] });
  }));

Deno.test("phase 8: given an answer, its tokens come one by one, and the worker is idle afterwards", () =>
  given({ worker: { tokenMs: 20 } }, async (world) => {
    const infer = world.start(...INFER);
    await infer.shows("stdout", /^Once upon/);
    const [busy] = (await world.hive.client.workers()).workers;
    assertEquals(busy.slots_available, 3);
    saw(await infer.finished, { code: 0, stdout: `${STORY}\n`, stderr: [STARTING, ...LOADING] });
    assertEquals(registry(world), [row("idle")]);
  }));

/** Everything that comes to a port goes to another one. */
function forward(port: number, to: URL): AsyncDisposable {
  const listener = Deno.listen({ hostname: "127.0.0.1", port });
  const pipes: Promise<void>[] = [];
  const accepting = (async () => {
    for await (const incoming of listener) {
      const outgoing = await Deno.connect({ hostname: to.hostname, port: Number(to.port) });
      pipes.push(incoming.readable.pipeTo(outgoing.writable).catch(() => {}));
      pipes.push(outgoing.readable.pipeTo(incoming.writable).catch(() => {}));
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      listener.close();
      await accepting;
      await Promise.all(pipes);
    },
  };
}
