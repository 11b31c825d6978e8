import { assert, assertEquals } from "@std/assert";
import type { Models } from "./models.ts";
import { PartFile } from "./part_file.ts";
import { changeHeader, contentOf, fill, patchFiles, systemError, tempFolder } from "./part_file_test_bed.ts";
import { fetchNamed, fetchPath, FILE, filesBelow, REF, REPO, startBed, tinyGguf } from "./models_test_bed.ts";
import { nameFile, notePath, settleLeftOver, unsettledFiles } from "./unsettled.ts";

const OPTIONS = { size: 10_250, chunkBytes: 500 };
const CONTENT = contentOf(OPTIONS.size);

/** A cache with one file that is all there, unfinished by name. */
async function cacheWithFile() {
  const folder = await tempFolder();
  const blob = `${folder.path}/models--acme--tiny/blobs/abc`;
  const paths = { blob, partial: `${blob}.rbee-part` };
  const part = await PartFile.open(paths.partial, OPTIONS);
  await fill(part, CONTENT);
  return {
    ...{ root: folder.path, paths, part },
    names: async () => (await filesBelow(`${folder.path}/models--acme--tiny/blobs`)).sort(),
    /** As a process leaves it that is killed before the bytes are on the disk. */
    async leave(): Promise<void> {
      using _lost = patchFiles("syncData", () => () => new Promise(() => {}));
      await nameFile(paths, part.release());
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

/** Where a download came to lie; its bytes may still be on their way to the disk. */
async function namedPath(models: Models): Promise<string> {
  const { last } = await fetchNamed(models);
  if (last.stage === "complete") return last.local_path;
  throw new Error(JSON.stringify(last.error));
}

/** A disk that takes nothing until it is let go, which the end of its scope does at the latest. */
function stalledDisk(): Disposable & { letGo: () => void } {
  const { promise, resolve: letGo } = Promise.withResolvers<void>();
  const patched = patchFiles("syncData", (syncData) =>
    async function (this: Deno.FsFile) {
      await promise;
      await syncData.call(this);
    });
  return {
    letGo,
    [Symbol.dispose]() {
      letGo();
      patched[Symbol.dispose]();
    },
  };
}

/** The machine is started anew: the note is of the start before. */
async function reboot(blob: string): Promise<void> {
  await Deno.rename(notePath(blob), PartFile.mapPath(blob));
  changeHeader(blob, (header) => header.replace(/[0-9a-f-]{36}/, "00000000-1111-2222-3333-444444444444"));
  await Deno.rename(PartFile.mapPath(blob), notePath(blob));
}

Deno.test("a file has its name at once, and a note beside it until its bytes are on the disk", async () => {
  await using cache = await cacheWithFile();
  using disk = stalledDisk();
  const { settled } = await nameFile(cache.paths, cache.part.release());
  assertEquals(await cache.names(), ["abc", "abc.rbee-unsettled"]);
  assertEquals(await Deno.readFile(cache.paths.blob), CONTENT);
  assertEquals(await unsettledFiles(cache.root), [cache.paths]);
  disk.letGo();
  assertEquals(await settled, undefined);
  assertEquals(await cache.names(), ["abc"]);
  assertEquals(await unsettledFiles(cache.root), []);
});

Deno.test("a file whose bytes cannot be written is an unfinished one again", async () => {
  await using cache = await cacheWithFile();
  const error = systemError("EIO");
  using _broken = patchFiles("syncData", () => () => Promise.reject(error));
  const { settled } = await nameFile(cache.paths, cache.part.release());
  assertEquals(await settled, error);
  assertEquals(await cache.names(), ["abc.rbee-part", "abc.rbee-part.map"]);
  assertEquals(PartFile.keptBytes(cache.paths.partial, OPTIONS), OPTIONS.size);
});

Deno.test("a file that was removed while it was on its way to the disk stays removed", async () => {
  await using cache = await cacheWithFile();
  const { settled } = await nameFile(cache.paths, cache.part.release());
  for (const path of [cache.paths.blob, notePath(cache.paths.blob)]) {
    await Deno.remove(path).catch(() => {});
  }
  assertEquals(await settled, undefined);
  assertEquals(await cache.names(), []);
});

Deno.test("what a killed process left is brought to the disk as long as the machine runs", async () => {
  await using cache = await cacheWithFile();
  await cache.leave();
  let synced = 0;
  using _counted = patchFiles("syncData", (syncData) =>
    async function (this: Deno.FsFile) {
      await syncData.call(this);
      synced++;
    });
  assertEquals(await (await settleLeftOver(cache.paths)).settled, undefined);
  assertEquals([synced, await cache.names()], [1, ["abc"]]);
  assertEquals(await Deno.readFile(cache.paths.blob), CONTENT);
});

Deno.test("after a power cut such a file is unfinished, and only what was on the disk for sure counts", async () => {
  await using cache = await cacheWithFile();
  await cache.leave();
  await reboot(cache.paths.blob);
  assertEquals(await (await settleLeftOver(cache.paths)).settled, undefined);
  assertEquals(await cache.names(), ["abc.rbee-part", "abc.rbee-part.map"]);
  assertEquals(PartFile.keptBytes(cache.paths.partial, OPTIONS), 0);
});

Deno.test("a note that the power cut spoiled, and one without its file, vouch for nothing", async () => {
  await using cache = await cacheWithFile();
  await cache.leave();
  await Deno.writeFile(notePath(cache.paths.blob), new Uint8Array(500));
  await (await settleLeftOver(cache.paths)).settled;
  assertEquals(PartFile.keptBytes(cache.paths.partial, OPTIONS), 0);

  await Deno.rename(PartFile.mapPath(cache.paths.partial), notePath(cache.paths.blob));
  await (await settleLeftOver(cache.paths)).settled;
  assertEquals(await cache.names(), ["abc.rbee-part", "abc.rbee-part.map"]);
});

Deno.test("a model that a power cut left with holes is not used, and fetched anew", async () => {
  await using bed = await startBed();
  let blob: string;
  let note: Uint8Array;
  {
    using _disk = stalledDisk();
    blob = await Deno.realPath(await namedPath(bed.models));
    note = await Deno.readFile(notePath(blob));
  }
  const models = await bed.restart();
  await Deno.writeFile(notePath(blob), note);
  await reboot(blob);
  await Deno.writeFile(blob, new Uint8Array(tinyGguf().length));

  await models.start();
  assertEquals(await models.list(), []);
  assertEquals(await models.find(REF), undefined);
  assertEquals(await Deno.readFile(await fetchPath(models)), tinyGguf());
});

Deno.test("a hive does not wait for what the one before left, and is told to leave only when that is on the disk", async () => {
  await using cache = await cacheWithFile();
  await cache.leave();
  using disk = stalledDisk();
  await using bed = await startBed();
  const models = await bed.restart({ env: new Map([["HF_HUB_CACHE", cache.root], ["HOME", bed.path]]) });
  await models.start();
  assertEquals(await cache.names(), ["abc", "abc.rbee-unsettled"]);
  disk.letGo();
  await models.close();
  assertEquals(await cache.names(), ["abc"]);
});

Deno.test("a model that is removed on its way to the disk leaves nothing", async () => {
  await using bed = await startBed();
  using disk = stalledDisk();
  await namedPath(bed.models);
  await bed.models.remove(REF, { inUse: () => false });
  assertEquals((await filesBelow(bed.models.modelsDir)).filter((path) => !path.startsWith(".locks/")), []);
  disk.letGo();
  await bed.models.close();
  assertEquals((await filesBelow(bed.models.modelsDir)).filter((path) => !path.startsWith(".locks/")), []);
});

Deno.test("what turns out to be no model on its way to the disk leaves nothing either", async () => {
  const files = { [FILE]: new TextEncoder().encode("<html>") };
  await using bed = await startBed({ hub: { repos: { [REPO]: { files } } } });
  using disk = stalledDisk();
  const { last } = await fetchNamed(bed.models);
  assertEquals(last.stage === "error" && last.error.code, "INVALID_MODEL");
  assertEquals(await filesBelow(bed.repoFolder), ["refs/main"]);
  disk.letGo();
  await bed.models.close();
  assertEquals(await filesBelow(bed.repoFolder), ["refs/main"]);
});

Deno.test("a hive that leaves waits for what is on its way to the disk", async () => {
  await using bed = await startBed();
  using disk = stalledDisk();
  await namedPath(bed.models);
  let closed = false;
  const closing = bed.models.close().then(() => closed = true);
  const blobs = `${bed.repoFolder}/blobs`;
  assertEquals((await filesBelow(blobs)).length, 2);
  assert(!closed);
  disk.letGo();
  await closing;
  assertEquals((await filesBelow(blobs)).length, 1);
});
