/** Finding the workers of an earlier hive again. */
import type { Logger } from "../../daemon/log.ts";
import type { ReadyResponse } from "../../protocol/worker_schemas.ts";
import { type Clock, deadline } from "../../daemon/clock.ts";
import { ADOPT_TIMEOUT_MS } from "../limits.ts";
import type { Connect } from "./connection.ts";
import type { Processes, WorkerProcess } from "./process.ts";
import type { WorkerRecord } from "./registry.ts";

/** Options of {@linkcode findAgain}. */
export interface FindAgainOptions {
  /** For limits, and for watching the process. */
  clock: Clock;
  /** Opens its interface. */
  connect: Connect;
  /** Where the worker may be. */
  processes: Processes;
  /** Carries the worker's id. */
  log: Logger;
}

/**
 * The worker of a registry row if it is alive and shows itself: same pid, same start of the process, and an answer to
 * its key. One that is alive but does not show itself is killed; undefined then, and when it is gone.
 */
export async function findAgain(
  record: WorkerRecord,
  options: FindAgainOptions,
): Promise<{ process: WorkerProcess; ready: ReadyResponse } | undefined> {
  const { pid } = record;
  const identity = record.identity === "" ? undefined : record.identity;
  const process = await options.processes.attach(pid, { identity, clock: options.clock });
  if (process === undefined) {
    options.log.info("worker of the last hive is gone", { pid });
    return undefined;
  }
  const ready = await askWhetherOurs(record, options);
  if (ready !== undefined && ready.state !== "failed") {
    options.log.info("worker adopted", { pid, state: ready.state });
    return { process, ready };
  }
  if (identity === undefined && ready === undefined) {
    // The last hive was killed in the moment of its start, and the pid may be anybody's. If it is ours, it ends by
    // itself: nobody accepts its callback.
    options.log.info("worker of the last hive is left alone: it cannot be told whether it is ours", { pid });
    process.detach();
    return undefined;
  }
  options.log.warn("worker of the last hive killed: it does not answer as ours", { pid });
  await process.kill("SIGKILL");
  await process.exited;
  return undefined;
}

async function askWhetherOurs(
  record: WorkerRecord,
  options: FindAgainOptions,
): Promise<ReadyResponse | undefined> {
  const { url, apiKey } = record;
  // It never called back, and its callback token died with the hive that knew it.
  if (url === null) return undefined;
  using limit = deadline(options.clock, ADOPT_TIMEOUT_MS);
  try {
    return await options.connect({ url, apiKey }).ready({ signal: limit.signal });
  } catch {
    return undefined;
  }
}
