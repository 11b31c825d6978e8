/** The bandwidth cap: one token bucket for all downloads of a hive. */
import type { Timing } from "./timing.ts";

const BYTES_PER_MB = 1_000_000;
/** What may come at once after a quiet time: keeps the cap true within a fraction of a second. */
const BURST_SECONDS = 0.1;

/** Hands out the right to receive bytes. Without a cap it never waits. */
export class Bandwidth {
  readonly #bytesPerMs: number;
  readonly #timing: Timing;
  /** When everything handed out so far has been paid for. */
  #paidUntilMs = -Infinity;

  /** `maxMbps` in MB/s; undefined: no cap. */
  constructor(maxMbps: number | undefined, timing: Timing) {
    this.#bytesPerMs = (maxMbps ?? Infinity) * BYTES_PER_MB / 1000;
    this.#timing = timing;
  }

  /** Whether there is a cap at all. */
  get capped(): boolean {
    return this.#bytesPerMs !== Infinity;
  }

  /** Resolves when `bytes` more fit under the cap. Callers are served in order. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    if (!this.capped) return;
    const now = this.#timing.now();
    this.#paidUntilMs = Math.max(this.#paidUntilMs, now - BURST_SECONDS * 1000) + bytes / this.#bytesPerMs;
    const waitMs = this.#paidUntilMs - now;
    if (waitMs > 0) await this.#timing.delay(waitMs, signal);
  }
}
