/** Reads a GGUF header piece by piece; nothing is allocated from a length that the file merely claims. */
import { MAX_GGUF_HEADER_BYTES } from "./limits.ts";

/** The file is no GGUF, or an odd one. The message completes "the file …". */
export class InvalidGguf extends Error {
  /** What is odd. */
  constructor(message: string) {
    super(message);
    this.name = "InvalidGguf";
  }
}

const WINDOW_BYTES = 256 * 1024;

/** Little-endian values from a file, front to back. Every method throws {@linkcode InvalidGguf} at the end. */
export class GgufReader {
  /** Size of the whole file. */
  readonly fileBytes: number;
  #file: Deno.FsFile;
  #signal: AbortSignal | undefined;
  #window = new Uint8Array(WINDOW_BYTES);
  #view = new DataView(this.#window.buffer);
  /** Offset in the file of the window's first byte. */
  #windowStart = 0;
  #windowLength = 0;
  #position = 0;

  /** The file stays the caller's to close. */
  constructor(file: Deno.FsFile, options: { fileBytes: number; signal?: AbortSignal }) {
    this.#file = file;
    this.#signal = options.signal;
    this.fileBytes = options.fileBytes;
  }

  /** Bytes read or skipped so far. */
  get position(): number {
    return this.#position;
  }

  /** Unsigned, 32 bits. */
  async u32(): Promise<number> {
    const at = await this.#take(4);
    return this.#view.getUint32(at, true);
  }

  /** Unsigned, 64 bits; what a number cannot hold exactly is refused. */
  async u64(): Promise<number> {
    const at = await this.#take(8);
    return this.#u64At(at);
  }

  /** A scalar of the width and kind that the caller knows. */
  async scalar(bytes: number, read: (view: DataView, at: number) => number): Promise<number> {
    const at = await this.#take(bytes);
    return read(this.#view, at);
  }

  /** A string of at most `maxBytes`; ill-formed UTF-8 comes as replacement characters. */
  async string(maxBytes: number): Promise<string> {
    const length = await this.u64();
    if (length > maxBytes) throw new InvalidGguf(`has a name of ${length} bytes, more than ${maxBytes}`);
    return await this.text(length);
  }

  /** The next `length` bytes as text; the caller has bounded `length`. */
  async text(length: number): Promise<string> {
    const at = await this.#take(length);
    return new TextDecoder().decode(this.#window.subarray(at, at + length));
  }

  /** Passes over `length` bytes without reading them. */
  skip(length: number): void {
    this.#checkAhead(length);
    this.#position += length;
  }

  /** Passes over `count` strings. Kept in one loop: vocabularies have hundreds of thousands. */
  async skipStrings(count: number): Promise<void> {
    for (let left = count; left > 0; left--) {
      const offset = this.#position - this.#windowStart;
      const buffered = offset >= 0 && offset + 8 <= this.#windowLength;
      const at = buffered ? offset : await this.#fill(8);
      this.#position += 8;
      this.skip(this.#u64At(at));
    }
  }

  #u64At(at: number): number {
    const low = this.#view.getUint32(at, true);
    const high = this.#view.getUint32(at + 4, true);
    if (high >= 2 ** 21) {
      throw new InvalidGguf(`holds a number beyond 2^53 at byte ${this.#windowStart + at}`);
    }
    return high * 2 ** 32 + low;
  }

  /** Makes the next `length` bytes (at most a window) available, passes over them, returns where they are. */
  async #take(length: number): Promise<number> {
    const at = await this.#fill(length);
    this.#position += length;
    return at;
  }

  async #fill(length: number): Promise<number> {
    this.#checkAhead(length);
    const offset = this.#position - this.#windowStart;
    if (offset >= 0 && offset + length <= this.#windowLength) return offset;
    this.#signal?.throwIfAborted();
    await this.#file.seek(this.#position, Deno.SeekMode.Start);
    this.#windowStart = this.#position;
    this.#windowLength = 0;
    while (this.#windowLength < length) {
      const count = await this.#file.read(this.#window.subarray(this.#windowLength));
      if (count === null) {
        throw new InvalidGguf(`is cut short at byte ${this.#position + this.#windowLength}`);
      }
      this.#windowLength += count;
    }
    return 0;
  }

  #checkAhead(length: number): void {
    const end = this.#position + length;
    if (!(end <= this.fileBytes)) {
      throw new InvalidGguf(
        `is cut short: its header goes on to byte ${end}, the file ends at ${this.fileBytes}`,
      );
    }
    if (end > MAX_GGUF_HEADER_BYTES) {
      throw new InvalidGguf(`has a header of more than ${MAX_GGUF_HEADER_BYTES} bytes`);
    }
  }
}
