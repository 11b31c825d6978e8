import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import fc from "fast-check";
import { RbeeError } from "../../protocol/errors.ts";
import { eventually } from "../../tests/helpers/eventually.ts";
import { PartFile, readBootId } from "./part_file.ts";
import {
  BROKEN,
  claimed,
  contentOf,
  deliver,
  fill,
  isSame,
  joined,
  named,
  openBytes,
  patchFiles,
  systemError,
  tempFolder,
} from "./part_file_test_bed.ts";

const OPTIONS = { size: 10_250, chunkBytes: 500 };
const CONTENT = contentOf(OPTIONS.size);

/** Sizes on both sides of a write's buffer, with a last chunk of any length. */
const files = fc.record({
  size: fc.oneof(fc.nat(3_000), fc.nat(900_000)),
  chunkBytes: fc.constantFrom(3, 500, 4_096, 65_536),
});

const connections = fc.array(
  fc.record({
    partBytes: fc.oneof(fc.nat(2_000), fc.nat(600_000)),
    // The last one keeps small pieces from being all there is.
    pieceBytes: fc.array(fc.integer({ min: 1, max: 300_000 }), { maxLength: 4 }).map((
      list,
    ) => [...list, 50_000]),
    breaksAfter: fc.option(fc.oneof(fc.nat(2_000), fc.nat(600_000)), { nil: Infinity }),
  }),
  { minLength: 1, maxLength: 4 },
);

async function namesIn(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
}

Deno.test("parts that come side by side and break off anywhere leave the whole chunks that came, no more and no less", async () => {
  await fc.assert(
    fc.asyncProperty(files, connections, fc.boolean(), async (options, deliveries, isKilled) => {
      await using folder = await tempFolder();
      const path = `${folder.path}/x`;
      const content = contentOf(options.size);
      using part = await PartFile.open(path, options);
      const parts = deliveries.flatMap(({ partBytes, ...delivery }) => {
        const range = part.map.take(partBytes);
        return range === undefined ? [] : [{ range, ...delivery }];
      });
      const ends = await Promise.allSettled(
        parts.map((one) => part.receive(one.range.start, deliver(content, one))),
      );
      const came = parts.map(({ range: { start, end }, breaksAfter }) => {
        return { start, end: Math.min(end, start + breaksAfter), isWhole: breaksAfter >= end - start };
      });
      assertEquals(
        ends.map((end) => end.status === "rejected" ? end.reason : undefined),
        came.map(({ isWhole }) => isWhole ? undefined : BROKEN),
      );
      const there = claimed(part, { path, content });
      const whole = came.map(({ start, end }) => {
        return { start, end: end === options.size ? end : end - end % options.chunkBytes };
      });
      assertEquals(there, joined(whole.filter(({ start, end }) => end > start)));
      assertEquals(part.receivedBytes, part.map.haveBytes);

      if (!isKilled) part[Symbol.dispose]();
      assertEquals(PartFile.keptBytes(path, options), part.map.haveBytes);
      using again = await PartFile.open(path, options);
      assertEquals(claimed(again, { path, content }), there);
      await fill(again, content);
      assert(again.map.complete);
      await named(again, { blob: `${folder.path}/done`, partial: path });
      assert(isSame(Deno.readFileSync(`${folder.path}/done`), content));
      assertEquals(await namesIn(folder.path), ["done"]);
    }),
    { numRuns: 40 },
  );
});

Deno.test("bytes count as received from the moment they are handed over", async () => {
  await using folder = await tempFolder();
  using part = await PartFile.open(`${folder.path}/x`, OPTIONS);
  const counts: number[] = [];
  const read = deliver(CONTENT, { range: { start: 0, end: 4_000 }, pieceBytes: [1_500] });
  await part.receive(0, read, { onReceived: () => void counts.push(part.receivedBytes) });
  assertEquals(counts, [1_500, 3_000, 4_000]);
  const broken = deliver(CONTENT, {
    range: { start: 4_000, end: 6_000 },
    pieceBytes: [700],
    breaksAfter: 700,
  });
  await assertRejects(() => part.receive(4_000, broken), Error, BROKEN.message);
  assertEquals(part.receivedBytes, 4_500);
});

Deno.test("what comes slowly is written after half a second, not before", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x`;
  using part = await PartFile.open(path, OPTIONS);
  const { now } = performance;
  // Without fractions, so that the sums are exact.
  let nowMs = Math.ceil(now.call(performance));
  performance.now = () => nowMs;
  try {
    let pieces = 0;
    const onPiece = async () => {
      pieces++;
      if (pieces === 2) nowMs += 499;
      if (pieces === 3) {
        assertEquals(PartFile.keptBytes(path, OPTIONS), 0);
        nowMs += 1;
      }
      if (pieces !== 4) return;
      performance.now = now;
      await eventually("three pieces are kept", () => PartFile.keptBytes(path, OPTIONS) === 1_500);
    };
    const range = { start: 0, end: 2_000 };
    await part.receive(0, deliver(CONTENT, { range, pieceBytes: [500], onPiece }));
    assertEquals(pieces, 5);
  } finally {
    performance.now = now;
  }
});

Deno.test("a system that writes fewer bytes than it was given is given the rest", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x`;
  using part = await PartFile.open(path, OPTIONS);
  using _short = patchFiles("write", (write) =>
    function (this: Deno.FsFile, bytes) {
      return write.call(this, bytes.subarray(0, Math.ceil(bytes.length / 3)));
    });
  await fill(part, CONTENT);
  assertEquals(Deno.readFileSync(path), CONTENT);
});

for (const code of ["ENOSPC", "EDQUOT"] as const) {
  Deno.test(`a disk that is full (${code}) for one of several parts is INSUFFICIENT_DISK, and both files go`, async () => {
    await using folder = await tempFolder();
    const size = 15_000_000;
    using part = await PartFile.open(`${folder.path}/x`, { size, chunkBytes: 500 });
    let writes = 0;
    using _full = patchFiles("write", (write) =>
      function (this: Deno.FsFile, bytes) {
        if (++writes === 1) return write.call(this, bytes);
        assertEquals(writes, 2, "nothing is written to a file that was given up");
        return Promise.reject(systemError(code));
      });
    const ranges = [0, 1, 2].map((at) => ({ start: at * 1_000_000, end: (at + 1) * 1_000_000 }));
    const ends = await Promise.allSettled(
      ranges.map((range) =>
        part.receive(range.start, deliver(contentOf(3_000_000), { range, pieceBytes: [100_000] }))
      ),
    );
    const [error, ...more] = ends.flatMap((end) => end.status === "rejected" ? [end.reason] : []);
    assert(error instanceof RbeeError);
    assertEquals([error.code, more], ["INSUFFICIENT_DISK", []]);
    assertEquals(error.details.required_mb, 15);
    assert(Number(error.details.available_mb) > 0);
    assertEquals(await namesIn(folder.path), []);
    await part.discard();
  });
}

/** A large file, the first of whose bytes come; `onWrite` is told of every piece that is written at once. */
async function receiveLarge(path: string, onWrite: (count: number) => void): Promise<{ handedOver: number }> {
  const size = 20_000_000;
  using part = await PartFile.open(path, { size, chunkBytes: 65_536 });
  let pieces = 0;
  let handedOver = 0;
  using _atOnce = patchFiles("writeSync", (writeSync) =>
    function (this: Deno.FsFile, bytes) {
      // What is smaller is of the map.
      if (bytes.length === 65_536) onWrite(++pieces);
      return writeSync.call(this, bytes);
    });
  using _later = patchFiles("write", (write) =>
    function (this: Deno.FsFile, bytes) {
      handedOver += bytes.length;
      return write.call(this, bytes);
    });
  const content = contentOf(1_048_576);
  const range = { start: 0, end: content.length };
  await part.receive(0, deliver(content, { range, pieceBytes: [100_000] }));
  assert(isSame(Deno.readFileSync(path).subarray(0, content.length), content));
  assertEquals(part.map.haveBytes, content.length);
  return { handedOver };
}

Deno.test("a large file is written in pieces at once, until the disk lets us wait", async () => {
  await using folder = await tempFolder();
  const pieces: number[] = [];
  assertEquals((await receiveLarge(`${folder.path}/x`, (count) => pieces.push(count))).handedOver, 0);
  assertEquals(pieces.length, 16);

  const { now } = performance;
  let waitedMs = 0;
  performance.now = () => waitedMs;
  try {
    const waits = (count: number) => void (waitedMs += count === 6 ? 25 : 24);
    const { handedOver } = await receiveLarge(`${folder.path}/y`, waits);
    assertEquals(handedOver, 1_048_576 - 6 * 65_536);
  } finally {
    performance.now = now;
  }
});

Deno.test("a disk that is full for a large file is INSUFFICIENT_DISK too", async () => {
  await using folder = await tempFolder();
  const full = (count: number) => {
    if (count === 6) throw systemError("ENOSPC");
  };
  const error = await assertRejects(() => receiveLarge(`${folder.path}/x`, full), RbeeError);
  assertEquals([error.code, error.details.required_mb], ["INSUFFICIENT_DISK", 20]);
  assertEquals(await namesIn(folder.path), []);
});

Deno.test("another failure of the disk is told as it is, and what came before is kept", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x`;
  using part = await PartFile.open(path, OPTIONS);
  const range = { start: 0, end: 2_000 };
  await part.receive(0, deliver(CONTENT, { range, pieceBytes: [2_000] }));
  {
    using _bad = patchFiles("write", () => () => Promise.reject(systemError("EIO")));
    const more = deliver(CONTENT, { range: { start: 2_000, end: 4_000 }, pieceBytes: [2_000] });
    await assertRejects(() => part.receive(2_000, more), Error, "EIO");
  }
  assertEquals(claimed(part, { path, content: CONTENT }), [{ start: 0, end: 2_000 }]);
  await fill(part, CONTENT);
  assertEquals(Deno.readFileSync(path), CONTENT);
});

Deno.test("a new beginning forgets everything, and other bytes take the place", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x`;
  const other = contentOf(OPTIONS.size, 2);
  {
    using part = await PartFile.open(path, OPTIONS);
    await fill(part, CONTENT);
    await part.restart();
    assertEquals([part.map.haveBytes, part.receivedBytes], [0, 0]);
    assertEquals(Deno.readFileSync(path), new Uint8Array(OPTIONS.size));
    assertEquals(PartFile.keptBytes(path, OPTIONS), 0);
    const range = part.map.take(1_000)!;
    assertEquals(range, { start: 0, end: 1_000 });
    await part.receive(0, deliver(other, { range, pieceBytes: [300] }));
  }
  using again = await PartFile.open(path, OPTIONS);
  assertEquals(claimed(again, { path, content: other }), [{ start: 0, end: 1_000 }]);
  await fill(again, other);
  assertEquals(Deno.readFileSync(path), other);
});

Deno.test("who hands the file over has nothing more to do with it", async () => {
  await using folder = await tempFolder();
  const paths = { blob: `${folder.path}/deep/er/done`, partial: `${folder.path}/deep/er/x` };
  using part = await PartFile.open(paths.partial, OPTIONS);
  await fill(part, CONTENT);
  await named(part, paths);
  // Whoever tidies up afterwards does no harm.
  await part.discard();
  part[Symbol.dispose]();
  assertEquals(await namesIn(`${folder.path}/deep/er`), ["done"]);
  assertEquals(Deno.readFileSync(paths.blob), CONTENT);
  assertEquals(PartFile.keptBytes(paths.partial, OPTIONS), 0);
});

Deno.test("a file that is discarded is gone, and can be begun anew", async () => {
  await using folder = await tempFolder();
  const path = `${folder.path}/x`;
  const part = await PartFile.open(path, OPTIONS);
  await fill(part, CONTENT);
  await part.discard();
  await part.discard();
  assertEquals(await namesIn(folder.path), []);
  assertEquals(await openBytes(path, OPTIONS), 0);
});

for (const size of [0, 1]) {
  Deno.test(`a file of ${size} bytes is received like any other`, async () => {
    await using folder = await tempFolder();
    const path = `${folder.path}/x`;
    const options = { size, chunkBytes: 500 };
    using part = await PartFile.open(path, options);
    assertEquals([part.map.complete, PartFile.keptBytes(path, options)], [size === 0, 0]);
    await fill(part, contentOf(size));
    assertEquals(PartFile.keptBytes(path, options), size);
    await named(part, { blob: `${folder.path}/done`, partial: path });
    assertEquals(Deno.readFileSync(`${folder.path}/done`), contentOf(size));
  });
}

Deno.test("two boots of which the system tells nothing are not the same one", () => {
  assertNotEquals(readBootId("/nowhere/boot_id"), readBootId("/nowhere/boot_id"));
  if (Deno.build.os === "linux") assertEquals(readBootId(), readBootId());
});
