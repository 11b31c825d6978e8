/**
 * Which parts of a file are there: a map of chunks of equal size (the last may be shorter), and of those that
 * somebody is fetching. Pure bookkeeping, no I/O.
 */

/** From the first byte up to the one before `end`. */
export interface ByteRange {
  /** Offset in the file. */
  start: number;
  /** Offset behind the last byte. */
  end: number;
}

/** See the file's head. */
export class ChunkMap {
  /** Of the whole file. */
  readonly size: number;
  readonly #chunkBytes: number;
  readonly #there: Uint8Array<ArrayBuffer>;
  readonly #taken: Uint8Array<ArrayBuffer>;
  #haveBytes = 0;
  /** Chunks before this one are all there. */
  #frontier = 0;

  /** `there`, if given, comes from {@linkcode ChunkMap.bitmap} of a map of the same sizes. */
  constructor(size: number, options: { chunkBytes: number; there?: Uint8Array }) {
    this.size = size;
    this.#chunkBytes = options.chunkBytes;
    this.#there = new Uint8Array(ChunkMap.bitmapBytes(size, options.chunkBytes));
    this.#taken = new Uint8Array(this.#there.length);
    for (let chunk = 0; chunk < this.#count; chunk++) {
      if (options.there !== undefined && isSet(options.there, chunk)) this.mark(chunk * this.#chunkBytes);
    }
  }

  /** Bytes of a map for a file of `size`. */
  static bitmapBytes(size: number, chunkBytes: number): number {
    return Math.ceil(Math.ceil(size / chunkBytes) / 8);
  }

  get #count(): number {
    return Math.ceil(this.size / this.#chunkBytes);
  }

  /** Bytes that are there. */
  get haveBytes(): number {
    return this.#haveBytes;
  }

  /** All bytes before this offset are there. */
  get frontierBytes(): number {
    return Math.min(this.size, this.#frontier * this.#chunkBytes);
  }

  /** Nothing is missing. */
  get complete(): boolean {
    return this.#haveBytes === this.size;
  }

  /** One bit for each chunk that is there, lowest bit first. */
  get bitmap(): Uint8Array<ArrayBuffer> {
    return this.#there;
  }

  /** Where the chunk of the byte at `offset` begins and ends. */
  chunkAt(offset: number): ByteRange {
    const start = offset - offset % this.#chunkBytes;
    return { start, end: Math.min(this.size, start + this.#chunkBytes) };
  }

  /** The chunk that begins at `offset` is there now. Returns the index of the byte of the bitmap that changed. */
  mark(offset: number): number {
    const chunk = Math.floor(offset / this.#chunkBytes);
    if (!isSet(this.#there, chunk)) {
      set(this.#there, chunk);
      const { start, end } = this.chunkAt(offset);
      this.#haveBytes += end - start;
    }
    while (this.#frontier < this.#count && isSet(this.#there, this.#frontier)) this.#frontier++;
    return chunk >> 3;
  }

  /**
   * Takes the first chunks in a row that are neither there nor taken, at most `maxBytes` of them; undefined when
   * there are none. Whoever takes them gives them back by {@linkcode ChunkMap.release}.
   */
  take(maxBytes: number): ByteRange | undefined {
    let first = this.#frontier;
    while (first < this.#count && !this.#free(first)) first++;
    if (first === this.#count) return undefined;
    const most = Math.max(1, Math.floor(maxBytes / this.#chunkBytes));
    let end = first;
    while (end < this.#count && end - first < most && this.#free(end)) set(this.#taken, end++);
    return { start: first * this.#chunkBytes, end: Math.min(this.size, end * this.#chunkBytes) };
  }

  /** Nobody fetches the chunks of this range any more, whether they came or not. */
  release(range: ByteRange): void {
    for (
      let chunk = Math.floor(range.start / this.#chunkBytes);
      chunk * this.#chunkBytes < range.end;
      chunk++
    ) {
      this.#taken[chunk >> 3] &= ~(1 << (chunk & 7));
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.#there.fill(0);
    this.#taken.fill(0);
    this.#haveBytes = this.#frontier = 0;
  }

  #free(chunk: number): boolean {
    return !isSet(this.#there, chunk) && !isSet(this.#taken, chunk);
  }
}

function isSet(bits: Uint8Array, index: number): boolean {
  return (bits[index >> 3] & 1 << (index & 7)) !== 0;
}

function set(bits: Uint8Array, index: number): void {
  bits[index >> 3] |= 1 << (index & 7);
}
