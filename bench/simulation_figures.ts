/** What a simulation measures of itself. */

/** What is in use after all that can go has gone, in and outside JavaScript's heap; needs `--v8-flags=--expose-gc`. */
export function memoryMb(): number {
  const { gc } = globalThis as { gc?: () => void };
  if (gc === undefined) throw new Error("Run it with --v8-flags=--expose-gc.");
  // What lies outside is given back one collection later than what has held it.
  gc();
  gc();
  const { heapUsed, external } = Deno.memoryUsage();
  return (heapUsed + external) / 1e6;
}

/** Percentiles of measured times. */
export function toldUs(values: number[]): string {
  if (values.length === 0) return "none";
  const sorted = Float64Array.from(values).sort();
  const at = (part: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))].toFixed(0);
  return `p50 ${at(0.5)} µs, p99 ${at(0.99)} µs, p99.9 ${at(0.999)} µs, most ${
    at(1)
  } µs, of ${sorted.length}`;
}

/** Jain's index: 1: all the same; 1/n: one has everything. */
export function jain(shares: ArrayLike<number>): number {
  const all = Array.from(shares);
  const sum = all.reduce((total, share) => total + share, 0);
  return sum * sum / (all.length * all.reduce((total, share) => total + share * share, 0));
}
