/** One file from the hub to its blob: resumed where it broke off, verified before it gets its name. */
import { RbeeError } from "../../protocol/errors.ts";
import type { Bandwidth } from "./bandwidth.ts";
import type { CachePaths } from "./cache.ts";
import { type HubFile, type HubModel, openHubFile } from "./hub.ts";
import type { HubAnswer, HubHttp } from "./hub_http.ts";
import { PartialFile } from "./partial_file.ts";
import { AttemptFailed } from "./retry_plan.ts";
import { type RetryOptions, withRetries } from "./retries.ts";

/** Options of {@linkcode transferFile}. */
export interface TransferOptions extends RetryOptions {
  /** Where it comes from. */
  hub: HubHttp;
  /** What it belongs to. */
  model: HubModel;
  /** The cap it shares with others. */
  bandwidth: Bandwidth;
  /** Told how many bytes of the file are there; goes back when it has to start again. */
  onBytes: (position: number) => void;
  /** Told before what an earlier try left is read again. */
  onRehash: () => void;
}

/** The state of a transfer over its attempts. */
interface Transfer {
  file: HubFile;
  partial: PartialFile;
  /** Validator of the last answer's bytes. */
  validator?: { origin: string; etag: string };
}

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
  const { signal, onRehash } = options;
  using partial = await PartialFile.open(paths.partial, { file, signal, onRehash });
  const transfer: Transfer = { file, partial };
  options.onBytes(partial.position);
  try {
    await withRetries(() => attempt(transfer, options), options);
  } catch (error) {
    if (partial.position === 0) await partial.discard();
    throw error;
  }
  await partial.moveTo(paths.blob);
}

async function attempt(transfer: Transfer, options: TransferOptions): Promise<void> {
  const { file, partial } = transfer;
  const startedAt = partial.position;
  try {
    if (partial.position < file.size) await receive(transfer, options);
  } catch (error) {
    if (!(error instanceof AttemptFailed)) throw error;
    if (error.failure.kind === "mismatch") await startAgain(transfer, options);
    error.failure.gainedBytes = Math.max(0, partial.position - startedAt);
    throw error;
  }
  if (partial.matches()) return;
  await startAgain(transfer, options);
  throw mismatch(transfer, options, "came with a wrong checksum");
}

async function startAgain(transfer: Transfer, options: TransferOptions): Promise<void> {
  await transfer.partial.restart();
  transfer.validator = undefined;
  options.onBytes(0);
}

async function receive(transfer: Transfer, options: TransferOptions): Promise<void> {
  const { file, partial, validator } = transfer;
  const { hub, model, signal } = options;
  const wanted = { signal, offset: partial.position, validator };
  using answer = await openHubFile(hub, { model, path: file.path }, wanted).catch((error) => {
    const pastEnd = error instanceof AttemptFailed && error.failure.status === 416;
    throw pastEnd ? mismatch(transfer, options, "is shorter at the storage host than the hub says") : error;
  });
  const { response } = answer;
  const otherFile = headerMismatch(response, { offset: partial.position, size: file.size });
  if (otherFile !== undefined) throw mismatch(transfer, options, otherFile);
  // The whole file came although a part was asked for: the server knows no Range, or the file has changed.
  if (response.status !== 206 && partial.position > 0) await startAgain(transfer, options);
  transfer.validator = strongValidator(answer);
  await receiveBody(answer, transfer, options);
  if (partial.position < file.size) {
    throw answer.readFailure(new Error(`the connection ended at byte ${partial.position} of ${file.size}`));
  }
}

async function receiveBody(answer: HubAnswer, transfer: Transfer, options: TransferOptions): Promise<void> {
  const { file, partial } = transfer;
  const { watch } = answer;
  const reader = (answer.response.body ?? new Blob().stream()).getReader();
  while (true) {
    watch.alive();
    const { done, value } = await reader.read().catch((error) => {
      throw answer.readFailure(error);
    });
    if (done) return;
    watch.pause();
    if (partial.position + value.length > file.size) {
      throw mismatch(transfer, options, `goes on beyond its ${file.size} bytes`);
    }
    await options.bandwidth.take(value.length, options.signal);
    await partial.append(value);
    options.onBytes(partial.position);
  }
}

/** How the headers show that this is not the file, or not the part of it, that was asked for. */
function headerMismatch(response: Response, wanted: { offset: number; size: number }): string | undefined {
  const { offset, size } = wanted;
  let start = 0;
  if (response.status === 206) {
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get("Content-Range") ?? "");
    if (range === null || Number(range[1]) !== offset) return `came from another byte than ${offset}`;
    if (range[2] !== "*" && Number(range[2]) !== size) return lengthMismatch(Number(range[2]), size);
    start = offset;
  }
  const length = response.headers.get("Content-Length");
  if (length === null || start + Number(length) === size) return undefined;
  return lengthMismatch(start + Number(length), size);
}

function lengthMismatch(storedBytes: number, size: number): string {
  return `has ${storedBytes} bytes at the storage host, ${size} by the hub's list`;
}

/** Weak ETags do not vouch for single bytes. */
function strongValidator(answer: HubAnswer): Transfer["validator"] {
  const etag = answer.response.headers.get("ETag");
  return etag?.startsWith('"') ? { origin: answer.origin, etag } : undefined;
}

function mismatch(transfer: Transfer, options: TransferOptions, why: string): AttemptFailed {
  const { path, digest } = transfer.file;
  const error = new RbeeError(
    "CHECKSUM_MISMATCH",
    `${path} of ${options.model.repo} ${why}. It was discarded; try again later.`,
    { details: { path, expected: digest.hex } },
  );
  return new AttemptFailed({ kind: "mismatch", reason: `${path} ${why}` }, error);
}
