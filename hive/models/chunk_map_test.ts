import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { type ByteRange, ChunkMap } from "./chunk_map.ts";

/** Small, so that every way a last chunk can be short comes up, and no chunk at all. */
const sizes = fc.record({ size: fc.nat(120), chunkBytes: fc.integer({ min: 1, max: 9 }) });
type Sizes = { size: number; chunkBytes: number };

/** What a map is held against: one flag for each chunk, and every number counted anew. */
class PlainMap {
  there: boolean[];
  taken: boolean[];

  constructor(readonly sizes: Sizes) {
    this.there = Array(Math.ceil(sizes.size / sizes.chunkBytes)).fill(false);
    this.taken = this.there.slice();
  }

  range(first: number, end: number): ByteRange {
    const { size, chunkBytes } = this.sizes;
    return { start: first * chunkBytes, end: Math.min(size, end * chunkBytes) };
  }

  take(maxBytes: number): ByteRange | undefined {
    const free = this.there.map((there, chunk) => !there && !this.taken[chunk]);
    const first = free.indexOf(true);
    if (first === -1) return undefined;
    let end = first + 1;
    while (free[end] && (end + 1 - first) * this.sizes.chunkBytes <= maxBytes) end++;
    this.taken.fill(true, first, end);
    return this.range(first, end);
  }

  release({ start, end }: ByteRange): void {
    const { chunkBytes } = this.sizes;
    this.taken.fill(false, start / chunkBytes, Math.ceil(end / chunkBytes));
  }

  get facts() {
    const lengths = this.there.map((_, chunk) => {
      const { start, end } = this.range(chunk, chunk + 1);
      return end - start;
    });
    const sum = (chunks: number[]) => chunks.reduce((all, length) => all + length, 0);
    const gap = this.there.indexOf(false);
    return {
      haveBytes: sum(lengths.filter((_, chunk) => this.there[chunk])),
      frontierBytes: sum(gap === -1 ? lengths : lengths.slice(0, gap)),
      complete: gap === -1,
      there: this.there,
    };
  }
}

function factsOf(map: ChunkMap, { size, chunkBytes }: Sizes) {
  const { haveBytes, frontierBytes, complete, bitmap } = map;
  assertEquals(bitmap.length, ChunkMap.bitmapBytes(size, chunkBytes));
  const bits = Array.from(bitmap).flatMap((byte) =>
    Array.from({ length: 8 }, (_, at) => (byte >> at & 1) === 1)
  );
  const count = Math.ceil(size / chunkBytes);
  assertEquals(bits.indexOf(true, count), -1, "bits beyond the last chunk");
  return { haveBytes, frontierBytes, complete, there: bits.slice(0, count) };
}

/** The chunks of `there`, numbered as fast-check likes it, in a map of these sizes. */
function mapWith(there: readonly number[], at: Sizes): ChunkMap {
  const map = new ChunkMap(at.size, at);
  const count = Math.ceil(at.size / at.chunkBytes);
  if (count > 0) { for (const chunk of there) map.mark(chunk % count * at.chunkBytes); }
  return map;
}

Deno.test("whatever is taken, given back, marked and forgotten, a map is what a list of flags would be", () => {
  // Forgetting ends what the others build up, so it is rare.
  const kind = fc.constantFrom(...Array(4).fill(["take", "release", "mark"]).flat(), "clear");
  const step = fc.record({ kind, value: fc.nat(120) });
  fc.assert(
    fc.property(sizes, fc.array(step, { maxLength: 60 }), (at, steps) => {
      const map = new ChunkMap(at.size, at);
      let plain = new PlainMap(at);
      let held: ByteRange[] = [];
      for (const { kind, value } of steps) {
        if (kind === "take") {
          const range = map.take(value);
          assertEquals(range, plain.take(value));
          if (range !== undefined) held.push(range);
        } else if (kind === "release" && held.length > 0) {
          const [range] = held.splice(value % held.length, 1);
          map.release(range);
          plain.release(range);
        } else if (kind === "mark" && plain.there.length > 0) {
          const chunk = value % plain.there.length;
          assertEquals(map.mark(chunk * at.chunkBytes), chunk >> 3);
          plain.there[chunk] = true;
        } else if (kind === "clear") {
          map.clear();
          plain = new PlainMap(at);
          held = [];
        }
        assertEquals(factsOf(map, at), plain.facts);
      }
    }),
    { numRuns: 300 },
  );
});

Deno.test("takers that fail and go on never hold the same byte, and together fetch each byte once", () => {
  const brings = fc.option(fc.nat(20), { nil: Infinity });
  const turns = fc.array(fc.record({ taker: fc.nat(4), maxBytes: fc.nat(40), brings }), { maxLength: 40 });
  fc.assert(fc.property(sizes, turns, (at, schedule) => {
    const map = new ChunkMap(at.size, at);
    const held = new Map<number, ByteRange>();
    const fetched = new Uint8Array(at.size);
    const turn = (taker: number, options: { maxBytes: number; brings: number }) => {
      const range = held.get(taker);
      if (range === undefined) {
        const taken = map.take(options.maxBytes);
        if (taken === undefined) return;
        for (const { start, end } of held.values()) assert(taken.end <= start || end <= taken.start);
        held.set(taker, taken);
        return;
      }
      for (let at = range.start; at < Math.min(range.end, range.start + options.brings);) {
        const { start, end } = map.chunkAt(at);
        map.mark(start);
        for (let byte = start; byte < end; byte++) fetched[byte]++;
        at = end;
      }
      map.release(range);
      held.delete(taker);
    };
    for (const { taker, ...options } of schedule) turn(taker, options);
    // Then they bring the rest: one turn takes a part of ten bytes or a chunk, the next one brings it.
    for (let turns = 0; turns < 2 * (at.size + 5); turns++) {
      turn(turns % 5, { maxBytes: 10, brings: Infinity });
    }
    assert(map.complete);
    assertEquals(fetched, new Uint8Array(at.size).fill(1));
    assertEquals(map.take(1), undefined);
  }));
});

Deno.test("a map made from another one's bitmap has the same chunks, and nobody has taken any", () => {
  fc.assert(fc.property(sizes, fc.array(fc.nat(120)), (at, there) => {
    const map = mapWith(there, at);
    const before = factsOf(map, at);
    const taken = map.take(at.size);
    const again = new ChunkMap(at.size, { ...at, there: map.bitmap.slice() });
    assertEquals(factsOf(again, at), before);
    assertEquals(again.take(at.size), taken);
  }));
});

Deno.test("a map does not change with the bitmap it was made from, and claims no chunk beyond the file", () => {
  fc.assert(fc.property(sizes, (at) => {
    const all = new Uint8Array(ChunkMap.bitmapBytes(at.size, at.chunkBytes)).fill(255);
    const map = new ChunkMap(at.size, { ...at, there: all });
    all.fill(0);
    const { haveBytes, frontierBytes, complete, there } = factsOf(map, at);
    assertEquals([haveBytes, frontierBytes, complete], [at.size, at.size, true]);
    assert(there.every((bit) => bit));
  }));
});

Deno.test("every byte lies in the chunk that a map says", () => {
  fc.assert(fc.property(sizes, fc.nat(119), (at, offset) => {
    fc.pre(offset < at.size);
    const { start, end } = new ChunkMap(at.size, at).chunkAt(offset);
    assertEquals(start % at.chunkBytes, 0);
    assert(start <= offset && offset < end && end <= at.size);
    assert(end - start === at.chunkBytes || end === at.size);
  }));
});

Deno.test("an empty file lacks nothing", () => {
  const map = new ChunkMap(0, { chunkBytes: 4 });
  assertEquals([map.complete, map.haveBytes, map.frontierBytes, map.bitmap.length], [true, 0, 0, 0]);
  assertEquals(map.take(100), undefined);
  map.clear();
  assert(map.complete);
});

Deno.test("a file of one byte is one chunk, however little is asked for", () => {
  const map = new ChunkMap(1, { chunkBytes: 64 * 1024 });
  assertEquals(map.take(0), { start: 0, end: 1 });
  assertEquals(map.take(0), undefined);
  map.release({ start: 0, end: 1 });
  assertEquals(map.take(1e9), { start: 0, end: 1 });
  assertEquals(map.mark(0), 0);
  assertEquals([map.haveBytes, map.frontierBytes, map.complete], [1, 1, true]);
});

Deno.test("a chunk that is marked twice counts once", () => {
  const map = new ChunkMap(10, { chunkBytes: 4 });
  for (const offset of [8, 8, 0, 0]) map.mark(offset);
  assertEquals([map.haveBytes, map.frontierBytes], [6, 4]);
});
