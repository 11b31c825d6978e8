/** One file into its blob: over several connections, resumed where it broke off, verified before it gets its name. */
import { cancelOn } from "../../protocol/cancel_on.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { Bandwidth } from "./bandwidth.ts";
import type { CachePaths } from "./cache.ts";
import type { ByteRange } from "./chunk_map.ts";
import { FollowingDigest } from "./following_digest.ts";
import type { HubFile } from "./hub.ts";
import type { HubAnswer, Validator } from "./hub_http.ts";
import { PartFile } from "./part_file.ts";
import { AttemptFailed } from "./retry_plan.ts";
import { type RetryOptions, withRetries } from "./retries.ts";
import { nameFile } from "./unsettled.ts";

/** Where the bytes of one file come from. */
export interface FileSource {
  /** For messages: the repository. */
  repo: string;
  /** Asks for a part of the file. Throws as {@linkcode HubHttp.get}. */
  open(range: ByteRange, options: { signal: AbortSignal; validator?: Validator }): Promise<HubAnswer>;
}

/** Options of {@linkcode transferFile}. */
export interface TransferOptions extends RetryOptions {
  /** Where it comes from. */
  source: FileSource;
  /** The cap it shares with others. */
  bandwidth: Bandwidth;
  /** Told how many bytes of the file are there; goes back when it has to start again. */
  onBytes: (haveBytes: number) => void;
  /** The file is at `path`; `settled` resolves when its bytes are on the disk, to the error if there is one. */
  onNamed: (settled: Promise<unknown>, path: string) => void;
}

/** The state of a transfer over its attempts. */
interface Transfer {
  file: HubFile;
  part: PartFile;
  digest: FollowingDigest;
  /** Validator of the first answer's bytes. */
  validator?: Validator;
}

/** Parts that must come well before a connection that failed is replaced. */
const PARTS_BEFORE_ANOTHER = 4;
/** Read at once at most. */
const READ_BYTES = 128 * 1024;
/** A connection's speed is believed after so long; a part that takes less is too small to be worth a request. */
const MEASURE_MS = 100;
/** Parts grow to so many times their first size. */
const MAX_PART_GROWTH = 32;
/** So long more connections have to show what they are good for… */
const TRIAL_MS = 500;
/** …which is to be so many times as fast. */
const WORTHWHILE_GAIN = 1.25;
/** What a disk takes and a core verifies; no line is faster. */
const ENOUGH_BYTES_PER_MS = 500_000;

/**
 * Fetches a file into its blob. What came is kept when this is aborted or gives up, except bytes that are wrong.
 *
 * @throws {RbeeError} `DOWNLOAD_FAILED`, `DOWNLOAD_TIMEOUT`, `CHECKSUM_MISMATCH`, `MODEL_ACCESS_DENIED`,
 * `MODEL_NOT_FOUND`, `INSUFFICIENT_DISK`. The signal's reason when aborted.
 */
export async function transferFile(
  target: { file: HubFile; paths: CachePaths },
  options: TransferOptions,
): Promise<void> {
  const { file, paths } = target;
  const { chunkBytes } = options.limits;
  using part = await PartFile.open(paths.partial, { size: file.size, chunkBytes });
  const transfer: Transfer = { file, part, digest: new FollowingDigest(paths.partial, file) };
  try {
    transfer.digest.advance(part.map.frontierBytes);
    options.onBytes(part.map.haveBytes);
    await withRetries(() => attempt({ transfer, paths }, options), options);
    options.onNamed((await nameFile(paths, part.release())).settled, paths.blob);
  } catch (error) {
    if (part.map.haveBytes === 0) await part.discard();
    throw error;
  } finally {
    transfer.digest[Symbol.dispose]();
  }
}

async function attempt(
  at: { transfer: Transfer; paths: CachePaths },
  options: TransferOptions,
): Promise<void> {
  const { transfer, paths } = at;
  const { file, part } = transfer;
  const haveBytes = part.map.haveBytes;
  const startAgain = async () => {
    await part.restart();
    transfer.digest[Symbol.dispose]();
    transfer.digest = new FollowingDigest(paths.partial, file);
    transfer.validator = undefined;
    options.onBytes(0);
  };
  try {
    if (!part.map.complete) await new Connections(transfer, { ...options, startAgain }).fetchMissing();
    options.onBytes(part.map.haveBytes);
  } catch (error) {
    if (!(error instanceof AttemptFailed)) throw error;
    if (error.failure.kind === "mismatch") await startAgain();
    error.failure.gainedBytes = Math.max(0, part.map.haveBytes - haveBytes);
    throw error;
  }
  if (await digestUnlessAborted(transfer.digest, options.signal) === file.digest.hex) return;
  await startAgain();
  throw mismatch(transfer, options, "came with a wrong checksum");
}

async function digestUnlessAborted(digest: FollowingDigest, signal: AbortSignal): Promise<string> {
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    signal.throwIfAborted();
    return await Promise.race([digest.result(), promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** More connections than before, on trial. */
interface Trial {
  /** How many there were before. */
  before: number;
  /** How fast all of those were together. */
  bytesPerMs: number;
  startedAtMs: number;
  /** Received since then, over all connections. */
  bytes: number;
}

/**
 * The connections of one attempt. The first one finds out whether the other side sends parts, and how fast; then there
 * are as many as help, up to the limit. One that fails leaves its part to the others; the attempt has failed when none is left.
 */
class Connections {
  readonly #transfer: Transfer;
  readonly #options: TransferOptions & { startAgain: () => Promise<void> };
  readonly #running = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  #wanted = 1;
  /** More than these have been found to be of no use. */
  #most: number;
  #trial: Trial | undefined;
  /** What a connection asks for at once. */
  #partBytes: number;
  /** Whether the other side does. */
  #sendsParts = false;
  #partsLeftToWait = 0;
  #failure: AttemptFailed | undefined;
  /** What ends the attempt, whatever the other connections still bring. */
  #fatal: unknown;

  constructor(transfer: Transfer, options: TransferOptions & { startAgain: () => Promise<void> }) {
    this.#transfer = transfer;
    this.#options = options;
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal]);
    this.#most = options.limits.connections;
    this.#partBytes = options.limits.partBytes;
  }

  /** Resolves when all bytes are there. Throws what {@linkcode transferFile} tries again or passes on. */
  async fetchMissing(): Promise<void> {
    this.#openMore();
    while (this.#running.size > 0) await Promise.race(this.#running);
    if (this.#fatal !== undefined) throw this.#fatal;
    if (!this.#transfer.part.map.complete) throw this.#failure!;
  }

  #openMore(): void {
    while (!this.#signal.aborted && this.#running.size < this.#wanted) {
      const range = this.#take();
      if (range === undefined) return;
      const connection: Promise<void> = this.#run(range).finally(() => this.#running.delete(connection));
      this.#running.add(connection);
    }
  }

  /** Towards the end parts are small again, so that all connections have something to do. */
  #take(): ByteRange | undefined {
    const { map } = this.#transfer.part;
    const fairBytes = (map.size - map.haveBytes) / (2 * this.#wanted);
    return map.take(Math.max(this.#options.limits.partBytes, Math.min(this.#partBytes, fairBytes)));
  }

  #grow(tookMs: number): void {
    if (tookMs <= 0 || tookMs >= MEASURE_MS) return;
    this.#partBytes = Math.min(2 * this.#partBytes, MAX_PART_GROWTH * this.#options.limits.partBytes);
  }

  /** Never rejects. */
  async #run(first: ByteRange): Promise<void> {
    for (let range: ByteRange | undefined = first; range !== undefined; range = this.#take()) {
      const startedAtMs = performance.now();
      try {
        await this.#receive(range);
      } catch (error) {
        this.#failed(error);
        return;
      } finally {
        this.#transfer.part.map.release(range);
      }
      this.#partsLeftToWait--;
      this.#grow(performance.now() - startedAtMs);
      if (this.#signal.aborted || this.#running.size > this.#wanted) return;
    }
  }

  /** More connections are worth their work as long as all of them together are slow, and if more are faster. */
  #connectionRuns(so: { bytes: number; ms: number }): void {
    if (this.#trial !== undefined) return this.#judge(this.#trial);
    if (!this.#sendsParts || this.#partsLeftToWait > 0 || so.ms < MEASURE_MS) return;
    const useful = Math.min(this.#most, Math.ceil(ENOUGH_BYTES_PER_MS / (so.bytes / so.ms)));
    if (useful <= this.#wanted) return;
    this.#trial = {
      before: this.#wanted,
      bytesPerMs: this.#wanted * so.bytes / so.ms,
      startedAtMs: performance.now(),
      bytes: 0,
    };
    this.#wanted = useful;
    this.#openMore();
  }

  #judge(trial: Trial): void {
    const ms = performance.now() - trial.startedAtMs;
    if (ms < TRIAL_MS) return;
    this.#trial = undefined;
    if (trial.bytes / ms >= WORTHWHILE_GAIN * trial.bytesPerMs) return;
    this.#wanted = this.#most = trial.before;
  }

  #failed(error: unknown): void {
    if (error instanceof AttemptFailed && error.failure.kind !== "mismatch" && !this.#signal.aborted) {
      this.#failure = error;
      this.#trial = undefined;
      this.#partsLeftToWait = PARTS_BEFORE_ANOTHER;
      this.#wanted = Math.max(1, this.#running.size - 1);
      return;
    }
    this.#fatal ??= error;
    this.#stop.abort();
  }

  async #receive(range: ByteRange): Promise<void> {
    const { file, validator } = this.#transfer;
    const wanted = { signal: this.#signal, validator };
    using answer = await this.#options.source.open(range, wanted).catch((error) => {
      const pastEnd = error instanceof AttemptFailed && error.failure.status === 416;
      throw pastEnd ? this.#mismatch("is shorter at the storage host than the hub says") : error;
    });
    const { response } = answer;
    const whole = response.status !== 206;
    const otherFile = headerMismatch(response, { range, size: file.size });
    if (otherFile !== undefined) throw this.#mismatch(otherFile);
    if (whole) {
      // Another host that cannot send parts, while others can: those go on.
      if (this.#running.size > 1) throw answer.readFailure(new Error("the host sends whole files only"));
      // The other side knows no Range, or the file has changed.
      if (this.#transfer.part.map.haveBytes > 0) await this.#options.startAgain();
    }
    this.#transfer.validator ??= strongValidator(answer);
    this.#sendsParts = !whole;
    await this.#receiveBody(answer, whole ? { start: 0, end: file.size } : range);
  }

  async #receiveBody(answer: HubAnswer, range: ByteRange): Promise<void> {
    const { file, part, digest } = this.#transfer;
    const { bandwidth, onBytes } = this.#options;
    const { watch } = answer;
    const reader = (answer.response.body ?? new Blob().stream()).getReader({ mode: "byob" });
    using _cancel = cancelOn(answer.signal, reader);
    const startedAtMs = performance.now();
    let position = range.start;
    let room = new Uint8Array(READ_BYTES);
    await part.receive(range.start, async () => {
      watch.resume();
      const { done, value } = await reader.read(room).catch((error) => {
        throw answer.readFailure(error);
      });
      if (done) return undefined;
      // The same memory, handed back.
      room = new Uint8Array(value.buffer);
      watch.heard(value.length);
      watch.pause();
      position += value.length;
      if (position > range.end) {
        throw this.#mismatch(`goes on beyond the ${file.size} bytes of the hub's list`);
      }
      await bandwidth.take(value.length, this.#signal);
      digest.advance(part.map.frontierBytes);
      if (this.#trial !== undefined) this.#trial.bytes += value.length;
      this.#connectionRuns({ bytes: position - range.start, ms: performance.now() - startedAtMs });
      return value;
    }, { onReceived: () => onBytes(part.receivedBytes) });
    if (position < range.end) {
      throw answer.readFailure(new Error(`the connection ended at byte ${position} of ${file.size}`));
    }
  }

  #mismatch(why: string): AttemptFailed {
    return mismatch(this.#transfer, this.#options, why);
  }
}

/** How the headers show that this is not the file, or not the part of it, that was asked for. */
function headerMismatch(response: Response, wanted: { range: ByteRange; size: number }): string | undefined {
  const { range, size } = wanted;
  let expected = size;
  if (response.status === 206) {
    const got = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get("Content-Range") ?? "");
    if (got === null || Number(got[1]) !== range.start) return `came from another byte than ${range.start}`;
    if (got[3] !== "*" && Number(got[3]) !== size) return lengthMismatch(Number(got[3]), size);
    if (Number(got[2]) !== range.end - 1) return `came up to byte ${got[2]} instead of ${range.end - 1}`;
    expected = range.end - range.start;
  }
  const length = response.headers.get("Content-Length");
  if (length === null || Number(length) === expected) return undefined;
  return lengthMismatch(Number(length) + size - expected, size);
}

function lengthMismatch(storedBytes: number, size: number): string {
  return `has ${storedBytes} bytes at the storage host, ${size} by the hub's list`;
}

/** Weak ETags do not vouch for single bytes. */
function strongValidator(answer: HubAnswer): Validator | undefined {
  const etag = answer.response.headers.get("ETag");
  return etag?.startsWith('"') ? { origin: answer.url.origin, etag } : undefined;
}

function mismatch(transfer: Transfer, options: TransferOptions, why: string): AttemptFailed {
  const { path, digest } = transfer.file;
  const error = new RbeeError(
    "CHECKSUM_MISMATCH",
    `${path} of ${options.source.repo} ${why}. It was discarded; try again later.`,
    { details: { path, expected: digest.hex } },
  );
  return new AttemptFailed({ kind: "mismatch", reason: `${path} ${why}` }, error);
}
