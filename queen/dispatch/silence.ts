/** Notices that nobody says anything any more. */
import { type Clock, systemClock } from "../../daemon/clock.ts";
import { RbeeError } from "../../protocol/errors.ts";
import {
  CLOCK_GAP_MS,
  MEAN_WEIGHT,
  OVERDUE_GAPS,
  OVERDUE_MIN_MS,
  PROBE_TIMEOUT_MS,
  READING_PROBE_INTERVAL_MS,
  READING_PROBE_TIMEOUT_MS,
  WORKER_SILENCE_MS,
} from "../limits.ts";
import { MovingMean } from "../queue/eta.ts";

/** Aborts when nothing was heard. */
export interface SilenceWatch extends Disposable {
  readonly signal: AbortSignal;
  /** Something was heard. */
  alive(): void;
}

/**
 * Aborts after so long without a sign of life. Signs are frequent, so they only leave a note; the timer looks at it when
 * it has run out. A timer that comes much too late says that this process was stopped: what others said meanwhile is not
 * read yet.
 */
export function silenceWatch(ms: number): SilenceWatch {
  const silent = new AbortController();
  let lastMs = performance.now();
  let dueMs = lastMs + ms;
  const look = () => {
    const nowMs = performance.now();
    if (nowMs - dueMs > CLOCK_GAP_MS) lastMs = nowMs;
    const leftMs = lastMs + ms - nowMs;
    if (leftMs <= 0) return silent.abort(nothingHeard(ms));
    dueMs = nowMs + leftMs;
    timer = setTimeout(look, leftMs);
  };
  let timer = setTimeout(look, ms);
  return {
    signal: silent.signal,
    alive: () => void (lastMs = performance.now()),
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}

/** How long the next token may take by what the last ones took, before somebody asks why. */
export function overdueMs(meanGapMs: number | undefined): number {
  if (meanGapMs === undefined) return OVERDUE_MIN_MS;
  return Math.min(WORKER_SILENCE_MS, Math.max(OVERDUE_MIN_MS, OVERDUE_GAPS * meanGapMs));
}

/** Timers, and a monotonic clock in ms. */
interface Timing extends Pick<Clock, "after"> {
  now(): number;
}

const REAL_TIME: Timing = { now: () => performance.now(), after: systemClock.after };

/** Watches the tokens of one answer. */
export interface TokenWatch extends SilenceWatch {
  /** The worker has taken the request: from now on it is asked. */
  begin(): void;
}

/**
 * When the next token is overdue by what this answer's usually take, `isWorking` asks the worker whether it goes on; the
 * watch aborts when that says no, or nothing in time. {@linkcode SilenceWatch.alive} tells of tokens. The first one may
 * take as long as the worker reads: until then it is asked at intervals, and has longer to answer.
 */
export function tokenWatch(
  isWorking: (signal: AbortSignal) => Promise<boolean>,
  { now, after }: Timing = REAL_TIME,
): TokenWatch {
  const overdue = new AbortController();
  const over = new AbortController();
  const gaps = new MovingMean(MEAN_WEIGHT);
  let lastMs = 0;
  let isReading = true;
  let limitMs = READING_PROBE_INTERVAL_MS;
  let unset = () => {};
  const lookIn = (ms: number) => {
    unset();
    unset = after(ms, look);
  };
  const arm = () => {
    limitMs = isReading ? READING_PROBE_INTERVAL_MS : overdueMs(gaps.value);
    lookIn(limitMs);
  };
  const look = async () => {
    const leftMs = lastMs + limitMs - now();
    if (leftMs > 0) return lookIn(leftMs);
    const askedMs = lastMs;
    const answerMs = isReading ? READING_PROBE_TIMEOUT_MS : PROBE_TIMEOUT_MS;
    const isHeard = await isWorking(AbortSignal.any([over.signal, AbortSignal.timeout(answerMs)]))
      .catch(() => false);
    if (over.signal.aborted) return;
    if (isHeard || lastMs !== askedMs) arm();
    else overdue.abort(nothingHeard(limitMs));
  };
  return {
    signal: overdue.signal,
    begin() {
      lastMs = now();
      arm();
    },
    alive() {
      const nowMs = now();
      if (!isReading) gaps.add(nowMs - lastMs);
      lastMs = nowMs;
      // Tokens have become fast: what is usual now must not wait for a limit that was set before.
      const isSooner = isReading || overdueMs(gaps.value) < limitMs / 2;
      isReading = false;
      if (isSooner) arm();
    },
    [Symbol.dispose]() {
      over.abort();
      unset();
    },
  };
}

function nothingHeard(ms: number): RbeeError {
  return new RbeeError("NODE_UNREACHABLE", `Nothing was heard for ${(ms / 1000).toFixed(1)} s.`);
}
