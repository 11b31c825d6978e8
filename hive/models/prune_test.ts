import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { DatabaseSync } from "node:sqlite";
import type { CatalogModel } from "../../protocol/hive_schemas.ts";
import { fetchPath, smallestGguf, startBed, tinyGguf } from "./models_test_bed.ts";

const IDLE = { inUse: () => false };
const SIZE = tinyGguf().length;
const DIGEST = "ab".repeat(32);

/** Three models of the same size from three repositories, used in this order. */
async function startThree() {
  const names = ["acme/one", "acme/two", "acme/three"];
  const repos = Object.fromEntries(names.map((name, i) => [name, { files: { "m-Q4_0.gguf": tinyGguf(i) } }]));
  const bed = await startBed({ hub: { repos } });
  const paths: string[] = [];
  for (const name of names) paths.push(await fetchPath(bed.models, `hf:${name}`));
  return { bed, paths, references: names.map((name) => `hf:${name}`) };
}

/** What a download that broke off leaves: most of it is a hole. */
async function leavePartial(root: string, repo: string): Promise<{ path: string; bytes: number }> {
  const path = join(root, repo, "blobs", `${DIGEST}.rbee-part`);
  await Deno.mkdir(join(root, repo, "blobs"), { recursive: true });
  await Deno.writeFile(path, new Uint8Array(8192));
  await Deno.truncate(path, 10_000_000);
  await Deno.writeFile(`${path}.map`, new Uint8Array(100));
  const blocks = (await Deno.stat(path)).blocks! + (await Deno.stat(`${path}.map`)).blocks!;
  return { path, bytes: blocks * 512 };
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

const gb = (bytes: number) => bytes / 1e9;

Deno.test("the least recently used models go until the rest fit", async () => {
  const { bed, paths, references } = await startThree();
  await using _bed = bed;
  const database = new DatabaseSync(join(bed.path, "rbee", "models.db"));
  const setUse = database.prepare("UPDATE models SET last_used_at_unix = ? WHERE reference = ?");
  const now = Math.floor(Date.now() / 1000);
  // All of them after they came.
  for (const [i, age] of [30, 10, 20].entries()) setUse.run(now + 100 - age, references[i]);
  database.close();
  const answer = await bed.models.prune({ keep_gb: gb(2 * SIZE), dry_run: false }, IDLE);
  assertEquals([answer.freed_bytes, answer.kept_bytes, answer.partial_bytes], [SIZE, 2 * SIZE, 0]);
  assertEquals(answer.removed.map(({ reference }) => reference), [references[0]]);
  assertEquals(await exists(paths[0]), false);
  assertEquals((await bed.models.prune({ keep_gb: gb(2 * SIZE), dry_run: false }, IDLE)).removed, []);
  const rest = await bed.models.prune({ keep_gb: 0, dry_run: false }, IDLE);
  assertEquals(rest.removed.map(({ reference }) => reference), [references[2], references[1]]);
  assertEquals(await bed.models.list(), []);
});

Deno.test("a dry run says the same and removes nothing", async () => {
  const { bed, paths } = await startThree();
  await using _bed = bed;
  const partial = await leavePartial(bed.models.modelsDir, "models--acme--broken");
  const dry = await bed.models.prune({ keep_gb: 0, dry_run: true }, IDLE);
  for (const path of [...paths, partial.path]) assertEquals(await exists(path), true, path);
  assertEquals(dry.partial_bytes, partial.bytes);
  assertEquals(await bed.models.prune({ keep_gb: 0, dry_run: false }, IDLE), dry);
});

Deno.test("what is in use, and files that are somebody's own, stay", async () => {
  const { bed, paths, references } = await startThree();
  await using _bed = bed;
  const own = `${bed.path}/own.gguf`;
  await Deno.writeFile(own, smallestGguf());
  await bed.models.find(`file:${own}`);
  await bed.models.find("builtin:stories");
  const inUse = (model: CatalogModel) => model.reference === references[1];
  const answer = await bed.models.prune({ keep_gb: 0, dry_run: false }, { inUse });
  assertEquals([answer.kept_bytes, answer.freed_bytes], [SIZE, 2 * SIZE]);
  const left = (await bed.models.list()).map(({ reference }) => reference);
  assertEquals(left.toSorted(), ["builtin:stories", `file:${own}`, references[1]]);
  for (const path of [own, paths[1]]) assertEquals(await exists(path), true);
});

Deno.test("a model that comes into use while others are removed stays, and is counted as kept", async () => {
  const { bed, references } = await startThree();
  await using _bed = bed;
  let asked = 0;
  // Idle when the plan is made, busy from then on.
  const inUse = () => ++asked > references.length;
  const answer = await bed.models.prune({ keep_gb: 0, dry_run: false }, { inUse });
  assertEquals([answer.removed, answer.kept_bytes, answer.freed_bytes], [[], 3 * SIZE, 0]);
});

Deno.test("the same files under several names, also of another commit, are freed once and together", async () => {
  await using bed = await startBed();
  await fetchPath(bed.models);
  await fetchPath(bed.models, "hf:acme/tiny:Q4_K_M");
  const commit = bed.hub.commit("acme/tiny", { "README.md": "# new\n" });
  await fetchPath(bed.models, `hf:acme/tiny@${commit}`);
  const answer = await bed.models.prune({ keep_gb: 0, dry_run: false }, IDLE);
  assertEquals([answer.freed_bytes, answer.kept_bytes], [SIZE, 0]);
  assertEquals(answer.removed.map(({ reference, also }) => [reference, ...also].length), [3]);
  assertEquals(await bed.models.list(), []);
  assertEquals(await exists(bed.repoFolder), false);
});

Deno.test("unfinished downloads go with their folders, unless somebody holds them", async () => {
  await using bed = await startBed();
  const root = bed.models.modelsDir;
  const forgotten = await leavePartial(root, "models--acme--broken");
  const held = await leavePartial(root, "models--acme--held");
  const locks = join(root, ".locks", "models--acme--held");
  await Deno.mkdir(locks, { recursive: true });
  const answer = await (async () => {
    using lock = await Deno.open(join(locks, `${DIGEST}.lock`), { write: true, create: true });
    await lock.lock(true);
    return await bed.models.prune({ keep_gb: 1, dry_run: false }, IDLE);
  })();
  assertEquals(answer.partial_bytes, forgotten.bytes);
  assertEquals(await exists(join(root, "models--acme--broken")), false);
  assertEquals([await exists(held.path), await exists(`${held.path}.map`)], [true, true]);
  assertEquals((await bed.models.prune({ keep_gb: 1, dry_run: false }, IDLE)).partial_bytes, held.bytes);
});

Deno.test("what other tools put beside the models is no obstacle", async () => {
  await using bed = await startBed();
  const root = bed.models.modelsDir;
  await Deno.mkdir(join(root, "models--acme--odd"), { recursive: true });
  for (const file of ["version.txt", "models--file", "models--acme--odd/blobs"]) {
    await Deno.writeTextFile(join(root, file), "");
  }
  assertEquals((await bed.models.prune({ keep_gb: 0, dry_run: false }, IDLE)).partial_bytes, 0);
});

Deno.test("a running download loses nothing", async () => {
  await using bed = await startBed();
  const { path } = await leavePartial(bed.models.modelsDir, "models--acme--tiny");
  bed.hub.faults.add({ kind: "stall", afterBytes: 1000 });
  const { download_id } = await bed.models.download("hf:acme/tiny");
  await bed.hub.until((hub) => hub.stalledCount === 1);
  assertEquals((await bed.models.prune({ keep_gb: 0, dry_run: false }, IDLE)).partial_bytes, 0);
  assertEquals(await exists(path), true);
  await bed.models.cancel(download_id);
});
