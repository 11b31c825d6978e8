/** Whoever looks on while hostile input is sent; see `witness_thread.ts`. */

/** A worker that is looked at. */
export interface Watched {
  url: string;
  key: string;
  pid: number;
  /** Memory that it may well have, in MB. */
  planMegabytes: number;
  /** With more it is killed. */
  mostMegabytes: number;
  /** A neighbour's streams: how long, and what they say undisturbed. Absent: there is none. */
  neighbour?: { tokens: number; text: string };
}

/** What was seen since the last look. */
export interface Figures {
  /** Latency of each health call, those that could not be sent in time counted in. */
  healthMs: number[];
  slowestHealth: { ms: number; label: string };
  /** A neighbour's streams that came whole. */
  streams: number;
  longestGap: { ms: number; label: string };
  /** Those that did not. */
  lost: string[];
  mostMegabytes: { megabytes: number; above: number; label: string };
  /** Workers that were killed for their memory. */
  killed: string[];
}

/** Messages to the thread. */
export type Order =
  | { order: "watch"; watched: Watched }
  | { order: "leave"; pid: number }
  | { order: "label"; label: string }
  | { order: "collect" };

/** What it tells. */
export interface Report {
  report: "figures";
  figures: Figures;
}

/** Starts the thread. */
export class Witness implements Disposable {
  readonly #thread = new Worker(new URL("./witness_thread.ts", import.meta.url), { type: "module" });

  /** Begins to look at a worker. */
  watch(watched: Watched): void {
    this.#tell({ order: "watch", watched });
  }

  /** Looks away, before it is stopped. */
  leave(pid: number): void {
    this.#tell({ order: "leave", pid });
  }

  /** What is being sent from now on, for the worst figures. */
  label(label: string): void {
    this.#tell({ order: "label", label });
  }

  /** The figures since the last time. */
  async collect(): Promise<Figures> {
    const { promise, resolve } = Promise.withResolvers<Figures>();
    this.#thread.onmessage = ({ data }: MessageEvent<Report>) => resolve(data.figures);
    this.#tell({ order: "collect" });
    return await promise;
  }

  [Symbol.dispose](): void {
    this.#thread.terminate();
  }

  #tell(order: Order): void {
    this.#thread.postMessage(order);
  }
}

/** The value that so many of a hundred do not exceed. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * percent / 100))] ?? 0;
}
