/** Is a model on the disk still what it was? Reads all of it again and compares digests. */
import { RbeeError } from "../../protocol/errors.ts";
import type { CatalogModel, VerifyEvent } from "../../protocol/hive_schemas.ts";
import { digestOfEntry } from "./cache_lookup.ts";
import type { Catalog } from "./catalog.ts";
import { fileBehind, fileSize } from "./file_look.ts";
import { digestOf } from "./following_digest.ts";
import type { HubFile } from "./hub.ts";
import { VERIFY_PROGRESS_INTERVAL_MS } from "./limits.ts";
import { splitPaths } from "./split_name.ts";

/** What a verification found. */
export type Verified = Extract<VerifyEvent, { stage: "verified" }>;

/** Options of {@linkcode verifyModel}. */
export interface VerifyOptions {
  /** Ends it, at most one piece later. */
  signal: AbortSignal;
  /** Receives everything but the terminal event, at most ten times a second. */
  emit: (event: Extract<VerifyEvent, { stage: "verifying" }>) => void;
}

/** A part of a model and what is known of it. */
interface Part {
  path: string;
  size: number;
  /** What it must have; without hex when nobody has ever said. */
  digest: { algorithm: HubFile["digest"]["algorithm"]; hex?: string };
}

/**
 * Hashes every part of `model`. A file of the Hugging Face cache must have the digest that names its blob, any other
 * the one that its first verification recorded. The outcome is noted in the catalog.
 *
 * @throws {RbeeError} `CHECKSUM_MISMATCH` with path, expected and actual; `MODEL_NOT_FOUND` when a part went away;
 * `INVALID_MODEL` when it cannot be read. The signal's reason when aborted.
 */
export async function verifyModel(
  model: CatalogModel,
  options: VerifyOptions & { catalog: Catalog },
): Promise<Verified> {
  const { catalog, signal } = options;
  const parts = await partsOf(model, catalog.recordedDigests(model.reference));
  const onBytes = meter(parts, options.emit);
  const files: Verified["files"] = [];
  for (const part of parts) {
    const { path, size, digest: { algorithm, hex: expected } } = part;
    const actual = await digestOf(part, { signal, onBytes }).catch((error) => {
      signal.throwIfAborted();
      throw unreadable(error, model, path);
    });
    if (actual !== (expected ?? actual)) {
      throw mismatch(model, { path, expected: expected!, actual }, await sharing(path, { model, catalog }));
    }
    files.push({ path, size_bytes: size, algorithm, digest: actual, recorded: expected === undefined });
  }
  signal.throwIfAborted();
  const sha256 = files.length === 1 && files[0].algorithm === "sha256" ? files[0].digest : null;
  const digests = files.some((file) => file.recorded) ? files.map((file) => file.digest) : undefined;
  catalog.verified(model.reference, { atUnix: Math.floor(Date.now() / 1000), sha256, digests });
  return { stage: "verified", sha256, files };
}

async function partsOf(model: CatalogModel, recorded: readonly string[]): Promise<Part[]> {
  const paths = splitPaths(model.local_path);
  return await Promise.all(paths.map(async (path, i) => {
    const size = await fileSize(path);
    if (size === undefined) throw gone(model, path);
    const named = model.provider === "hf" ? await digestOfEntry(path) : undefined;
    const known = recorded.at(i) ?? (paths.length === 1 ? model.sha256 ?? undefined : undefined);
    return { path, size, digest: named ?? { algorithm: "sha256", hex: known } };
  }));
}

/** Adds up what is read, and tells it now and then. */
function meter(parts: readonly Part[], emit: VerifyOptions["emit"]): (count: number) => void {
  const bytes_total = parts.reduce((sum, { size }) => sum + size, 0);
  let bytes_done = 0;
  let toldAtMs = performance.now();
  emit({ stage: "verifying", bytes_done, bytes_total });
  return (count) => {
    bytes_done += count;
    const nowMs = performance.now();
    if (nowMs - toldAtMs < VERIFY_PROGRESS_INTERVAL_MS) return;
    toldAtMs = nowMs;
    emit({ stage: "verifying", bytes_done, bytes_total });
  };
}

/** References from other commits to the same blob: it stays, damaged as it is, until the last of them is removed. */
async function sharing(path: string, of: { model: CatalogModel; catalog: Catalog }): Promise<string[]> {
  const { model, catalog } = of;
  if (model.provider !== "hf") return [];
  const blob = await fileBehind(path);
  const others = catalog.all().filter((other) =>
    other.provider === "hf" && other.local_path !== model.local_path
  );
  const blobs = await Promise.all(
    others.map((other) => Promise.all(splitPaths(other.local_path).map(fileBehind))),
  );
  return others.filter((_, i) => blobs[i].includes(blob)).map(({ reference }) => reference);
}

function mismatch(
  model: CatalogModel,
  file: { path: string; expected: string; actual: string },
  shared: readonly string[],
): RbeeError {
  const advice = model.provider === "hf"
    ? shared.length === 0
      ? "Remove the model and pull it again."
      : `Remove the model and those that share the file (${shared.join(", ")}), and pull it again.`
    : model.provider === "file"
    ? "Put back a good copy; if the file was replaced on purpose, remove the model from the catalog, which leaves " +
      "the file, and verify it again."
    : "Install rbee again.";
  return new RbeeError(
    "CHECKSUM_MISMATCH",
    `${model.reference} is not what it was: ${file.path} has the digest ${file.actual} instead of ${file.expected}. ` +
      advice,
    { details: { ...file } },
  );
}

function gone(model: CatalogModel, path: string): RbeeError {
  return new RbeeError("MODEL_NOT_FOUND", `${path} of ${model.reference} is not there any more.`);
}

/** Errors of the file system are the machine's, not a defect of ours. */
function unreadable(error: unknown, model: CatalogModel, path: string): unknown {
  if (error instanceof Deno.errors.NotFound) return gone(model, path);
  if (!(error instanceof Error) || !("code" in error)) return error;
  return new RbeeError(
    "INVALID_MODEL",
    `${path} of ${model.reference} cannot be read: ${error.message}. Check its owner and mode, and the disk.`,
    { cause: error, details: { path } },
  );
}
