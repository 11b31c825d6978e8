/**
 * Prometheus metrics of one daemon: plain numbers while it works, put into prom-client's form when somebody asks.
 * Loading that library costs more time than the rest of a daemon's start.
 */
import type { Metric as PromMetric } from "prom-client";

/** Numbers by the value of one label, whose values are few and known beforehand. */
export class Tally<Key extends string> {
  readonly #numbers = new Map<Key, number>();

  /** Adds to one of them. */
  add(key: Key, by = 1): void {
    this.#numbers.set(key, (this.#numbers.get(key) ?? 0) + by);
  }

  /** All that were ever added to. */
  [Symbol.iterator](): IterableIterator<[Key, number]> {
    return this.#numbers[Symbol.iterator]();
  }
}

/** How often a measured value was how large. */
export class Histogram {
  /** Upper bounds, inclusive, ascending; the one without an end is implied. */
  readonly bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;

  /** Nothing is measured yet. */
  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.#counts = new Array(bounds.length + 1).fill(0);
  }

  /** Counts a value, `times` over. */
  observe(value: number, times = 1): void {
    const bucket = this.bounds.findIndex((bound) => value <= bound);
    this.#counts[bucket < 0 ? this.bounds.length : bucket] += times;
    this.#sum += value * times;
  }

  /** Sum of all values. */
  get sum(): number {
    return this.#sum;
  }

  /** For each bound, and at last for none: how many values were not above it. */
  cumulative(): number[] {
    let total = 0;
    return this.#counts.map((count) => total += count);
  }
}

/** One metric as it is at present. */
export type Metric =
  & {
    name: string;
    type: "counter" | "gauge" | "histogram";
    help: string;
  }
  & ({ value: number | Histogram } | {
    label: string;
    values: Iterable<readonly [string, number | Histogram]>;
  });

/** `GET /metrics`. */
export async function metricsResponse(metrics: readonly Metric[]): Promise<Response> {
  const { Registry } = await import("prom-client");
  const registry = new Registry();
  for (const metric of metrics) {
    const { name, type, help } = metric;
    const values = "value" in metric
      ? samplesOf(name, metric.value, {})
      : [...metric.values].flatMap(([labelValue, value]) =>
        samplesOf(name, value, { [metric.label]: labelValue })
      );
    // All that a registry asks of a metric; its own kinds can count but not be told what was counted.
    const told = { name, get: () => Promise.resolve({ name, type, help, values }) };
    registry.registerMetric(told as unknown as PromMetric);
  }
  return new Response(await registry.metrics(), { headers: { "Content-Type": registry.contentType } });
}

interface Sample {
  metricName?: string;
  labels: Record<string, string | number>;
  value: number;
}

function samplesOf(name: string, value: number | Histogram, labels: Record<string, string>): Sample[] {
  if (typeof value === "number") return [{ labels, value }];
  const counts = value.cumulative();
  return [
    ...counts.map((count, i) => ({
      metricName: `${name}_bucket`,
      labels: { ...labels, le: value.bounds[i] ?? "+Inf" },
      value: count,
    })),
    { metricName: `${name}_sum`, labels, value: value.sum },
    { metricName: `${name}_count`, labels, value: counts.at(-1)! },
  ];
}
