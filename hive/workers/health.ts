/** The health loop of one worker. */
import type { Logger } from "../../daemon/log.ts";
import { HEALTH_TIMEOUT_MS } from "../../protocol/limits.ts";
import { type Clock, deadline, sleep } from "../../daemon/clock.ts";
import { HEALTH_FAILURES_MAX, HIVE_GAP_MS } from "../limits.ts";
import type { WorkerApi } from "./connection.ts";

/** Options of {@linkcode watchHealth}. */
export interface WatchHealthOptions {
  /** Ends the loop; it then rejects with the signal's reason. */
  signal: AbortSignal;
  /** For pauses and limits. */
  clock: Clock;
  /** Pause between the end of one check and the next. */
  intervalMs: number;
  /** Carries the worker's id. */
  log: Logger;
  /** Told of every answer. */
  onAlive: () => void;
  /** Told of every check without one. */
  onSilence: () => void;
}

/**
 * Whether the hive itself stood still during a wait that should have taken `mostMs` at most by the wall clock: stopped,
 * suspended or starved. What it did not hear meanwhile is nobody's silence. A step of that clock looks the same, and
 * costs a check.
 */
export function isGap(tookMs: number, mostMs: number): boolean {
  return tookMs < -HIVE_GAP_MS || tookMs > mostMs + HIVE_GAP_MS;
}

/** Checks a worker until {@linkcode HEALTH_FAILURES_MAX} checks in a row have failed, and resolves then. */
export async function watchHealth(api: WorkerApi, options: WatchHealthOptions): Promise<void> {
  const { signal, clock } = options;
  for (let failures = 0; failures < HEALTH_FAILURES_MAX;) {
    await sleep(clock, options.intervalMs, signal);
    const askedMs = clock.unixMs();
    using limit = deadline(clock, HEALTH_TIMEOUT_MS, signal);
    try {
      await api.health({ signal: limit.signal });
      failures = 0;
      options.onAlive();
    } catch (error) {
      signal.throwIfAborted();
      if (isGap(clock.unixMs() - askedMs, HEALTH_TIMEOUT_MS)) continue;
      failures++;
      options.log.warn("worker failed a health check", { failures, error: String(error) });
      options.onSilence();
    }
  }
}
