/** Notices that the other side has fallen silent. */

/**
 * Aborts its signal when nothing was heard for a while. Between {@linkcode StallWatch.pause} and the next
 * {@linkcode StallWatch.alive} silence is our own doing and does not count. Dispose it to stop the clock.
 */
export class StallWatch implements Disposable {
  readonly #stalled = new AbortController();
  readonly #timeoutMs: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #heardAt = performance.now();
  #paused = false;

  /** Starts to watch. */
  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
    this.#arm(timeoutMs);
  }

  /** Aborts on silence. */
  get signal(): AbortSignal {
    return this.#stalled.signal;
  }

  /** Something was heard, or is awaited from now on. Cheap: called for every chunk. */
  alive(): void {
    this.#heardAt = performance.now();
    this.#paused = false;
  }

  /** Nothing is awaited. */
  pause(): void {
    this.#paused = true;
  }

  /** Stops the clock. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #arm(delayMs: number): void {
    this.#timer = setTimeout(() => {
      const leftMs = this.#paused ? this.#timeoutMs : this.#heardAt + this.#timeoutMs - performance.now();
      if (leftMs > 0) this.#arm(leftMs);
      else this.#stalled.abort();
    }, delayMs);
  }
}
