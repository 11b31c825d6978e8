import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { ConfigSchema } from "../../home/config_schema.ts";
import { RbeeError } from "../../protocol/errors.ts";
import {
  BUILTIN_DIR,
  fetchPath,
  FILE,
  filesBelow,
  REF,
  REPO,
  smallestGguf,
  startBed,
  tinyGguf,
} from "./models_test_bed.ts";

const IDLE = { inUse: () => false };

Deno.test("what is in the catalog is not asked for again, also by the next hive", async () => {
  await using bed = await startBed();
  const path = await fetchPath(bed.models);
  const asked = bed.hub.requests.length;
  assertEquals(await bed.models.download(REF), { download_id: "cached", local_path: path });
  assertEquals(await (await bed.restart()).download(REF), { download_id: "cached", local_path: path });
  assertEquals((await bed.models.find(REF))?.local_path, path);
  assertEquals(bed.hub.requests.length, asked);
});

Deno.test("what other tools put into the cache is used without a download", async () => {
  await using bed = await startBed();
  const snapshot = `${bed.repoFolder}/snapshots/${bed.hub.head(REPO)}`;
  await Deno.mkdir(snapshot, { recursive: true });
  // As on file systems without links: a plain file.
  await Deno.writeFile(`${snapshot}/${FILE}`, tinyGguf());
  assertEquals(await bed.models.find(REF), undefined);
  assertEquals(await bed.models.download(REF), { download_id: "cached", local_path: `${snapshot}/${FILE}` });
  assertEquals(bed.hub.requestsFor({ purpose: "content" }), []);
});

Deno.test("a file of another size in the cache is replaced", async () => {
  await using bed = await startBed();
  const snapshot = `${bed.repoFolder}/snapshots/${bed.hub.head(REPO)}`;
  await Deno.mkdir(snapshot, { recursive: true });
  await Deno.writeFile(`${snapshot}/${FILE}`, tinyGguf().subarray(0, 1000));
  const path = await fetchPath(bed.models);
  assertEquals([path, await Deno.readFile(path)], [`${snapshot}/${FILE}`, tinyGguf()]);
});

Deno.test("the same blob in another commit is linked, not fetched", async () => {
  await using bed = await startBed();
  await fetchPath(bed.models);
  const commit = bed.hub.commit(REPO, { "README.md": "# new\n" });
  assertMatch(await fetchPath(bed.models, `${REF}@${commit}`), new RegExp(commit));
  assertEquals(bed.hub.requestsFor({ purpose: "content" }).length, 1);
});

Deno.test("a row whose file is gone, or has another size, is dropped at start and before use", async () => {
  for (const damage of [Deno.removeSync, (path: string) => Deno.truncateSync(Deno.realPathSync(path), 10)]) {
    await using bed = await startBed();
    damage(await fetchPath(bed.models));
    assertEquals(await bed.models.find(REF), undefined);
    assertEquals(await Deno.readFile(await fetchPath(bed.models)), tinyGguf());
    damage(await fetchPath(bed.models));
    const models = await bed.restart();
    assertEquals(await models.list(), []);
  }
});

Deno.test("a cache that was moved is found in its new place", async () => {
  await using bed = await startBed();
  await fetchPath(bed.models);
  const models_dir = `${bed.path}/moved`;
  await Deno.rename(bed.models.modelsDir, models_dir);
  const models = await bed.restart({ config: ConfigSchema.parse({ hive: { models_dir } }) });
  const answer = await models.download(REF);
  assertEquals(answer.download_id, "cached");
  assert("local_path" in answer && answer.local_path.startsWith(models_dir));
  assertEquals((await models.list()).map((model) => model.local_path), [answer.local_path]);
});

Deno.test("removing takes the files, what pointed to them, and other names of them", async () => {
  await using bed = await startBed();
  await fetchPath(bed.models);
  await fetchPath(bed.models, `${REF}:Q4_K_M`);
  await bed.models.remove(REF, IDLE);
  assertEquals(await bed.models.list(), []);
  const left = (await filesBelow(bed.models.modelsDir)).filter((path) => !path.startsWith(".locks/"));
  assertEquals(left, []);
  assertEquals((await assertRejects(() => bed.models.remove(REF, IDLE), RbeeError)).code, "MODEL_NOT_FOUND");
});

Deno.test("removing leaves what another commit or model uses", async () => {
  await using bed = await startBed();
  await fetchPath(bed.models);
  const commit = bed.hub.commit(REPO, { "other-Q8_0.gguf": tinyGguf(2) });
  const kept = await fetchPath(bed.models, `${REF}:Q4_K_M@${commit}`);
  const other = await fetchPath(bed.models, `${REF}:Q8_0@${commit}`);
  await bed.models.remove(REF, IDLE);
  assertEquals(await Deno.readFile(kept), tinyGguf());
  await bed.models.remove(`${REF}:Q4_K_M@${commit}`, IDLE);
  assertEquals(await Deno.readFile(other), tinyGguf(2));
  assertEquals((await filesBelow(bed.repoFolder)).length, 2);
});

Deno.test("a model in use is not removed, whatever name it is used by", async () => {
  await using bed = await startBed();
  const path = await fetchPath(bed.models);
  await fetchPath(bed.models, `${REF}:Q4_K_M`);
  const inUse = (model: { reference: string }) => model.reference === REF;
  for (const ref of [REF, `${REF}:Q4_K_M`]) {
    assertEquals(
      (await assertRejects(() => bed.models.remove(ref, { inUse }), RbeeError)).code,
      "MODEL_IN_USE",
    );
  }
  assertEquals((await bed.models.list()).length, 2);
  assertEquals(await Deno.readFile(path), tinyGguf());
});

Deno.test("builtin:stories is there at once, and its file is never removed", async () => {
  await using bed = await startBed();
  const local_path = `${BUILTIN_DIR}/rbee-stories-1.4M-Q8_0.gguf`;
  assertEquals(await bed.models.download("builtin:stories"), { download_id: "cached", local_path });
  assertEquals((await bed.models.find("builtin:stories"))?.size_bytes, (await Deno.stat(local_path)).size);
  await bed.models.remove("builtin:stories", IDLE);
  assertEquals(await bed.models.list(), []);
  assertEquals((await bed.models.find("builtin:stories"))?.local_path, local_path);
});

Deno.test("a file: model is checked when it is new and when it has changed", async () => {
  await using bed = await startBed();
  const path = `${bed.path}/mine.gguf`;
  const ref = `file:${path}`;
  const code = async () => (await assertRejects(() => bed.models.download(ref), RbeeError)).code;
  assertEquals(await code(), "MODEL_NOT_FOUND");
  await Deno.writeTextFile(path, "no model");
  assertEquals(await code(), "INVALID_MODEL");
  await Deno.writeFile(path, smallestGguf());
  assertEquals(await bed.models.download(ref), { download_id: "cached", local_path: path });
  await Deno.truncate(path, 300);
  assertEquals((await assertRejects(() => bed.models.find(ref), RbeeError)).code, "INVALID_MODEL");
  assertEquals(await bed.models.list(), []);
  await Deno.writeFile(path, smallestGguf());
  assert(await bed.models.find(ref));
  await bed.models.remove(ref, IDLE);
  assertEquals(await Deno.readFile(path), smallestGguf());
});

Deno.test("what is no reference is INVALID_REQUEST", async () => {
  await using bed = await startBed();
  for (const call of [bed.models.find("llama"), bed.models.download("file:relative.gguf")]) {
    assertEquals((await assertRejects(() => call, RbeeError)).code, "INVALID_REQUEST");
  }
});
