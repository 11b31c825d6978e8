/** Clock, pauses and chance, so that tests need neither wait nor hope. */
import { delay } from "@std/async";

/** What a download asks of the outside world besides network and disk. */
export interface Timing {
  /** Milliseconds that only go forward. */
  now(): number;
  /** Rejects with the signal's reason once that aborts. */
  delay(ms: number, signal?: AbortSignal): Promise<void>;
  /** 0 ≤ x < 1. */
  random(): number;
}

/** The real ones. */
export const REAL_TIMING: Timing = {
  now: () => performance.now(),
  delay: (ms, signal) => delay(ms, { signal }),
  random: Math.random,
};
