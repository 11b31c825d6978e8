/** Keys whose requests were poisoned lately. */
import { NOTED_AFTER_POISONED, NOTED_FOR_MS, POISONED_STRIKES } from "../limits.ts";

/**
 * Counts poisoned requests by key. A key with {@linkcode NOTED_AFTER_POISONED} of them within
 * {@linkcode NOTED_FOR_MS} is noted: until the oldest of these is that old, each of its requests may cost one worker
 * instead of two. Owners' keys are counted and never restricted.
 */
export class Offenders {
  readonly #isOwner: (key: string) => boolean;
  readonly #totals = new Map<string, number>();
  /** By key: the times of the last few, in ms. */
  readonly #recent = new Map<string, number[]>();

  /** Nobody is noted. `isOwner` tells whether a key, named by its id, has the right `owner`. */
  constructor(isOwner: (key: string) => boolean) {
    this.#isOwner = isOwner;
  }

  /** A request of a key was poisoned. */
  add(key: string, nowMs: number): void {
    this.#totals.set(key, (this.#totals.get(key) ?? 0) + 1);
    this.#recent.set(key, [...this.#recent.get(key) ?? [], nowMs].slice(-NOTED_AFTER_POISONED));
  }

  /** Whether a key is noted. */
  noted(key: string, nowMs: number): boolean {
    const recent = this.#recent.get(key) ?? [];
    return recent.length === NOTED_AFTER_POISONED && nowMs - recent[0] < NOTED_FOR_MS;
  }

  /** Strikes after which a request of this key is poisoned. */
  limitOf(key: string, nowMs: number): number {
    return !this.#isOwner(key) && this.noted(key, nowMs) ? 1 : POISONED_STRIKES;
  }

  /** Poisoned requests by key, since the queen was started. */
  get totals(): ReadonlyMap<string, number> {
    return this.#totals;
  }
}
