/** Which logs of workers that are gone have to go as well. */
import { join } from "@std/path";
import { LOGS_KEPT_MAX, LOGS_KEPT_MAX_BYTES } from "../limits.ts";
import { rotatedPath } from "./log_file.ts";

const WORKER_LOG = /^worker-([0-9a-f]{1,32})\.log(\.1)?$/;

/** One worker's log files. */
export interface WorkerLog {
  workerId: string;
  sizeBytes: number;
  /** When it was last written. */
  lastMs: number;
}

/**
 * The logs to remove: all but the latest {@linkcode LOGS_KEPT_MAX} of workers that are gone, and of these again the
 * oldest when they take more than {@linkcode LOGS_KEPT_MAX_BYTES} together.
 */
export function outdatedLogs(
  logs: readonly WorkerLog[],
  bounds = { max: LOGS_KEPT_MAX, maxBytes: LOGS_KEPT_MAX_BYTES },
): WorkerLog[] {
  const latestFirst = logs.toSorted((a, b) => b.lastMs - a.lastMs);
  let bytes = 0;
  return latestFirst.filter(({ sizeBytes }, place) => {
    bytes += sizeBytes;
    return place >= bounds.max || bytes > bounds.maxBytes;
  });
}

/** Where a worker's log lies. */
export function workerLogPath(home: string, workerId: string): string {
  return join(home, "logs", `worker-${workerId}.log`);
}

/** The logs of workers in this home, but for those of `live` ones. */
export async function findLogs(home: string, live: ReadonlySet<string>): Promise<WorkerLog[]> {
  const found = new Map<string, WorkerLog>();
  for await (const { name, isFile } of Deno.readDir(join(home, "logs"))) {
    const workerId = WORKER_LOG.exec(name)?.[1];
    if (!isFile || workerId === undefined || live.has(workerId)) continue;
    const { size, mtime } = await statIfThere(join(home, "logs", name));
    const log = found.get(workerId) ?? { workerId, sizeBytes: 0, lastMs: 0 };
    log.sizeBytes += size;
    log.lastMs = Math.max(log.lastMs, mtime?.getTime() ?? 0);
    found.set(workerId, log);
  }
  return [...found.values()];
}

/** A log may be removed while others are looked at. */
async function statIfThere(path: string): Promise<{ size: number; mtime: Date | null }> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { size: 0, mtime: null };
    throw error;
  }
}

/** Removes one worker's log files. */
export async function removeLog(home: string, workerId: string): Promise<void> {
  const path = workerLogPath(home, workerId);
  for (const file of [path, rotatedPath(path)]) {
    await Deno.remove(file).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }
}
