/** A clock that stands still until it is moved: hours pass in a test at once. */
import { setImmediate } from "node:timers";
import type { Clock } from "../../daemon/clock.ts";
import { eventually } from "./eventually.ts";

/** Turns of the event loop after which all that needs no timer and no other process has come to rest. */
const TURNS = 3;

async function settled(): Promise<void> {
  for (let turn = 0; turn < TURNS; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}

interface Timer {
  atMs: number;
  task: () => void;
}

/** See above. Timers fire in the order of their time, within `advance`. */
export class FakeClock implements Clock {
  #nowMs = Date.UTC(2030, 0, 1);
  #jumpedMs = 0;
  readonly #timers = new Set<Timer>();

  unixMs(): number {
    return this.#nowMs + this.#jumpedMs;
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

  /** Milliseconds that have passed, whatever the wall clock was set to. */
  get elapsedMs(): number {
    return this.#nowMs;
  }

  /** Timers that are set. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Lets time pass from timer to timer; whatever one of them sets going gets its turn before the next. */
  async run(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      await settled();
      let nextMs = untilMs;
      for (const { atMs } of this.#timers) nextMs = Math.min(nextMs, atMs);
      this.advance(Math.max(0, nextMs - this.#nowMs));
      if (nextMs === untilMs) return await settled();
    }
  }

  /** Changes what time it is, as somebody who sets the machine's clock: no timer heeds that. */
  jump(ms: number): void {
    this.#jumpedMs += ms;
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
