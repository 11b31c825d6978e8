/** Notices that nobody says anything any more. */
import { RbeeError } from "../../protocol/errors.ts";
import {
  CLOCK_GAP_MS,
  MEAN_WEIGHT,
  OVERDUE_GAPS,
  OVERDUE_MIN_MS,
  PROBE_TIMEOUT_MS,
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
  if (meanGapMs === undefined) return WORKER_SILENCE_MS;
  return Math.min(WORKER_SILENCE_MS, Math.max(OVERDUE_MIN_MS, OVERDUE_GAPS * meanGapMs));
}

/**
 * Watches the tokens of one answer. When the next is overdue by what this answer's usually take, `isWorking` asks the
 * worker whether it goes on; it aborts when that says no, or nothing in time. {@linkcode SilenceWatch.alive} tells of
 * tokens; before the second one nothing is expected.
 */
export function tokenWatch(isWorking: (signal: AbortSignal) => Promise<boolean>): SilenceWatch {
  const overdue = new AbortController();
  const over = new AbortController();
  const gaps = new MovingMean(MEAN_WEIGHT);
  let lastMs: number | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let limitMs = WORKER_SILENCE_MS;
  const arm = () => {
    limitMs = overdueMs(gaps.value);
    timer = setTimeout(look, limitMs);
  };
  const look = async () => {
    const leftMs = lastMs! + limitMs - performance.now();
    if (leftMs > 0) return void (timer = setTimeout(look, leftMs));
    const askedMs = lastMs;
    const isHeard = await isWorking(AbortSignal.any([over.signal, AbortSignal.timeout(PROBE_TIMEOUT_MS)]))
      .catch(() => false);
    if (over.signal.aborted) return;
    if (isHeard || lastMs !== askedMs) arm();
    else overdue.abort(nothingHeard(limitMs));
  };
  return {
    signal: overdue.signal,
    alive() {
      const nowMs = performance.now();
      if (lastMs !== undefined) gaps.add(nowMs - lastMs);
      lastMs = nowMs;
      if (timer === undefined) arm();
      // Tokens have become fast: what is usual now must not wait for a limit that was set before.
      else if (overdueMs(gaps.value) < limitMs / 2) {
        clearTimeout(timer);
        arm();
      }
    },
    [Symbol.dispose]() {
      over.abort();
      clearTimeout(timer);
    },
  };
}

function nothingHeard(ms: number): RbeeError {
  return new RbeeError("NODE_UNREACHABLE", `Nothing was heard for ${(ms / 1000).toFixed(1)} s.`);
}
