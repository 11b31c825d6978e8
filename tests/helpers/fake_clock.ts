/** A clock that stands still until it is moved: hours pass in a test at once. */
import type { Clock } from "../../hive/clock.ts";
import { eventually } from "./eventually.ts";

interface Timer {
  atMs: number;
  task: () => void;
}

/** See above. Timers fire in the order of their time, within `advance`. */
export class FakeClock implements Clock {
  #nowMs = Date.UTC(2030, 0, 1);
  readonly #timers = new Set<Timer>();

  unixMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, task: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, task };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Lets time pass; timers that are set meanwhile count as well. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      const [next] = [...this.#timers].filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#nowMs = next.atMs;
      next.task();
    }
    this.#nowMs = untilMs;
  }

  /** Lets time pass in steps, with real work in between, until the condition holds. */
  async advanceUntil(
    what: string,
    options: { stepMs: number; holds: () => boolean | Promise<boolean> },
  ): Promise<void> {
    await eventually(what, async () => {
      if (await options.holds()) return true;
      this.advance(options.stepMs);
      return false;
    });
  }
}
