/** How long what waits will have to wait, from speeds that were measured. Pure functions. */

/** What is known of the workers of one model. */
export interface ModelPace {
  /** All slots of its workers. */
  slots: number;
  /** Of these, free ones. */
  free: number;
  /** How long one answer takes lately, in ms. */
  answerMs: number;
  /** Until a worker that is being loaded can answer, in ms; undefined: none is. */
  loadMs?: number;
}

/**
 * Milliseconds until the `position`th (from 0) of those that wait is served: slots become free evenly, one every
 * `answerMs / slots`. Undefined where nothing serves the model and nothing is being loaded.
 */
export function waitMs(position: number, pace: ModelPace): number | undefined {
  if (position < pace.free) return 0;
  if (pace.slots > 0) return Math.ceil((position - pace.free + 1) * pace.answerMs / pace.slots);
  return pace.loadMs === undefined ? undefined : Math.ceil(pace.loadMs);
}

/**
 * Milliseconds of waiting that `more` slots save those who wait, all together, when they can be had after `loadMs`.
 * Without them the ith waits for `i * answerMs / slots`; from the load's end on, all goes faster by the share of the new
 * slots.
 */
export function growthSavesMs(
  waiting: number,
  pace: { slots: number; more: number; answerMs: number; loadMs: number },
): number {
  const { slots, more, answerMs, loadMs } = pace;
  const gapMs = answerMs / slots;
  // Those before it are served before the new worker is there.
  const first = Math.floor(loadMs / gapMs) + 1;
  if (first > waiting) return 0;
  const count = waiting - first + 1;
  const laterMs = gapMs * (first + waiting) * count / 2 - count * loadMs;
  return laterMs * more / (slots + more);
}

/** A mean that follows what is measured: each value counts for `weight` of it. */
export class MovingMean {
  #value: number | undefined;
  readonly #weight: number;

  /** Nothing is measured yet. */
  constructor(weight: number) {
    this.#weight = weight;
  }

  /** Takes one more value. */
  add(value: number): void {
    this.#value = this.#value === undefined ? value : this.#value + this.#weight * (value - this.#value);
  }

  /** Undefined before the first. */
  get value(): number | undefined {
    return this.#value;
  }
}
