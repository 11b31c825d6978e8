/** Ends a worker whose hive is gone for good: nobody else would ever give its memory back. */

/** Looks within the time that a hive may be silent. Counted instead of timed, so that a machine's sleep is no silence. */
const LOOKS = 20;

/** Options of {@linkcode HiveWatch}. */
export interface HiveWatchOptions {
  /** For how long the hive may be silent. */
  timeoutMs: number;
  /** Whether anything runs: that is finished first. */
  busy: () => boolean;
  /** Default: `setInterval`. Returns how to stop. */
  every?: (ms: number, task: () => void) => () => void;
}

/** Told of every sign of the hive. */
export class HiveWatch {
  /** Settles when the hive has been silent for too long and nothing runs. */
  readonly silent: Promise<void>;
  readonly #stop: () => void;
  #looks = 0;

  /** Starts at once. */
  constructor(options: HiveWatchOptions) {
    const { timeoutMs, busy, every = interval } = options;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.silent = promise;
    this.#stop = every(timeoutMs / LOOKS, () => {
      if (++this.#looks >= LOOKS && !busy()) resolve();
    });
  }

  /** The hive has asked for this worker's health. */
  heard(): void {
    this.#looks = 0;
  }

  /** Ends the watch. */
  [Symbol.dispose](): void {
    this.#stop();
  }
}

function interval(ms: number, task: () => void): () => void {
  const timer = setInterval(task, ms);
  return () => clearInterval(timer);
}
