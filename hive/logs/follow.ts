/** Following logs, and keeping them tidy, for as long as somebody wants it. */
import type { Logger } from "../../daemon/log.ts";
import { type Clock, sleep } from "../../daemon/clock.ts";
import { LOG_AFTERWORDS_LOOKS, LOG_FOLLOW_INTERVAL_MS, LOG_TIDY_INTERVAL_MS } from "../limits.ts";
import type { HiveLogs, WantedLines } from "./hive_logs.ts";

/**
 * Tells lines that there are and then those that come. Ends a little after the one worker whose lines are wanted is
 * gone: what the hive says of its end is part of its log.
 *
 * @throws as {@linkcode HiveLogs.read}; the signal's reason when that aborts.
 */
export async function followLogs(
  logs: HiveLogs,
  wanted: WantedLines,
  options: { clock: Clock; signal: AbortSignal; tell: (lines: readonly string[]) => void },
): Promise<void> {
  const { workerId, sinceMs } = wanted;
  const live = () => workerId === undefined || logs.isLive(workerId);
  let afterwords = live() ? LOG_AFTERWORDS_LOOKS : 0;
  for (let next = wanted;;) {
    const { lines, seq } = await logs.read(next);
    options.signal.throwIfAborted();
    if (lines.length > 0) options.tell(lines.map(({ json }) => json));
    if (!live() && afterwords-- === 0) return;
    next = { workerId, sinceMs, afterSeq: seq };
    await sleep(options.clock, LOG_FOLLOW_INTERVAL_MS, options.signal);
  }
}

/** Keeps logs within their bounds until the signal aborts. What goes wrong is logged, once until it changes. */
export async function keepLogsTidy(
  logs: HiveLogs,
  options: { clock: Clock; signal: AbortSignal; log: Logger; ownFile?: string },
): Promise<void> {
  const { clock, signal, log, ownFile } = options;
  let told: string | undefined;
  while (!signal.aborted) {
    try {
      await logs.tidy(ownFile);
      told = undefined;
    } catch (error) {
      if (String(error) !== told) log.warn("logs cannot be kept tidy", { error });
      told = String(error);
    }
    await sleep(clock, LOG_TIDY_INTERVAL_MS, signal).catch(() => {});
  }
}
