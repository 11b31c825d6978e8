/** Models between hives: real hives that take them from each other, or that share one cache. The hub is ours. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import { join } from "@std/path";
import { unsettledFiles } from "../hive/models/unsettled.ts";
import { startHive } from "./helpers/daemons.ts";
import { eventually } from "./helpers/eventually.ts";
import { writeLlamaGguf } from "./helpers/gguf_writer.ts";
import { type Hub, startHub } from "./helpers/hub.ts";
import { hubBytes, pull } from "./helpers/pull.ts";
import { type TempHome, tempHome } from "./helpers/temp_home.ts";
import { STORIES } from "./helpers/test_models.ts";

const REPO = "acme/bee";
const REF = `hf:${REPO}:Q8_0`;
const FILE = "bee-Q8_0.gguf";
const FOLDER = "models--acme--bee";
const SIZE = Deno.statSync(STORIES).size;
const DIGEST = sha256(Deno.readFileSync(STORIES));

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function bee(path = STORIES): Promise<Hub> {
  return await startHub({ repos: { [REPO]: { files: { [FILE]: { path } } } } });
}

/** A home whose hive knows another one as the node `attic`. */
async function homeBeside(
  node: { url: string; key: string },
  hub: Hub,
): Promise<TempHome> {
  const home = await tempHome({ hfEndpoint: hub.url });
  const api_key_file = join(home.path, "attic.key");
  await Deno.writeTextFile(api_key_file, `${node.key}\n`, { mode: 0o600 });
  const config = { nodes: { attic: { url: node.url, api_key_file } } };
  await Deno.writeTextFile(join(home.rbeeHome, "config.yaml"), JSON.stringify(config));
  return home;
}

/** Below a cache, without locks. */
async function filesOf(cache: string): Promise<string[]> {
  const found: string[] = [];
  const walk = async (folder: string) => {
    for await (const { name, isDirectory } of Deno.readDir(join(cache, folder))) {
      if (isDirectory) await walk(join(folder, name));
      else found.push(join(folder, name));
    }
  };
  await walk(FOLDER);
  return found.toSorted();
}

Deno.test("a hive takes a model from the one that has it, and the hub hears nothing of it", async () => {
  await using hub = await bee();
  await using home = await tempHome({ hfEndpoint: hub.url });
  await using attic = await startHive({ home, worker: {} });
  await pull(attic, REF);
  const asked = hub.requests.length;

  await using otherHome = await homeBeside(attic, hub);
  await using hive = await startHive({ home: otherHome, worker: {} });
  const path = await pull(hive, REF);
  assertEquals(hub.requests.length, asked);
  assertEquals(sha256(await Deno.readFile(path)), DIGEST);
  const commit = hub.head(REPO);
  const cache = join(otherHome.hfHome, "hub");
  assertEquals(path, join(cache, FOLDER, "snapshots", commit, FILE));
  await eventually("it is on the disk", async () => (await unsettledFiles(cache)).length === 0);
  assertEquals(await filesOf(cache), [
    ...[`${FOLDER}/blobs/${DIGEST}`, `${FOLDER}/refs/main`, `${FOLDER}/snapshots/${commit}/${FILE}`],
  ]);
  assertEquals(await Deno.readTextFile(join(cache, FOLDER, "refs/main")), commit);
  const [{ reference, sha256: known, revision }] = (await hive.client.models()).models;
  assertEquals([reference, known, revision], [REF, DIGEST, commit]);
  const log = hive.logLines().find(({ message }) => message === "model comes from another node");
  assertEquals([log?.node, log?.model_ref], ["attic", REF]);
  for (const { logs } of [attic, hive]) assert(!logs().includes(attic.key));

  // What was taken can be taken on.
  await using thirdHome = await homeBeside(hive, hub);
  await using third = await startHive({ home: thirdHome, worker: {} });
  assertEquals(sha256(await Deno.readFile(await pull(third, REF))), DIGEST);
  assertEquals(hub.requests.length, asked);
});

Deno.test("a hive with the wrong key for the other, and one whose other is down, ask the hub", async () => {
  await using hub = await bee();
  await using home = await tempHome({ hfEndpoint: hub.url });
  await using attic = await startHive({ home, worker: {} });
  await pull(attic, REF);
  for (const wrong of ["key", "url"] as const) {
    if (wrong === "url") await attic.kill();
    const before = hubBytes(hub);
    const key = wrong === "key" ? "not-the-key-of-the-attic" : attic.key;
    await using otherHome = await homeBeside({ url: attic.url, key }, hub);
    await using hive = await startHive({ home: otherHome, worker: {} });
    assertEquals(sha256(await Deno.readFile(await pull(hive, REF))), DIGEST);
    assertEquals(hubBytes(hub) - before, SIZE, wrong);
    for (const { headers } of hub.requests) assertEquals(headers.get("Authorization"), null);
  }
});

Deno.test("a hive that is killed while it hands a model over: the hub gives only the rest", async () => {
  await using home = await tempHome();
  // More than the sockets between two hives hold.
  const model = join(home.path, FILE);
  await writeLlamaGguf(model, {
    layers: 1,
    embd: 1024,
    heads: 8,
    ff: 1024,
    vocab: 1024,
    ctx: 256,
    type: "F32",
  });
  const bytes = await Deno.readFile(model);
  await using hub = await bee(model);
  await using attic = await startHive({ home, worker: {}, env: { HF_ENDPOINT: hub.url } });
  await pull(attic, REF);
  const before = hubBytes(hub);

  await using otherHome = await homeBeside(attic, hub);
  const env = { RBEE_HUB_MAX_BANDWIDTH: "30" };
  await using hive = await startHive({ home: otherHome, worker: {}, env });
  const keptBytes = 4_000_000;
  let killed: Promise<unknown> | undefined;
  const path = await pull(hive, REF, (event) => {
    if (event.stage === "downloading" && event.bytes_downloaded >= keptBytes) killed ??= attic.kill();
  });
  await killed;
  assertEquals(sha256(await Deno.readFile(path)), sha256(bytes));
  const fromHub = hubBytes(hub) - before;
  assert(fromHub > 0 && fromHub < bytes.length - keptBytes / 2, `${fromHub} of ${bytes.length}`);
  assertMatch(hive.logs(), /the other node failed; the hub is asked/);
});

Deno.test("two hives with one cache want a model at once: its bytes come once, and both have it", async () => {
  await using hub = await bee();
  await using home = await tempHome({ hfEndpoint: hub.url });
  await using otherHome = await tempHome({ hfEndpoint: hub.url });
  const { HF_HUB_CACHE } = home.env;
  await using one = await startHive({ home, worker: {} });
  await using other = await startHive({ home: otherHome, worker: {}, env: { HF_HUB_CACHE } });
  hub.faults.add({ kind: "stall", afterBytes: 1_000_000 });
  const begun = [one, other].map(() => Promise.withResolvers<void>());
  const pulls = [one, other].map((hive, i) =>
    pull(hive, REF, ({ stage }) => stage === "downloading" && begun[i].resolve())
  );
  await Promise.all(begun.map(({ promise }) => promise));
  await hub.until(({ stalledCount }) => stalledCount === 1);
  hub.release();
  const [path, same] = await Promise.all(pulls);
  assertEquals(path, same);
  assertEquals([sha256(await Deno.readFile(path)), hubBytes(hub)], [DIGEST, SIZE]);
  for (const hive of [one, other]) {
    const { models } = await hive.client.models();
    assertEquals(models.map(({ local_path, size_bytes }) => [local_path, size_bytes]), [[path, SIZE]]);
  }
});

Deno.test("a hive that is killed while it fetches: the other one goes on with what came", async () => {
  await using hub = await bee();
  await using home = await tempHome({ hfEndpoint: hub.url });
  await using otherHome = await tempHome({ hfEndpoint: hub.url });
  const { HF_HUB_CACHE } = home.env;
  await using one = await startHive({ home, worker: {} });
  await using other = await startHive({ home: otherHome, worker: {}, env: { HF_HUB_CACHE } });
  hub.faults.add({ kind: "stall", afterBytes: 1_000_000 });
  const { download_id } = await one.client.download(REF);
  assert(download_id !== "cached");
  await hub.until(({ stalledCount }) => stalledCount === 1);

  const keptBytes = 500_000;
  let killed: Promise<unknown> | undefined;
  const path = await pull(other, REF, (event) => {
    if (event.stage === "downloading" && event.bytes_downloaded >= keptBytes) killed ??= one.kill();
  });
  await killed;
  assertEquals(sha256(await Deno.readFile(path)), DIGEST);
  const [first, ...more] = hub.requestsFor({ purpose: "content" });
  assertEquals(first.fault, "stall");
  const rest = more.reduce((sum, { sentBytes }) => sum + sentBytes, 0);
  assert(rest > 0 && rest <= SIZE - keptBytes, `${rest} of ${SIZE}`);
});
