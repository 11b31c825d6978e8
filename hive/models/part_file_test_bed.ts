/** What the tests of part files stand on: content without holes, connections that break off, a disk that fails. */
import { assert, assertEquals } from "@std/assert";
import { type ByteRange, ChunkMap } from "./chunk_map.ts";
import { PartFile, type PartFileOptions } from "./part_file.ts";
import { type FilePaths, nameFile } from "./unsettled.ts";

/** As `assertEquals`, which takes long for a million bytes. */
export function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

/** A folder of one test, removed with all that is in it. */
export async function tempFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = await Deno.makeTempDir({ prefix: "rbee-test-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** Bytes that no hole has and that are hardly the same in two places; others for each seed. */
export function contentOf(size: number, seed = 1): Uint8Array {
  const content = new Uint8Array(size);
  for (let at = 0; at < size; at++) content[at] = 1 + (Math.imul(at ^ seed << 24, 2654435761) >>> 12) % 255;
  return content;
}

/** How a connection brings its part. */
export interface Delivery {
  /** Sizes of its pieces, over and over. */
  pieceBytes: readonly number[];
  /** Fails after so many bytes; undefined: never. */
  breaksAfter?: number;
  /** Called before each piece. */
  onPiece?: () => void | Promise<void>;
}

/** What a connection fails with. */
export const BROKEN = new Error("the connection broke");

/** For {@linkcode PartFile.receive}: a part of `content`, all of it in the same memory, as a reader gives it. */
export function deliver(
  content: Uint8Array,
  { range, pieceBytes, breaksAfter = Infinity, onPiece }: Delivery & { range: ByteRange },
): () => Promise<Uint8Array | undefined> {
  const room = new Uint8Array(Math.max(...pieceBytes));
  let at = range.start;
  let count = 0;
  return async () => {
    await onPiece?.();
    room.fill(0);
    if (at === range.end) return undefined;
    if (at - range.start >= breaksAfter) throw BROKEN;
    const end = Math.min(at + pieceBytes[count++ % pieceBytes.length], range.end, range.start + breaksAfter);
    const piece = content.subarray(at, end);
    room.set(piece);
    at = end;
    return room.subarray(0, piece.length);
  };
}

/** Brings all that is missing. */
export async function fill(part: PartFile, content: Uint8Array): Promise<void> {
  for (let range = part.map.take(Infinity); range !== undefined; range = part.map.take(Infinity)) {
    await part.receive(range.start, deliver(content, { range, pieceBytes: [10_000] }));
  }
}

/** Gives the file of `part`, which is all there, its name, and waits for the disk. */
export async function named(part: PartFile, paths: FilePaths): Promise<void> {
  const { settled } = await nameFile(paths, part.release());
  assertEquals(await settled, undefined);
}

/** Ranges that touch become one. */
export function joined(ranges: readonly ByteRange[]): ByteRange[] {
  const whole: ByteRange[] = [];
  for (const { start, end } of ranges.toSorted((a, b) => a.start - b.start)) {
    const last = whole.at(-1);
    if (last?.end === start) last.end = end;
    else whole.push({ start, end });
  }
  return whole;
}

/** What the map of `part` claims, joined; fails unless all of it is in the file, and right. */
export function claimed(part: PartFile, at: { path: string; content: Uint8Array }): ByteRange[] {
  const bytes = Deno.readFileSync(at.path);
  assertEquals(bytes.length, at.content.length);
  const chunks: ByteRange[] = [];
  const { size, bitmap } = part.map;
  for (let start = 0, chunk = 0; start < size; chunk++) {
    const range = part.map.chunkAt(start);
    if ((bitmap[chunk >> 3] >> (chunk & 7) & 1) === 1) chunks.push(range);
    start = range.end;
  }
  const ranges = joined(chunks);
  for (const { start, end } of ranges) {
    const isRight = isSame(bytes.subarray(start, end), at.content.subarray(start, end));
    assert(isRight, `bytes ${start} to ${end} are not what the map says`);
  }
  assertEquals(part.map.haveBytes, ranges.reduce((sum, { start, end }) => sum + end - start, 0));
  return ranges;
}

/** Opens, counts and closes; `keptBytes` must have said the same. */
export async function openBytes(path: string, options: PartFileOptions): Promise<number> {
  const kept = PartFile.keptBytes(path, options);
  using part = await PartFile.open(path, options);
  assertEquals(part.map.haveBytes, kept);
  assertEquals(Deno.statSync(path).size, options.size);
  assertEquals(PartFile.keptBytes(path, options), kept);
  return kept;
}

/** As if the machine had been started anew since the map at `path` was written. */
export function rebooted(path: string): void {
  changeHeader(path, (header) => header.replace(/[0-9a-f-]{36}/, "00000000-1111-2222-3333-444444444444"));
}

/** Changes the text before the bitmaps. */
export function changeHeader(path: string, change: (header: string) => string): void {
  const bytes = Deno.readFileSync(PartFile.mapPath(path));
  const before = new TextDecoder("latin1").decode(bytes.subarray(0, 128));
  const after = change(before);
  if (after === before) throw new Error(`nothing to change in ${JSON.stringify(before)}`);
  bytes.set(new TextEncoder().encode(after));
  Deno.writeFileSync(PartFile.mapPath(path), bytes);
}

/** The bitmap that counts while the machine runs (0) or after it was started anew (1), as it is in the file. */
export function storedBitmap(path: string, which: 0 | 1, options: PartFileOptions): Uint8Array {
  const length = ChunkMap.bitmapBytes(options.size, options.chunkBytes);
  const start = 128 + which * length;
  return Deno.readFileSync(PartFile.mapPath(path)).subarray(start, start + length);
}

type FileMethod = "write" | "writeSync" | "syncData";

/** Replaces a method of all open files until it is disposed. `original` is what it did. */
export function patchFiles<M extends FileMethod>(
  method: M,
  make: (original: Deno.FsFile[M]) => Deno.FsFile[M],
): Disposable {
  const files = Deno.FsFile.prototype;
  const original = files[method];
  files[method] = make(original);
  return { [Symbol.dispose]: () => void (files[method] = original) };
}

/** What the system says of a write, by its code. */
export function systemError(code: "ENOSPC" | "EDQUOT" | "EIO"): Error {
  return Object.assign(new Error(code), { code });
}
