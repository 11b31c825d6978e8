import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { RbeeError } from "../../protocol/errors.ts";
import type { DownloadEvent } from "../../protocol/hive_schemas.ts";
import {
  fetchError,
  fetchModel,
  fetchPath,
  FILE,
  filesBelow,
  follow,
  REF,
  REPO,
  startBed,
  tinyGguf,
} from "./models_test_bed.ts";

const IDLE = { inUse: () => false };

Deno.test("a reference becomes verified bytes in the standard cache and a row in the catalog", async () => {
  await using bed = await startBed();
  const { events, last } = await fetchModel(bed.models);
  assert(last.stage === "complete");
  assertEquals(await Deno.readFile(last.local_path), tinyGguf());
  const stages = events.map((event) => event.stage);
  assertEquals([stages[0], stages.at(-2), stages.at(-1)], ["downloading", "verifying", "complete"]);
  const done = events.findLast((event) => event.stage === "downloading");
  assert(done?.stage === "downloading" && done.bytes_downloaded === done.bytes_total && done.speed_mbps > 0);

  const commit = bed.hub.head(REPO);
  const [model] = await bed.models.list();
  assertEquals(await filesBelow(bed.repoFolder), [
    `blobs/${model.sha256}`,
    "refs/main",
    `snapshots/${commit}/${FILE}`,
  ]);
  assertEquals(await Deno.readLink(last.local_path), `../../blobs/${model.sha256}`);
  assertEquals(await Deno.readTextFile(`${bed.repoFolder}/refs/main`), commit);
  assertEquals({ ...model, id: "", downloaded_at_unix: 0, sha256: "" }, {
    ...{ id: "", provider: "hf", reference: REF, revision: commit, local_path: last.local_path },
    ...{ size_bytes: tinyGguf().length, sha256: "", downloaded_at_unix: 0, companions: [] },
    ...{ last_used_at_unix: null, verified_at_unix: null, files: await Deno.realPath(last.local_path) },
  });
});

Deno.test("twenty requests at once are one transfer with twenty followers", async () => {
  await using bed = await startBed();
  bed.hub.faults.add({ kind: "stall", afterBytes: 70_000 });
  const answers = await Promise.all(Array.from({ length: 20 }, () => bed.models.download(REF)));
  const ids = new Set(answers.map((answer) => answer.download_id));
  assertEquals([ids.size, ids.has("cached")], [1, false]);
  const followers = answers.map((answer) => follow(bed.models, answer.download_id));
  await bed.hub.until((hub) => hub.stalledCount === 1);
  bed.hub.release();
  for (const { events, last } of await Promise.all(followers)) {
    assertEquals(last.stage, "complete");
    assertEquals(events.filter((event) => event.stage === "verifying").length, 1);
  }
  assertEquals(bed.hub.requestsFor({ purpose: "content" }).length, 1);
  assertEquals(bed.hub.requestsFor({ purpose: "info" }).length, 1);
});

Deno.test("two references to the same file at once are one transfer", async () => {
  await using bed = await startBed();
  bed.hub.faults.add({ kind: "stall", afterBytes: 70_000 });
  const first = await bed.models.download(REF);
  const second = await bed.models.download(`${REF}:q4_k_m`);
  assertNotEquals(first.download_id, second.download_id);
  const followers = [first, second].map((answer) => follow(bed.models, answer.download_id));
  await bed.hub.until((hub) => hub.stalledCount === 1);
  bed.hub.release();
  const [{ last: one }, { events, last: other }] = await Promise.all(followers);
  assertEquals(one, other);
  assertEquals(events[0].stage, "downloading");
  assertEquals(bed.hub.requestsFor({ purpose: "content" }).length, 1);
  assertEquals((await bed.models.list()).length, 2);
});

Deno.test("who joins late gets the present state, and of an ended download its end", async () => {
  await using bed = await startBed({ models: { limits: { progressIntervalMs: 0 } } });
  bed.hub.faults.add({ kind: "stall", afterBytes: 70_000 });
  const { download_id } = await bed.models.download(REF);
  const arrived = Promise.withResolvers<void>();
  const stop = bed.models.progress(download_id, (event) => {
    if (event.stage === "downloading" && event.bytes_downloaded === 70_000) arrived.resolve();
  });
  await arrived.promise;
  stop();
  const seen: DownloadEvent[] = [];
  bed.models.progress(download_id, (event) => seen.push(event))();
  assert(seen.length === 1 && seen[0].stage === "downloading" && seen[0].bytes_downloaded === 70_000);

  const followed = follow(bed.models, download_id);
  bed.hub.release();
  const { last } = await followed;
  assertEquals((await follow(bed.models, download_id)).events, [last]);
});

Deno.test("ended downloads are forgotten, the oldest first", async () => {
  await using bed = await startBed({ models: { limits: { maxEndedDownloads: 2, resolveGraceMs: 60_000 } } });
  const ids: string[] = [];
  for (let round = 0; round < 3; round++) {
    const answer = await bed.models.download(REF);
    ids.push(answer.download_id);
    await follow(bed.models, answer.download_id);
    await bed.models.remove(REF, IDLE);
  }
  const code = (id: string) => assertThrows(() => bed.models.progress(id, () => {}), RbeeError).code;
  assertEquals(code(ids[0]), "DOWNLOAD_NOT_FOUND");
  assertEquals((await follow(bed.models, ids[2])).last.stage, "complete");
  assertEquals(
    (await assertRejects(() => bed.models.cancel("nonesuch"), RbeeError)).code,
    "DOWNLOAD_NOT_FOUND",
  );
});

Deno.test("canceling twice, or after the end, changes nothing", async () => {
  await using bed = await startBed();
  bed.hub.faults.add({ kind: "stall", afterBytes: 0 });
  const { download_id } = await bed.models.download(REF);
  await Promise.all([bed.models.cancel(download_id), bed.models.cancel(download_id)]);
  await bed.models.cancel(download_id);
  const { last } = await follow(bed.models, download_id);
  assertEquals(last.stage === "error" && last.error.code, "REQUEST_CANCELED");
});

Deno.test("one of two references is canceled, the other one still comes", async () => {
  await using bed = await startBed();
  bed.hub.faults.add({ kind: "stall", afterBytes: 70_000 });
  const first = await bed.models.download(REF);
  const second = await bed.models.download(`${REF}:Q4_K_M`);
  await bed.hub.until((hub) => hub.stalledCount === 1);
  const followed = follow(bed.models, second.download_id);
  await bed.models.cancel(first.download_id);
  const { last } = await followed;
  assertEquals(last.stage, "complete");
});

Deno.test("a hub that lets the caller wait is answered for with an id", async () => {
  await using bed = await startBed({ models: { limits: { resolveGraceMs: 1 } } });
  bed.hub.faults.add({ kind: "stall", afterBytes: 0 }, { purpose: "info" });
  const { download_id } = await bed.models.download(REF);
  assertNotEquals(download_id, "cached");
  await bed.hub.until((hub) => hub.stalledCount === 1);
  bed.hub.release();
  assertEquals((await follow(bed.models, download_id)).last.stage, "complete");
});

Deno.test("the disk is checked for all parts before the first byte", async () => {
  const files = Object.fromEntries(
    [1, 2].map((part) => [`m-Q4_0-0000${part}-of-00002.gguf`, tinyGguf(part)]),
  );
  const size = tinyGguf().length;
  const freeBytes = () => Promise.resolve(2 * size - 1);
  await using bed = await startBed({ hub: { repos: { [REPO]: { files } } }, models: { freeBytes } });
  const error = await fetchError(bed.models);
  assertEquals([error.code, error.details], ["INSUFFICIENT_DISK", { required_mb: 1, available_mb: 0 }]);
  assertEquals(bed.hub.requestsFor({ purpose: "content" }), []);
  const models = await bed.restart({ freeBytes: () => Promise.resolve(2 * size) });
  assertEquals((await fetchModel(models)).last.stage, "complete");
});

Deno.test("a split model is one download, counted as a whole", async () => {
  const parts = [1, 2, 3].map((part) => `big/m-Q8_0-0000${part}-of-00003.gguf`);
  const files = Object.fromEntries(parts.map((path, index) => [path, tinyGguf(index)]));
  await using bed = await startBed({
    hub: { repos: { [REPO]: { files } } },
    models: { limits: { progressIntervalMs: 0 } },
  });
  const { events, last } = await fetchModel(bed.models);
  assert(last.stage === "complete");
  assertMatch(last.local_path, /00001-of-00003\.gguf$/);
  const total = 3 * tinyGguf().length;
  const counts = events.flatMap((event) => event.stage === "downloading" ? [event.bytes_downloaded] : []);
  assertEquals(counts, [...counts].sort((a, b) => a - b));
  assertEquals(counts.at(-1), total);
  assertEquals((await bed.models.list()).map((model) => [model.size_bytes, model.sha256]), [[total, null]]);
  await Deno.remove(last.local_path.replace("00001", "00003"));
  assertEquals(await bed.models.find(REF), undefined);
});

const UNUSABLE: [string, Uint8Array][] = [
  ["no GGUF", new TextEncoder().encode("<html>".repeat(100))],
  ["cut short", tinyGguf().subarray(0, 200_000)],
  ["empty", new Uint8Array(0)],
];
for (const [what, content] of UNUSABLE) {
  Deno.test(`a file at the hub that is ${what} is INVALID_MODEL and removed`, async () => {
    await using bed = await startBed({ hub: { repos: { [REPO]: { files: { [FILE]: content } } } } });
    assertEquals((await fetchError(bed.models)).code, "INVALID_MODEL");
    assertEquals(await filesBelow(bed.repoFolder), ["refs/main"]);
    assertEquals(await bed.models.list(), []);
  });
}

Deno.test("a cache that cannot be written says where and why", async () => {
  await using bed = await startBed();
  await Deno.mkdir(`${bed.path}/hf`);
  await Deno.writeTextFile(bed.models.modelsDir, "a file where the folder should be");
  const error = await fetchError(bed.models);
  assertEquals(error.code, "DOWNLOAD_FAILED");
  assert(error.message.includes(bed.models.modelsDir), error.message);
});

Deno.test("a hive that leaves stops its downloads and keeps what came", async () => {
  await using bed = await startBed({ models: { limits: { progressIntervalMs: 0 } } });
  bed.hub.faults.add({ kind: "stall", afterBytes: 100_000 });
  const { download_id } = await bed.models.download(REF);
  const arrived = Promise.withResolvers<void>();
  bed.models.progress(download_id, (event) => {
    if (event.stage === "downloading" && event.bytes_downloaded === 100_000) arrived.resolve();
  });
  await arrived.promise;
  const followed = follow(bed.models, download_id);
  const old = bed.models;
  const models = await bed.restart();
  const { last } = await followed;
  assertEquals(last.stage === "error" && last.error.code, "SHUTTING_DOWN");
  assertEquals((await assertRejects(() => old.download("builtin:stories"))) instanceof Error, true);
  assertEquals(await Deno.readFile(await fetchPath(models)), tinyGguf());
  assertEquals(
    bed.hub.requestsFor({ purpose: "content" })[1].headers.get("range"),
    `bytes=100000-${tinyGguf().length - 1}`,
  );
});
