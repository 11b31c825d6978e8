import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { RbeeError } from "../../protocol/errors.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { SYNC_BYTES } from "./limits.ts";
import { PartFile } from "./part_file.ts";
import {
  changeHeader,
  claimed,
  contentOf,
  deliver,
  fill,
  isSame,
  openBytes,
  patchFiles,
  rebooted,
  storedBitmap,
  systemError,
  tempFolder,
} from "./part_file_test_bed.ts";

const OPTIONS = { size: 10_250, chunkBytes: 500 };
const CONTENT = contentOf(OPTIONS.size);
/** What a connection holds that is not in the file yet: one buffer being filled, one being written. */
const UNWRITTEN_BYTES = 2 * 256 * 1024;

/** The first 4,000 bytes come. */
async function begin(part: PartFile): Promise<void> {
  await part.receive(0, deliver(CONTENT, { range: { start: 0, end: 4_000 }, pieceBytes: [1_000] }));
}

/** They came to a file at `path`. */
async function begun(path: string): Promise<void> {
  using part = await PartFile.open(path, OPTIONS);
  await begin(part);
}

/** A file just over what is noted at once, all of it said to be there but the first chunk and the last two. */
async function nearlyNoted(path: string) {
  const options = { size: SYNC_BYTES + 2 * 65_536, chunkBytes: 65_536 };
  const part = await PartFile.open(path, options);
  // The holes of the file cost nothing.
  for (let at = options.chunkBytes; at < SYNC_BYTES; at += options.chunkBytes) part.map.mark(at);
  const bring = async (start: number) => {
    const range = { start, end: start + options.chunkBytes };
    const content = contentOf(options.chunkBytes);
    const read = deliver(content, { range: { start: 0, end: content.length }, pieceBytes: [20_000] });
    await part.receive(range.start, read);
  };
  /** What would count had the machine been started anew. */
  const notedBytes = () => {
    Deno.copyFileSync(PartFile.mapPath(path), PartFile.mapPath(`${path}2`));
    rebooted(`${path}2`);
    using there = Deno.openSync(`${path}2`, { create: true, write: true });
    there.truncateSync(options.size);
    return PartFile.keptBytes(`${path}2`, options);
  };
  return { part, bring, notedBytes, options };
}

/** The disk takes its time with `syncData` until it is told how that ends. */
function heldSync() {
  const asked = Promise.withResolvers<void>();
  const end = Promise.withResolvers<void>();
  const patch = patchFiles("syncData", () => () => {
    asked.resolve();
    return end.promise;
  });
  return { asked: asked.promise, end, [Symbol.dispose]: () => patch[Symbol.dispose]() };
}

/** All that is due has been done. */
const macrotask = () => new Promise((resolve) => setTimeout(resolve));

Deno.test("whenever a process is killed, its map claims what is in the file, and nearly all that came", async () => {
  const size = 2_000_000;
  const content = contentOf(size);
  const pieceBytes = fc.array(fc.integer({ min: 20_000, max: 300_000 }), { minLength: 1, maxLength: 3 });
  // Twelve pieces are the fewest there can be.
  const moments = fc.uniqueArray(fc.nat(11), { minLength: 3, maxLength: 3 });
  const property = fc.asyncProperty(
    fc.constantFrom(500, 65_536),
    fc.array(pieceBytes, { minLength: 3, maxLength: 3 }),
    moments,
    async (chunkBytes, connections, killedAt) => {
      await using folder = await tempFolder();
      const path = `${folder.path}/x`;
      const options = { size, chunkBytes };
      using part = await PartFile.open(path, options);
      const kills: { path: string; receivedBytes: number }[] = [];
      let pieces = 0;
      const onPiece = () => {
        if (!killedAt.includes(pieces++ % 24)) return;
        const copy = `${folder.path}/${pieces}`;
        // Nothing is entered into the map in between.
        Deno.copyFileSync(path, copy);
        Deno.copyFileSync(PartFile.mapPath(path), PartFile.mapPath(copy));
        kills.push({ path: copy, receivedBytes: part.receivedBytes });
      };
      await Promise.all(connections.map(async (pieceBytes) => {
        const range = part.map.take(655_360)!;
        await part.receive(range.start, deliver(content, { range, pieceBytes, onPiece }));
      }));
      assert(kills.length >= killedAt.length);
      for (const { path, receivedBytes } of kills) {
        using after = await PartFile.open(path, options);
        claimed(after, { path, content });
        const lostBytes = receivedBytes - after.map.haveBytes;
        assert(lostBytes <= connections.length * UNWRITTEN_BYTES, `${lostBytes} bytes are lost`);
        await fill(after, content);
        assert(isSame(Deno.readFileSync(path), content));
      }
    },
  );
  await fc.assert(property, { numRuns: 8 });
});

Deno.test("after another start of the machine, what was written and never noted as on the disk does not count", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x`;
  await begun(path);
  assertEquals(await openBytes(path, OPTIONS), 4_000);
  // Opening it did not bring anything to the disk.
  rebooted(path);
  assertEquals(await openBytes(path, OPTIONS), 0);
  assertEquals(await openBytes(path, OPTIONS), 0);
});

Deno.test("what has been noted as on the disk counts after another start, and only that", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x`;
  const { part, bring, notedBytes, options } = await nearlyNoted(path);
  using _ = part;
  {
    using sync = heldSync();
    await bring(0);
    await sync.asked;
    await bring(SYNC_BYTES);
    assertEquals(notedBytes(), 0);
    sync.end.resolve();
    await eventually("the note is made", () => notedBytes() === SYNC_BYTES);
  }
  await bring(SYNC_BYTES + options.chunkBytes);
  assert(part.map.complete);
  await macrotask();
  assertEquals(notedBytes(), SYNC_BYTES);

  part[Symbol.dispose]();
  rebooted(path);
  assertEquals(await openBytes(path, options), SYNC_BYTES);
  rebooted(path);
  assertEquals(await openBytes(path, options), SYNC_BYTES);
  // An earlier process need not have come to make a note, so the next one begins with that.
  const next = await nearlyNoted(path);
  using _next = next.part;
  await next.bring(SYNC_BYTES);
  await eventually("the next note is made", () => next.notedBytes() === SYNC_BYTES + options.chunkBytes);
});

Deno.test("a disk that fails to take the bytes leaves the note as it was", async () => {
  await using folder = await tempFolder();
  const { part, bring, notedBytes } = await nearlyNoted(`${folder.path}/x`);
  using _ = part;
  using sync = heldSync();
  await bring(0);
  await sync.asked;
  sync.end.reject(systemError("EIO"));
  await macrotask();
  assertEquals(notedBytes(), 0);
});

Deno.test("a note that cannot be written costs the note, not the process", async () => {
  await using folder = await tempFolder();
  const { part, bring, notedBytes } = await nearlyNoted(`${folder.path}/x`);
  using _ = part;
  using sync = heldSync();
  await bring(0);
  await sync.asked;
  using _bad = patchFiles("writeSync", () => () => {
    throw systemError("EIO");
  });
  sync.end.resolve();
  await macrotask();
  assertEquals(notedBytes(), 0);
});

Deno.test("a note that was on its way when the file was begun anew is not made", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x`;
  const { part, bring, notedBytes, options } = await nearlyNoted(path);
  using _ = part;
  using sync = heldSync();
  await bring(0);
  await sync.asked;
  await part.restart();
  sync.end.resolve();
  await macrotask();
  assertEquals(notedBytes(), 0);
  assert(storedBitmap(path, 0, options).every((byte) => byte === 0));
});

for (const isNew of [true, false]) {
  const what = isNew ? "a new file" : "a file of another start of the machine";
  Deno.test(`a process that is killed while it opens ${what} leaves a map that claims nothing it should not`, async () => {
    for (let killedAt = 1;; killedAt++) {
      await using folder = await tempFolder();
      const path = `${folder.path}/x`;
      if (isNew) {
        // A map of other sizes, and its file.
        (await PartFile.open(path, { ...OPTIONS, size: 5_000 }))[Symbol.dispose]();
      } else {
        await begun(path);
        rebooted(path);
      }
      let writes = 0;
      {
        using _killed = patchFiles("writeSync", (writeSync) =>
          function (this: Deno.FsFile, bytes) {
            if (++writes === killedAt) throw new Error("killed");
            return writeSync.call(this, bytes);
          });
        const opened = await PartFile.open(path, OPTIONS).catch(() => undefined);
        opened?.[Symbol.dispose]();
        if (opened !== undefined) break;
      }
      assertEquals(await openBytes(path, OPTIONS), 0);
    }
  });
}

Deno.test("a map that is cut short, longer, or of something else counts for nothing, and is begun anew", async () => {
  const mapBytes = 128 + 2 * 3;
  const headerBytes = `rbee-map-1 ${OPTIONS.size} ${OPTIONS.chunkBytes}`.length;
  const damage = fc.oneof(
    fc.nat(mapBytes + 100).map((length) => ({ kind: "length", length }) as const),
    fc.record({
      kind: fc.constant("flip" as const),
      at: fc.nat(headerBytes - 1),
      bit: fc.nat(7),
    }),
  );
  await fc.assert(
    fc.asyncProperty(damage, async (change) => {
      fc.pre(change.kind === "flip" || change.length !== mapBytes);
      await using folder = await tempFolder();
      const path = `${folder.path}/x`;
      await begun(path);
      const map = Deno.readFileSync(PartFile.mapPath(path));
      assertEquals(map.length, mapBytes);
      if (change.kind === "flip") map[change.at] ^= 1 << change.bit;
      const changed = new Uint8Array(change.kind === "flip" ? mapBytes : change.length);
      changed.set(map.subarray(0, changed.length));
      Deno.writeFileSync(PartFile.mapPath(path), changed);

      assertEquals(await openBytes(path, OPTIONS), 0);
      assertEquals(Deno.readFileSync(path), new Uint8Array(OPTIONS.size));
      assertEquals(Deno.statSync(PartFile.mapPath(path)).size, mapBytes);
      await begun(path);
      assertEquals(await openBytes(path, OPTIONS), 4_000);
    }),
    { numRuns: 60 },
  );
});

Deno.test("a map of another size, of file or chunk, counts for nothing", async () => {
  for (const other of [{ size: 10_251 }, { size: 10_249 }, { chunkBytes: 501 }, { chunkBytes: 499 }]) {
    await using folder = await tempFolder();
    const path = `${folder.path}/x`;
    await begun(path);
    const options = { ...OPTIONS, ...other };
    assertEquals(await openBytes(path, options), 0);
    assertEquals(Deno.readFileSync(path), new Uint8Array(options.size));
    assertEquals(await openBytes(path, OPTIONS), 0);
  }
});

for (const sizeNow of [undefined, 0, OPTIONS.size - 1, OPTIONS.size + 1]) {
  Deno.test(`a file that is ${sizeNow === undefined ? "gone" : `${sizeNow} bytes long`} has nothing of what its map says`, async () => {
    await using folder = await tempFolder();
    const path = `${folder.path}/x`;
    await begun(path);
    if (sizeNow === undefined) await Deno.remove(path);
    else await Deno.truncate(path, sizeNow);
    assertEquals(await openBytes(path, OPTIONS), 0);
    assertEquals(Deno.readFileSync(path), new Uint8Array(OPTIONS.size));
  });
}

Deno.test("a file without a map has nothing, and neither has a map without a file", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x`;
  assertEquals(PartFile.keptBytes(path, OPTIONS), 0);
  await Deno.writeFile(path, CONTENT);
  assertEquals(await openBytes(path, OPTIONS), 0);
  assertEquals(Deno.readFileSync(path), new Uint8Array(OPTIONS.size));
  await begun(path);
  await Deno.remove(path);
  assertEquals(PartFile.keptBytes(path, OPTIONS), 0);
});

Deno.test("a map of another format counts for nothing", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x`;
  await begun(path);
  changeHeader(path, (header) => header.replace("rbee-map-1 ", "rbee-map-2 "));
  assertEquals(await openBytes(path, OPTIONS), 0);
});

for (const isNew of [true, false]) {
  Deno.test(`a disk with no room for the map of ${isNew ? "a new file" : "what came"} is INSUFFICIENT_DISK, and both files go`, async () => {
    await using folder = await tempFolder();
    const path = `${folder.path}/x`;
    const part = isNew ? undefined : await PartFile.open(path, OPTIONS);
    using _full = patchFiles("writeSync", () => () => {
      throw systemError("ENOSPC");
    });
    const error = await assertRejects(() => part === undefined ? begun(path) : begin(part), RbeeError);
    assertEquals([error.code, error.details.required_mb], ["INSUFFICIENT_DISK", 1]);
    assertEquals(await Array.fromAsync(Deno.readDir(folder.path)), []);
  });
}
