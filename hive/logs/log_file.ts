/** The log file of a program that another process writes: read as it grows, and cut before it grows too large. */
import { LOG_LINE_MAX_CHARS, LOG_READ_CHUNK_BYTES, LOG_READ_MAX_BYTES } from "../limits.ts";

/** Where the lines go that a log had before it was cut. */
export function rotatedPath(path: string): string {
  return `${path}.1`;
}

/** Reads a file's lines as they come. */
export class LogFile {
  readonly #path: string;
  readonly #onLine: (text: string) => void;
  #offset = 0;
  #decoder = new TextDecoder();
  /** The beginning of a line whose end is still to come, within {@linkcode LOG_LINE_MAX_CHARS}. */
  #begun = "";
  #work: Promise<unknown> = Promise.resolve();

  /** Starts with what is in the file already. */
  constructor(path: string, onLine: (text: string) => void) {
    this.#path = path;
    this.#onLine = onLine;
  }

  /**
   * Reads what is new; of very much at once only the end. A file that is not there is an empty one.
   *
   * @throws what the system says when it can't be read.
   */
  catchUp(): Promise<void> {
    return this.#inTurn(() => this.#read());
  }

  /** Takes the last line, which has no end yet. After this nothing more is expected. */
  finish(): Promise<void> {
    return this.#inTurn(async () => {
      await this.#read();
      const last = this.#begun + this.#decoder.decode();
      this.#begun = "";
      if (last !== "") this.#onLine(last);
    });
  }

  /**
   * Empties a file that has grown beyond `maxBytes` into {@linkcode rotatedPath}. See {@linkcode cutLog}; all that it
   * keeps has been read.
   */
  rotate(maxBytes: number): Promise<boolean> {
    return this.#inTurn(async () => {
      const cut = await cutLog(this.#path, maxBytes);
      if (!cut) return false;
      // Whoever reads on finds the lines between the last look and the cut in the other file.
      await this.#read(rotatedPath(this.#path));
      this.#offset = 0;
      return true;
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#work.then(work);
    this.#work = done.catch(() => {});
    return done;
  }

  async #read(path = this.#path): Promise<void> {
    using file = await openIfThere(path);
    if (file === undefined) return;
    const { size } = await file.stat();
    if (size < this.#offset) this.#startAt(0);
    if (size - this.#offset > LOG_READ_MAX_BYTES) {
      this.#startAt(size - LOG_READ_MAX_BYTES);
      this.#begun = "[…] ";
    }
    await file.seek(this.#offset, Deno.SeekMode.Start);
    const chunk = new Uint8Array(LOG_READ_CHUNK_BYTES);
    while (this.#offset < size) {
      const length = await file.read(chunk.subarray(0, Math.min(chunk.length, size - this.#offset)));
      if (length === null) return;
      this.#offset += length;
      this.#take(this.#decoder.decode(chunk.subarray(0, length), { stream: true }));
    }
  }

  #startAt(offset: number): void {
    this.#offset = offset;
    this.#begun = "";
    this.#decoder = new TextDecoder();
  }

  #take(text: string): void {
    const lines = (this.#begun + text).split(/\r?\n/);
    this.#begun = lines.pop()!.slice(0, LOG_LINE_MAX_CHARS);
    for (const line of lines) if (line !== "") this.#onLine(line.slice(0, LOG_LINE_MAX_CHARS));
  }
}

/**
 * Moves the content of a log beyond `maxBytes` to {@linkcode rotatedPath}, over what was there, and empties the log. Its
 * writer must append (`O_APPEND`) and notices nothing. Lines that it writes within the microseconds between the last
 * read and the cut are lost: there is no way to take both at once from a file that somebody else has open. When the
 * content can't be kept (the disk is full), it is given up: that logs are bounded comes first.
 *
 * @returns whether it was cut.
 * @throws why the content could not be kept, or the log not be cut.
 */
export async function cutLog(path: string, maxBytes: number): Promise<boolean> {
  const size = await sizeOf(path);
  if (size <= maxBytes) return false;
  const kept = rotatedPath(path);
  try {
    await Deno.copyFile(path, kept);
    appendRest(path, kept);
  } catch (error) {
    await Deno.remove(kept).catch(() => {});
    throw error;
  } finally {
    Deno.truncateSync(path);
  }
  return true;
}

/** What came while the copy was made. Blocks, so that nothing of this process comes in between. */
function appendRest(from: string, to: string): void {
  using source = Deno.openSync(from);
  using target = Deno.openSync(to, { append: true });
  source.seekSync(target.statSync().size, Deno.SeekMode.Start);
  const chunk = new Uint8Array(LOG_READ_CHUNK_BYTES);
  for (let length; (length = source.readSync(chunk)) !== null;) {
    for (let rest = chunk.subarray(0, length); rest.length > 0;) rest = rest.subarray(target.writeSync(rest));
  }
}

/** 0 for a file that is not there. */
async function sizeOf(path: string): Promise<number> {
  try {
    return (await Deno.stat(path)).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

async function openIfThere(path: string): Promise<Deno.FsFile | undefined> {
  try {
    return await Deno.open(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
