/** Notices that the other side has fallen silent, or as good as silent. */

/** What silence is. */
export interface StallLimits {
  /** So long without… */
  stallTimeoutMs: number;
  /** …so many bytes. */
  stallBytes: number;
}

/**
 * Aborts its signal when too little was heard for a while. Between {@linkcode StallWatch.pause} and
 * {@linkcode StallWatch.resume} silence is our own doing and does not count. Dispose it to stop the clock.
 */
export class StallWatch implements Disposable {
  readonly #stalled = new AbortController();
  readonly #limits: StallLimits;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the bytes were last enough. */
  #sinceMs = performance.now();
  #heardBytes = 0;
  #pausedAtMs: number | undefined;

  /** Starts to watch. */
  constructor(limits: StallLimits) {
    this.#limits = limits;
    this.#arm(limits.stallTimeoutMs);
  }

  /** Aborts on silence. */
  get signal(): AbortSignal {
    return this.#stalled.signal;
  }

  /** So many bytes came. Cheap: called for every chunk. Without a number: a whole answer's beginning. */
  heard(bytes: number = Infinity): void {
    this.#heardBytes += bytes;
    if (this.#heardBytes < this.#limits.stallBytes) return;
    this.#heardBytes = 0;
    this.#sinceMs = performance.now();
  }

  /** Nothing is awaited. */
  pause(): void {
    this.#pausedAtMs ??= performance.now();
  }

  /** Something is awaited again. */
  resume(): void {
    if (this.#pausedAtMs !== undefined) {
      this.#sinceMs += performance.now() - Math.max(this.#pausedAtMs, this.#sinceMs);
    }
    this.#pausedAtMs = undefined;
  }

  /** Stops the clock. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #arm(delayMs: number): void {
    this.#timer = setTimeout(() => {
      const { stallTimeoutMs } = this.#limits;
      const paused = this.#pausedAtMs !== undefined;
      const leftMs = paused ? stallTimeoutMs : this.#sinceMs + stallTimeoutMs - performance.now();
      if (leftMs > 0) this.#arm(leftMs);
      else this.#stalled.abort();
    }, delayMs);
  }
}
