/** A whole model from the hub into the cache: room checked first, then file by file, then made visible. */
import type { DownloadEvent } from "../../protocol/hive_schemas.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { type CachePaths, cachePaths, linkSnapshot, makeRepoFolders, writeRevision } from "./cache.ts";
import { readGgufFacts } from "./gguf.ts";
import { lockBlob } from "./cache_lock.ts";
import { removeIfThere } from "./cache_removal.ts";
import { fileSize, UnreachableFile } from "./file_look.ts";
import type { HubFile, HubModel } from "./hub.ts";
import type { ModelLimits } from "./limits.ts";
import { insufficientDisk, PartFile } from "./part_file.ts";
import { ProgressMeter } from "./progress_meter.ts";
import { type FileSource, transferFile, type TransferOptions } from "./transfer.ts";
import { notePath } from "./unsettled.ts";

/** Options of {@linkcode downloadModel}. */
export interface DownloadOptions extends Omit<TransferOptions, "source" | "onBytes"> {
  /** Where a file of the model comes from. */
  sourceOf: (file: HubFile) => FileSource;
  /** Folder of the cache. */
  root: string;
  /** Receives everything but the terminal event; nothing at all when no byte has to be fetched. */
  emit: (event: DownloadEvent) => void;
  /** Free bytes on the disk of a folder. */
  freeBytes: (folder: string) => Promise<number>;
}

/** A file and what there is of it. */
interface Plan {
  file: HubFile;
  paths: CachePaths;
  /** The snapshot's entry is there. */
  linked: boolean;
  /** Not there yet as a verified blob. */
  missing: boolean;
  /** Bytes that need not be fetched. */
  haveBytes: number;
}

/** Where a model came to lie. */
export interface LocalModel {
  /** The file, or the first part. */
  path: string;
  /** Of all parts. */
  sizeBytes: number;
}

/**
 * Brings all parts of a model into the cache; what is there already is not fetched.
 *
 * @throws {RbeeError} those of {@linkcode transferFile}, `INSUFFICIENT_DISK` before the first byte, `INVALID_MODEL`
 * when what came is no usable GGUF (it is removed then), `DOWNLOAD_FAILED` when the cache cannot be written. The
 * signal's reason when aborted.
 */
export async function downloadModel(model: HubModel, options: DownloadOptions): Promise<LocalModel> {
  const { root, signal, emit } = options;
  try {
    const plans = await Promise.all(
      model.files.map((file) => planFile(file, { root, model, limits: options.limits })),
    );
    if (plans.some((plan) => plan.missing)) {
      await fetchMissing(plans, { ...options, model });
      emit({ stage: "verifying" });
    }
    for (const { linked, paths } of plans) if (!linked) await linkSnapshot(paths);
    await writeRevision(root, model);
    const path = plans[0].paths.snapshot;
    await readGgufFacts(path, { signal }).catch(async (error) => {
      if (error instanceof RbeeError) await removeFetched(plans);
      throw error;
    });
    return { path, sizeBytes: totalOf(model) };
  } catch (error) {
    signal.throwIfAborted();
    throw asWriteFailure(error, root);
  }
}

async function planFile(
  file: HubFile,
  at: { root: string; model: HubModel; limits: ModelLimits },
): Promise<Plan> {
  const { repo, commit } = at.model;
  const paths = cachePaths(at.root, { repo, commit, file });
  const plan = { file, paths, linked: false, missing: false, haveBytes: file.size };
  if (await fileSize(paths.snapshot) === file.size) return { ...plan, linked: true };
  if (await fileSize(paths.blob) === file.size) return plan;
  return { ...plan, missing: true, haveBytes: keptBytes(plan, at.limits) };
}

function keptBytes({ file, paths }: Pick<Plan, "file" | "paths">, { chunkBytes }: ModelLimits): number {
  return PartFile.keptBytes(paths.partial, { size: file.size, chunkBytes });
}

async function fetchMissing(
  plans: readonly Plan[],
  options: DownloadOptions & { model: HubModel },
): Promise<void> {
  const { model, emit, root } = options;
  const totalBytes = totalOf(model);
  const have = new Map(plans.map((plan) => [plan, plan.haveBytes]));
  const doneBytes = () => have.values().reduce((sum, bytes) => sum + bytes, 0);

  const requiredBytes = totalBytes - doneBytes();
  const availableBytes = await options.freeBytes(root);
  if (requiredBytes > availableBytes) throw insufficientDisk({ folder: root, requiredBytes, availableBytes });
  await makeRepoFolders(root, model.repo);

  const meter = new ProgressMeter({
    ...{ totalBytes, doneBytes: doneBytes(), emit },
    ...{ timing: options.timing, intervalMs: options.limits.progressIntervalMs },
  });
  for (const plan of plans) {
    if (!plan.missing) continue;
    const { file, paths } = plan;
    const onBytes = (haveBytes: number) => {
      have.set(plan, haveBytes);
      meter.update(doneBytes());
    };
    using _lock = await lockBlob(file.digest.hex, {
      ...{ root, repo: model.repo, signal: options.signal, timing: options.timing },
      onWait: () => onBytes(keptBytes(plan, options.limits)),
    });
    // Its holder may have brought the file.
    if (await fileSize(paths.blob) === file.size) onBytes(file.size);
    else await transferFile(plan, { ...options, source: options.sourceOf(file), onBytes });
  }
  meter.flush();
}

async function removeFetched(plans: readonly Plan[]): Promise<void> {
  const fetched = plans.filter(({ missing }) => missing);
  const paths = fetched.flatMap(({ paths }) => [paths.snapshot, paths.blob, notePath(paths.blob)]);
  for (const path of paths) await removeIfThere(path);
}

function totalOf(model: HubModel): number {
  return model.files.reduce((sum, file) => sum + file.size, 0);
}

/** Errors of the file system are the machine's, not a defect of ours: say where and why. */
function asWriteFailure(error: unknown, root: string): unknown {
  const why = writeFailure(error);
  if (why === undefined) return error;
  return new RbeeError(
    "DOWNLOAD_FAILED",
    `Cannot write to the model folder ${root}: ${why}. Check its owner and mode, or set hive.models_dir.`,
    { cause: error, details: { folder: root } },
  );
}

function writeFailure(error: unknown): string | undefined {
  if (error instanceof UnreachableFile) return String(error.details.why);
  if (!(error instanceof Error) || error instanceof RbeeError || !("code" in error)) return undefined;
  return error.message;
}
