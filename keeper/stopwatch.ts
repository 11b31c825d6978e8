/** Where a command's time went, for `--timings`. */

/** Laps since the process began, in ms. */
export class Stopwatch {
  readonly #laps: { name: string; ms: number }[] = [];
  #lastMs = 0;

  /** Ends a lap; `performance.now()` counts from the process's start. */
  lap(name: string, atMs: number = performance.now()): void {
    this.#laps.push({ name, ms: atMs - this.#lastMs });
    this.#lastMs = atMs;
  }

  /** `process start 41 ms, config 12 ms, …, total 70 ms`. */
  toString(): string {
    const laps = this.#laps.map(({ name, ms }) => `${name} ${Math.round(ms)} ms`);
    return [...laps, `total ${Math.round(this.#lastMs)} ms`].join(", ");
  }
}
