/** Samples, medians and ratios: how every figure under bench/ is made. */

/** Figures of one contender, in the order they were taken. */
export type Samples = readonly number[];

/** What is made of samples. */
export type Statistic = "median" | "p99";

/** The middle of sorted figures. */
export function median(samples: Samples): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The least sample that `percent` of all do not exceed (nearest rank): of 50 samples, p99 is the greatest. */
export function percentile(samples: Samples, percent: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * percent / 100) - 1)];
}

/** The one figure that stands for `samples`. */
export function figureOf(samples: Samples, statistic: Statistic): number {
  return statistic === "median" ? median(samples) : percentile(samples, 99);
}

/** The median of the ratios round by round. */
export function ratio(ours: Samples, theirs: Samples): number {
  return median(ours.map((figure, round) => figure / theirs[round]));
}

/** The median of the differences round by round. */
export function difference(ours: Samples, theirs: Samples): number {
  return median(ours.map((figure, round) => figure - theirs[round]));
}

/** Something that gives one figure each time it is run. */
export interface Contender {
  /** As a person would type it. */
  command: string;
  run(): Promise<number>;
}

/** What a contender came to. A failed one has the samples from before it failed. */
export interface Outcome {
  samples: number[];
  failure?: Error;
}

/**
 * Runs all contenders in turn, round by round, so that a machine whose speed drifts treats them alike. A warm-up
 * round is not counted. One that fails is not run again; the others go on.
 */
export async function alternate(contenders: readonly Contender[], rounds: number): Promise<Outcome[]> {
  const outcomes = contenders.map((): Outcome => ({ samples: [] }));
  for (let round = -1; round < rounds; round++) {
    for (const [i, contender] of contenders.entries()) {
      const outcome = outcomes[i];
      if (outcome.failure !== undefined) continue;
      try {
        const figure = await contender.run();
        if (round >= 0) outcome.samples.push(figure);
      } catch (error) {
        outcome.failure = error as Error;
      }
    }
  }
  return outcomes;
}
