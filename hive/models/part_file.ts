/**
 * A file on its way in: its bytes, which come in any order, and beside them a map of what has come. A process that
 * is killed loses what it had not written yet, a machine that loses power what was not on the disk yet; the map
 * never claims more than is there.
 *
 * The map's file: a header (mark, size, bytes of a chunk, the machine's boot), the bitmap of what was written, and
 * the bitmap of what is known to be on the disk, which is the one that counts after another boot.
 */
import { dirname } from "@std/path";
import { RbeeError } from "../../protocol/errors.ts";
import { type ByteRange, ChunkMap } from "./chunk_map.ts";
import { diskSpace } from "./disk.ts";
import { SYNC_BYTES } from "./limits.ts";

/** Options of {@linkcode PartFile.open}. */
export interface PartFileOptions {
  /** Bytes of the whole file. */
  size: number;
  /** Bytes of one chunk. */
  chunkBytes: number;
}

const MARK = "rbee-map-1";
const BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id";
const HEADER_BYTES = 128;
const BUFFER_BYTES = 256 * 1024;
/** Files from this size on are written without a thread's help, as long as that takes no time. */
const QUICK_FILE_BYTES = 16 * 1024 * 1024;
/** Larger writes make the system look for memory in one piece, which a virtual machine may not have at hand. */
const QUICK_WRITE_BYTES = 64 * 1024;
/** A write that took so long has waited for the disk. */
const SLOW_WRITE_MS = 25;
/** What comes slowly is written after so long. */
const WRITE_INTERVAL_MS = 500;
const BYTES_PER_MB = 1_000_000;

/** An open download. Disposing it keeps what came, for the next try. */
export class PartFile implements Disposable {
  /** What is there. */
  readonly map: ChunkMap;
  readonly #path: string;
  readonly #data: Deno.FsFile;
  readonly #mapFile: Deno.FsFile;
  /** What was there when the data were last known to be on the disk; of what an earlier try left, nothing is. */
  #syncedBytes = 0;
  /** Received, not written yet. */
  #bufferedBytes = 0;
  #lastWrite = Promise.resolve();
  #syncing = false;
  /** Writes take no time. */
  #quick: boolean;
  /** Counts the beginnings: what was on the disk before a new one counts no more. */
  #generation = 0;
  #open = true;

  private constructor(path: string, parts: { map: ChunkMap; data: Deno.FsFile; mapFile: Deno.FsFile }) {
    this.#path = path;
    this.map = parts.map;
    this.#data = parts.data;
    this.#mapFile = parts.mapFile;
    this.#quick = this.map.size >= QUICK_FILE_BYTES;
  }

  /** Bytes that came, those included that are still to be written. */
  get receivedBytes(): number {
    return this.map.haveBytes + this.#bufferedBytes;
  }

  /** Where the map of the file at `path` stands. */
  static mapPath(path: string): string {
    return `${path}.map`;
  }

  /** Bytes that an earlier try left at `path`; 0 when there are none or not of such a file. Blocks for two looks. */
  static keptBytes(path: string, options: PartFileOptions): number {
    try {
      const there = readMap(Deno.readFileSync(PartFile.mapPath(path)), options);
      if (there === undefined || Deno.statSync(path).size !== options.size) return 0;
      return new ChunkMap(options.size, { chunkBytes: options.chunkBytes, there }).haveBytes;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return 0;
      throw error;
    }
  }

  /** Opens what an earlier try left, or makes room for all of it. */
  static async open(path: string, options: PartFileOptions): Promise<PartFile> {
    await Deno.mkdir(dirname(path), { recursive: true });
    const { size, chunkBytes } = options;
    const data = await Deno.open(path, { read: true, write: true, create: true });
    let mapFile: Deno.FsFile | undefined;
    let file: PartFile | undefined;
    try {
      const fits = (await data.stat()).size === size;
      mapFile = await Deno.open(PartFile.mapPath(path), { read: true, write: true, create: true });
      const there = fits ? readMap(await Deno.readFile(PartFile.mapPath(path)), options) : undefined;
      const map = new ChunkMap(size, { chunkBytes, there });
      file = new PartFile(path, { map, data, mapFile });
      if (there === undefined) {
        // The old map must not vouch for what is thrown away.
        await mapFile.truncate(0);
        await data.truncate(0);
        await data.truncate(size);
        file.#writeBitmap(1);
      }
      file.#writeBitmap(0);
      // Last: it says that the first bitmap counts.
      file.#writeHeader(options);
      return file;
    } catch (error) {
      if (file === undefined) {
        data.close();
        mapFile?.close();
        throw error;
      }
      const failure = await file.#writeFailure(error);
      file[Symbol.dispose]();
      throw failure;
    }
  }

  /**
   * Takes what `read` gives, from `start` on, which must be the beginning of a chunk, until it gives nothing more.
   * Reading goes on while what came before is written. When `read` throws, the whole chunks that came are kept.
   * `onReceived` is told when what `read` gave counts as received.
   *
   * @throws {RbeeError} `INSUFFICIENT_DISK` when the bytes do not fit; the file is removed then.
   */
  async receive(
    start: number,
    read: () => Promise<Uint8Array | undefined>,
    options: { onReceived?: () => void } = {},
  ): Promise<void> {
    let position = start;
    let filled = 0;
    let buffer = new Uint8Array(BUFFER_BYTES);
    let spare = new Uint8Array(BUFFER_BYTES);
    let writing = Promise.resolve();
    let writtenAtMs = performance.now();
    /** Writes all whole chunks of the buffer; the rest moves to the other one. */
    const write = async () => {
      const bytes = this.#wholeBytes({ start: position, end: position + filled });
      if (bytes === 0) return;
      await writing;
      const full = buffer;
      buffer = spare;
      buffer.set(full.subarray(bytes, filled));
      const range = { start: position, end: position + bytes };
      writing = this.#write(range, full.subarray(0, bytes)).then(() => void (spare = full));
      writing.catch(() => {});
      position += bytes;
      filled -= bytes;
      writtenAtMs = performance.now();
    };
    try {
      while (true) {
        const got = await read();
        if (got === undefined) break;
        for (let at = 0; at < got.length;) {
          const piece = got.subarray(at, at + buffer.length - filled);
          buffer.set(piece, filled);
          filled += piece.length;
          at += piece.length;
          this.#bufferedBytes += piece.length;
          if (filled === buffer.length) await write();
        }
        options.onReceived?.();
        if (performance.now() - writtenAtMs >= WRITE_INTERVAL_MS) await write();
      }
    } finally {
      if (this.#open) await write();
      this.#bufferedBytes -= filled;
      await writing;
    }
  }

  /** Forgets everything that came. */
  async restart(): Promise<void> {
    this.map.clear();
    this.#generation++;
    this.#syncedBytes = 0;
    this.#writeBitmap(0);
    this.#writeBitmap(1);
    await this.#data.truncate(0);
    await this.#data.truncate(this.map.size);
  }

  /** Hands over the open file, which is all there; whoever takes it closes it. */
  release(): Deno.FsFile {
    this.#open = false;
    this.#mapFile.close();
    return this.#data;
  }

  /** Closes and removes the file; a second time, or after `release`, nothing. */
  async discard(): Promise<void> {
    if (!this.#open) return;
    this[Symbol.dispose]();
    await Deno.remove(PartFile.mapPath(this.#path));
    await Deno.remove(this.#path);
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    this.#data.close();
    this.#mapFile.close();
  }

  /** How much of a range, from its start on, is whole chunks. */
  #wholeBytes({ start, end }: ByteRange): number {
    let whole = start;
    while (whole < end && this.map.chunkAt(whole).end <= end) whole = this.map.chunkAt(whole).end;
    return whole - start;
  }

  /** Writes take turns: they would only wait for each other in the kernel, and busily. */
  #write(range: ByteRange, bytes: Uint8Array): Promise<void> {
    const turn = this.#lastWrite.then(() => this.#writeNow(range, bytes));
    this.#lastWrite = turn.catch(() => {});
    return turn;
  }

  async #writeNow(range: ByteRange, bytes: Uint8Array): Promise<void> {
    // Another one may have found the disk full, and discarded it all.
    if (!this.#open) return;
    try {
      this.#data.seekSync(range.start, Deno.SeekMode.Start);
      for (let done = 0; done < bytes.length;) done += await this.#writeSome(bytes.subarray(done));
      this.#bufferedBytes -= bytes.length;
      this.#mark(range);
    } catch (error) {
      throw await this.#writeFailure(error);
    }
  }

  /**
   * What the system takes into its memory in no time is not handed over to a thread, which takes longer. A disk that
   * has let us wait once has to wait for us from then on.
   */
  #writeSome(bytes: Uint8Array): number | Promise<number> {
    if (!this.#quick) return this.#data.write(bytes);
    const startedAtMs = performance.now();
    const count = this.#data.writeSync(bytes.subarray(0, QUICK_WRITE_BYTES));
    this.#quick = performance.now() - startedAtMs < SLOW_WRITE_MS;
    return count;
  }

  /** What a failed write means. On a full disk, a part of what does not fit is in the way. */
  async #writeFailure(error: unknown): Promise<unknown> {
    if (!isDiskFull(error)) return error;
    const folder = dirname(this.#path);
    const requiredBytes = this.map.size - this.map.haveBytes;
    await this.discard();
    return insufficientDisk({ folder, requiredBytes, availableBytes: (await diskSpace(folder)).freeBytes });
  }

  #mark(range: ByteRange): void {
    const first = this.map.mark(range.start);
    let last = first;
    for (let at = this.map.chunkAt(range.start).end; at < range.end; at = this.map.chunkAt(at).end) {
      last = this.map.mark(at);
    }
    this.#mapFile.seekSync(HEADER_BYTES + first, Deno.SeekMode.Start);
    this.#mapFile.writeSync(this.map.bitmap.subarray(first, last + 1));
    if (this.map.haveBytes - this.#syncedBytes >= SYNC_BYTES) void this.#sync().catch(() => {});
  }

  /** Beside the writing: notes what is on the disk for sure. When that fails, the note before stays true. */
  async #sync(): Promise<void> {
    if (this.#syncing) return;
    this.#syncing = true;
    const bitmap = this.map.bitmap.slice();
    const bytes = this.map.haveBytes;
    const generation = this.#generation;
    // A disk that cannot write says so when the file is finished.
    const synced = await this.#data.syncData().then(() => true, () => false);
    this.#syncing = false;
    if (!this.#open || generation !== this.#generation) return;
    if (synced) this.#writeBitmap(1, bitmap);
    this.#syncedBytes = bytes;
  }

  #writeHeader(options: PartFileOptions): void {
    const header = new Uint8Array(HEADER_BYTES).fill(" ".charCodeAt(0));
    new TextEncoder().encodeInto(headerText(options), header);
    this.#mapFile.seekSync(0, Deno.SeekMode.Start);
    this.#mapFile.writeSync(header);
  }

  /** 0: what was written. 1: what is on the disk. */
  #writeBitmap(which: 0 | 1, bitmap = this.map.bitmap): void {
    this.#mapFile.seekSync(HEADER_BYTES + which * bitmap.length, Deno.SeekMode.Start);
    for (let done = 0; done < bitmap.length;) done += this.#mapFile.writeSync(bitmap.subarray(done));
  }
}

function headerText({ size, chunkBytes }: PartFileOptions): string {
  return `${MARK} ${size} ${chunkBytes} ${bootId()} `;
}

/** The bitmap that counts; undefined when this is no map of such a file. */
function readMap(bytes: Uint8Array, options: PartFileOptions): Uint8Array | undefined {
  const length = ChunkMap.bitmapBytes(options.size, options.chunkBytes);
  if (bytes.length !== HEADER_BYTES + 2 * length) return undefined;
  const header = new TextDecoder().decode(bytes.subarray(0, HEADER_BYTES)).trimEnd();
  const [mark, size, chunkBytes, boot] = header.split(" ");
  const same = mark === MARK && size === String(options.size) && chunkBytes === String(options.chunkBytes);
  if (!same) return undefined;
  const which = boot === bootId() ? 0 : 1;
  return bytes.slice(HEADER_BYTES + which * length, HEADER_BYTES + (which + 1) * length);
}

/** Whether a map, by its first bytes, was written since the machine was started. */
export function isOfThisBoot(map: Uint8Array): boolean {
  const [mark, , , boot] = new TextDecoder().decode(map.subarray(0, HEADER_BYTES)).trimEnd().split(" ");
  return mark === MARK && boot === bootId();
}

let knownBootId: string | undefined;

function bootId(): string {
  return knownBootId ??= readBootId();
}

/**
 * Another one after each start of the machine. Where the system does not tell, another one at each call: that two
 * unknown ones are of the same boot nobody knows.
 */
export function readBootId(path: string = BOOT_ID_PATH): string {
  try {
    return Deno.readTextFileSync(path).trim();
  } catch {
    return `unknown-${crypto.randomUUID()}`;
  }
}

/** The error for bytes that do not fit. */
export function insufficientDisk(
  need: { folder: string; requiredBytes: number; availableBytes: number },
): RbeeError {
  const required_mb = Math.ceil(need.requiredBytes / BYTES_PER_MB);
  const available_mb = Math.floor(need.availableBytes / BYTES_PER_MB);
  return new RbeeError(
    "INSUFFICIENT_DISK",
    `The disk of ${need.folder} has ${available_mb} MB free, ${required_mb} MB are needed. ` +
      "Remove models that are not used, or set hive.models_dir to a larger disk.",
    { details: { required_mb, available_mb } },
  );
}

function isDiskFull(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code === "ENOSPC" || code === "EDQUOT";
}
