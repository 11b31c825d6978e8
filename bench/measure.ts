/** Samples, medians and ratios: how every figure under bench/ is made. */

/** Figures of one contender, in the order they were taken. */
export type Samples = number[];

/** The middle of sorted figures. */
export function median(samples: Samples): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Median with the least and the greatest, as tables show it. */
export function spread(samples: Samples): string {
  return [median(samples), Math.min(...samples), Math.max(...samples)].map((figure) => figure.toFixed(0))
    .join(" ").replace(/ (\d+) (\d+)$/, " ($1–$2)");
}

/** The median of the ratios round by round. */
export function ratio(ours: Samples, theirs: Samples): number {
  return median(ours.map((figure, round) => figure / theirs[round]));
}

/** Something that gives one figure each time it is run. */
export interface Contender {
  name: string;
  /** As a person would type it. */
  command: string;
  run(): Promise<number>;
}

/**
 * Runs all contenders in turn, round by round, so that a machine whose speed drifts treats them alike. A warm-up
 * round is not counted.
 */
export async function alternate(
  contenders: readonly Contender[],
  rounds: number,
): Promise<Map<string, Samples>> {
  const samples = new Map<string, Samples>(contenders.map(({ name }) => [name, []]));
  for (let round = -1; round < rounds; round++) {
    for (const { name, run } of contenders) {
      const figure = await run();
      if (round >= 0) samples.get(name)!.push(figure);
    }
  }
  return samples;
}
