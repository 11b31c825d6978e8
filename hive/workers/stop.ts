/** The stop ladder (SPEC §6): ask, SIGTERM, SIGKILL. */
import type { Logger } from "../../daemon/log.ts";
import { type Clock, deadline, settlesWithin } from "../../daemon/clock.ts";
import {
  DRAIN_MOMENT_MS,
  SHUTDOWN_ACK_TIMEOUT_MS,
  STOP_BUSY_TIMEOUT_MS,
  STOP_TIMEOUT_MS,
} from "../limits.ts";
import type { WorkerApi } from "./connection.ts";
import type { WorkerProcess } from "./process.ts";

/** Options of {@linkcode stopProcess}. */
export interface StopOptions {
  /** Absent while the worker has no HTTP port yet. */
  api?: WorkerApi;
  /** As last known; the worker's own answer may correct it. */
  busy: boolean;
  /** Cuts the waiting short: straight to SIGKILL. */
  hurry: AbortSignal;
  /** For the limits. */
  clock: Clock;
  /** Carries the worker's id. */
  log: Logger;
}

/**
 * Stops a worker's process and waits until it is over: HTTP shutdown; SIGTERM if that is not acknowledged; SIGKILL of
 * the group if it then takes too long.
 */
export async function stopProcess(process: WorkerProcess, options: StopOptions): Promise<void> {
  const answer = await askToLeave(process, options);
  const busy = options.busy || answer?.idleMs === 0;
  if (answer === undefined) await process.kill("SIGTERM");
  await awaitExit(process, { ...options, busy });
}

/** The rest of the ladder for a worker that knows it has to leave. */
export async function awaitExit(
  process: WorkerProcess,
  options: Pick<StopOptions, "busy" | "hurry" | "clock" | "log">,
): Promise<void> {
  process.expectExit();
  const graceMs = options.busy ? STOP_BUSY_TIMEOUT_MS : STOP_TIMEOUT_MS;
  if (await settlesWithin(process.exited, { clock: options.clock, ms: graceMs, signal: options.hurry })) {
    return;
  }
  options.log.warn("worker killed: it did not leave in time", { grace_ms: graceMs });
  await process.kill("SIGKILL");
  await process.exited;
}

/** Kills it after a moment in which others may hear that it goes, and waits until it is over. */
export async function killSoon(
  process: WorkerProcess,
  options: Pick<StopOptions, "hurry" | "clock">,
): Promise<void> {
  await settlesWithin(process.exited, { clock: options.clock, ms: DRAIN_MOMENT_MS, signal: options.hurry });
  await process.kill("SIGKILL");
  await process.exited;
}

async function askToLeave(
  process: WorkerProcess,
  options: StopOptions,
): Promise<{ idleMs: number } | undefined> {
  if (options.api === undefined) return undefined;
  using limit = deadline(options.clock, SHUTDOWN_ACK_TIMEOUT_MS, options.hurry);
  try {
    const answer = await Promise.race([
      options.api.shutdown({ signal: limit.signal, timeoutMs: SHUTDOWN_ACK_TIMEOUT_MS }),
      process.exited.then(() => undefined),
    ]);
    return { idleMs: answer?.idle_ms ?? 0 };
  } catch (error) {
    options.log.warn("worker did not acknowledge its shutdown", { error });
    return undefined;
  }
}
