// The contents of files at the stand-in hub: bytes, a file on disk, or a stream made up as it is read.

import { createHash } from "node:crypto";
import { seededRandom } from "./gguf_weights.ts";

/** Where a file's bytes come from. A bare string is its text. */
export type HubContent =
  | string
  | Uint8Array
  | { readonly path: string }
  | {
    /** Size in bytes of a repeatable pseudo-random stream; takes no memory, whatever the size. */
    readonly generate: number;
    readonly seed?: number;
    /** Bytes at the beginning instead of random ones, such as a GGUF header. */
    readonly prefix?: Uint8Array;
  };

/** Random access to the bytes of one file, with the digests that a hub publishes. */
export class HubBlob {
  /** Bytes. */
  readonly size: number;
  #readAt: (offset: number, length: number) => Uint8Array | Promise<Uint8Array>;
  #sha256: Promise<string> | undefined;
  #gitOid: Promise<string> | undefined;

  /** Reads the size of a file on disk, blocking; nothing else is read yet. */
  constructor(content: HubContent) {
    if (typeof content === "string") content = new TextEncoder().encode(content);
    if (content instanceof Uint8Array) {
      const bytes = content;
      this.size = bytes.length;
      this.#readAt = (offset, length) => bytes.subarray(offset, offset + length);
    } else if ("path" in content) {
      const { path } = content;
      this.size = Deno.statSync(path).size;
      this.#readAt = (offset, length) => readFileAt(path, { offset, length });
    } else {
      this.size = content.generate;
      this.#readAt = generator(content.seed ?? 1, content.prefix ?? new Uint8Array(0));
    }
  }

  /** The bytes from `start` up to `end` (not included), in pieces of at most 64 KiB. */
  async *stream(start = 0, end = this.size): AsyncGenerator<Uint8Array> {
    for (let at = start; at < end;) {
      const piece = await this.#readAt(at, Math.min(PIECE_BYTES, end - at));
      if (piece.length === 0) throw new Error(`Content ends at byte ${at} of ${this.size}`);
      yield piece;
      at += piece.length;
    }
  }

  /** Hex SHA-256 of the whole content; reads it all the first time. */
  sha256(): Promise<string> {
    return this.#sha256 ??= this.#digest("sha256");
  }

  /** Hex SHA-1 that git gives this content as a blob. */
  gitOid(): Promise<string> {
    return this.#gitOid ??= this.#digest("sha1", `blob ${this.size}\0`);
  }

  async #digest(algorithm: "sha1" | "sha256", prefix = ""): Promise<string> {
    const hash = createHash(algorithm).update(prefix);
    for await (const piece of this.stream()) hash.update(piece);
    return hash.digest("hex");
  }
}

const PIECE_BYTES = 64 * 1024;
const BLOCK_BYTES = 1024 * 1024;

async function readFileAt(
  path: string,
  options: { offset: number; length: number },
): Promise<Uint8Array> {
  using file = await Deno.open(path);
  await file.seek(options.offset, Deno.SeekMode.Start);
  const buffer = new Uint8Array(options.length);
  const count = await file.read(buffer);
  return buffer.subarray(0, count ?? 0);
}

/** One random block repeated, with each repetition's number written over its start: no two are equal. */
function generator(seed: number, prefix: Uint8Array) {
  const random = seededRandom(seed);
  const block = new Uint8Array(Uint32Array.from({ length: BLOCK_BYTES / 4 }, random).buffer);
  return (offset: number, length: number): Uint8Array => {
    const inBlock = offset % BLOCK_BYTES;
    const piece = block.slice(inBlock, Math.min(inBlock + length, BLOCK_BYTES));
    overlay(piece, {
      at: offset,
      stamp: numberBytes(Math.floor(offset / BLOCK_BYTES)),
      start: offset - inBlock,
    });
    overlay(piece, { at: offset, stamp: prefix, start: 0 });
    return piece;
  };
}

/** Copies the part of `stamp`, which begins at `start` of the stream, that falls into the piece at `at`. */
function overlay(piece: Uint8Array, options: { at: number; stamp: Uint8Array; start: number }): void {
  const { at, stamp, start } = options;
  const from = Math.max(0, at - start);
  if (from < stamp.length && start + from < at + piece.length) {
    piece.set(stamp.subarray(from, at + piece.length - start), start + from - at);
  }
}

function numberBytes(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value));
  return bytes;
}
