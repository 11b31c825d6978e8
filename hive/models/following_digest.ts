/** The digest of a file that is still coming: computed beside the download, over whatever is there from the start on. */
import { createHash, type Hash } from "node:crypto";
import { moduleUrl } from "../../home/installation.ts";
import type { HubFile } from "./hub.ts";
import { DIGEST_STEP_BYTES, DIGEST_THREAD_BYTES, REHASH_CHUNK_BYTES } from "./limits.ts";

/** What the thread is told: first the file, then how far it is there. */
export type DigestOrder =
  | { file: { path: string; size: number; digest: HubFile["digest"] } }
  | { untilBytes: number };

/** What the thread answers, once. */
export type DigestAnswer = { hex: string } | { error: string };

/** A hash that begins as the digest of this file does. */
export function newHash(file: { size: number; digest: Pick<HubFile["digest"], "algorithm"> }): Hash {
  if (file.digest.algorithm === "sha256") return createHash("sha256");
  return createHash("sha1").update(`blob ${file.size}\0`);
}

/** See the file's head. Disposing it ends the computation. */
export class FollowingDigest implements Disposable {
  readonly #file: { path: string; size: number; digest: HubFile["digest"] };
  readonly #worker: Worker | undefined;
  readonly #answer = Promise.withResolvers<string>();
  #toldBytes = 0;

  /** Starts a thread unless the file is so small that it is not worth one. */
  constructor(path: string, file: Pick<HubFile, "size" | "digest">) {
    this.#file = { path, size: file.size, digest: file.digest };
    this.#answer.promise.catch(() => {});
    if (file.size < DIGEST_THREAD_BYTES) return;
    this.#worker = new Worker(moduleUrl("hive/models/digest_thread"), { type: "module" });
    this.#worker.onmessage = ({ data }: MessageEvent<DigestAnswer>) => {
      if ("hex" in data) this.#answer.resolve(data.hex);
      else this.#answer.reject(new Error(data.error));
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#answer.reject(new Error(event.message));
    };
    this.#tell({ file: this.#file });
  }

  /** All bytes before this offset are there. The thread is told of it now and then: waking it costs. */
  advance(untilBytes: number): void {
    if (untilBytes - this.#toldBytes < DIGEST_STEP_BYTES && untilBytes < this.#file.size) return;
    this.#toldBytes = untilBytes;
    this.#tell({ untilBytes });
  }

  /** The digest in hex, when all bytes are there. */
  async result(): Promise<string> {
    if (this.#worker === undefined) return await digestOf(this.#file);
    this.advance(this.#file.size);
    return await this.#answer.promise;
  }

  /** Stops the thread. */
  [Symbol.dispose](): void {
    this.#worker?.terminate();
  }

  #tell(order: DigestOrder): void {
    this.#worker?.postMessage(order);
  }
}

/** The digest of a whole file, in hex. `onBytes` is told of every piece that was read. */
export async function digestOf(
  file: { path: string; size: number; digest: Pick<HubFile["digest"], "algorithm"> },
  options: { signal?: AbortSignal; onBytes?: (count: number) => void } = {},
): Promise<string> {
  const hash = newHash(file);
  using handle = await Deno.open(file.path);
  const buffer = new Uint8Array(REHASH_CHUNK_BYTES);
  for (let count = await handle.read(buffer); count !== null; count = await handle.read(buffer)) {
    options.signal?.throwIfAborted();
    hash.update(buffer.subarray(0, count));
    options.onBytes?.(count);
  }
  return hash.digest("hex");
}
