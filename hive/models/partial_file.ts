/** A file on its way in: what came so far, with its digest kept up as it comes. */
import { dirname } from "@std/path";
import { createHash, type Hash } from "node:crypto";
import { RbeeError } from "../../protocol/errors.ts";
import { diskSpace } from "./disk.ts";
import type { HubFile } from "./hub.ts";
import { REHASH_CHUNK_BYTES } from "./limits.ts";

/** Options of {@linkcode PartialFile.open}. */
export interface PartialFileOptions {
  /** Size and digest to come to. */
  file: HubFile;
  /** Ends the reading of what is there. */
  signal: AbortSignal;
  /** Told before what is there is read again for its digest. */
  onRehash?: () => void;
}

/** An open `.incomplete` file. Disposing it keeps what came, for the next try. */
export class PartialFile implements Disposable {
  readonly #path: string;
  readonly #file: HubFile;
  readonly #handle: Deno.FsFile;
  #hash: Hash;
  #position = 0;
  #open = true;

  private constructor(path: string, options: { file: HubFile; handle: Deno.FsFile }) {
    this.#path = path;
    this.#file = options.file;
    this.#handle = options.handle;
    this.#hash = newHash(options.file);
  }

  /** Opens or creates the file and reads again what an earlier try left in it. */
  static async open(path: string, options: PartialFileOptions): Promise<PartialFile> {
    await Deno.mkdir(dirname(path), { recursive: true });
    const handle = await Deno.open(path, { read: true, write: true, create: true });
    const partial = new PartialFile(path, { file: options.file, handle });
    try {
      await partial.#resume(options);
      return partial;
    } catch (error) {
      partial[Symbol.dispose]();
      throw error;
    }
  }

  /** Bytes that are there. */
  get position(): number {
    return this.#position;
  }

  /**
   * Adds bytes; they are on their way to the disk when this resolves.
   *
   * @throws {RbeeError} `INSUFFICIENT_DISK` when they do not fit; the file is removed then.
   */
  async append(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes);
    try {
      for (let done = 0; done < bytes.length;) done += await this.#handle.write(bytes.subarray(done));
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      const missingBytes = this.#file.size - this.#position;
      await this.discard();
      throw insufficientDisk({
        folder: dirname(this.#path),
        requiredBytes: missingBytes,
        availableBytes: (await diskSpace(dirname(this.#path))).freeBytes,
      });
    }
    this.#position += bytes.length;
  }

  /** Forgets everything that came. */
  async restart(): Promise<void> {
    if (this.#position > 0) await this.#handle.truncate(0);
    await this.#handle.seek(0, Deno.SeekMode.Start);
    this.#hash = newHash(this.#file);
    this.#position = 0;
  }

  /** Whether all has come and is what it must be. Ends the digest: only `restart` or `moveTo` may follow. */
  matches(): boolean {
    return this.#position === this.#file.size && this.#hash.digest("hex") === this.#file.digest.hex;
  }

  /** Gives the file its final name, after its bytes have reached the disk. */
  async moveTo(path: string): Promise<void> {
    await this.#handle.syncData();
    this[Symbol.dispose]();
    await Deno.rename(this.#path, path);
  }

  /** Closes and removes the file; a second time, or after `moveTo`, nothing. */
  async discard(): Promise<void> {
    if (!this.#open) return;
    this[Symbol.dispose]();
    await Deno.remove(this.#path);
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    if (this.#open) this.#handle.close();
    this.#open = false;
  }

  async #resume(options: PartialFileOptions): Promise<void> {
    const { size } = await this.#handle.stat();
    if (size === 0) return;
    if (size > this.#file.size) return await this.#handle.truncate(0);
    options.onRehash?.();
    const buffer = new Uint8Array(REHASH_CHUNK_BYTES);
    for (let left = size; left > 0;) {
      options.signal.throwIfAborted();
      const count = await this.#handle.read(buffer.subarray(0, left));
      if (count === null) break;
      this.#hash.update(buffer.subarray(0, count));
      this.#position += count;
      left -= count;
    }
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

const BYTES_PER_MB = 1_000_000;

function newHash(file: HubFile): Hash {
  if (file.digest.algorithm === "sha256") return createHash("sha256");
  return createHash("sha1").update(`blob ${file.size}\0`);
}

function isDiskFull(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code === "ENOSPC" || code === "EDQUOT";
}
