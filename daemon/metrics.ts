/**
 * Prometheus metrics of one daemon: plain numbers while it works, put into prom-client's form when somebody asks.
 * Loading that library costs more time than the rest of a daemon's start.
 */
import type { Metric as PromMetric } from "prom-client";

/** Numbers by the value of one label, whose values are few and known beforehand. */
export class Tally<Key extends string> {
  readonly #numbers: Map<Key, number>;

  /** `shown` are there from the start, at zero: Prometheus sees no increase where a series begins. */
  constructor(shown: readonly Key[] = []) {
    this.#numbers = new Map(shown.map((key) => [key, 0]));
  }

  /** Adds to one of them. */
  add(key: Key, by = 1): void {
    this.#numbers.set(key, (this.#numbers.get(key) ?? 0) + by);
  }

  /** All that are shown or were ever added to. */
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

/** What tells one series of a metric from the others. */
export type Labels = Readonly<Record<string, string>>;

/** One number of a metric. */
export interface Sample {
  /** That of the metric where it is absent; a histogram has `_bucket`, `_sum` and `_count`. */
  readonly metricName?: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/** A metric without its numbers. */
export interface MetricHead {
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly help: string;
}

/** One metric as it is at present: one number, one for each value of a label or of several, or as somebody else told it. */
export type Metric =
  & MetricHead
  & (
    | { value: number | Histogram }
    | { label: string; values: Iterable<readonly [string, number | Histogram]> }
    | { series: Iterable<readonly [Labels, number | Histogram]> }
    | { samples: readonly Sample[] }
  );

/** `GET /metrics`. */
export async function metricsResponse(metrics: readonly Metric[]): Promise<Response> {
  const { Registry } = await import("prom-client");
  const registry = new Registry();
  for (const metric of metrics) {
    const { name, type, help } = metric;
    const values = samplesIn(metric);
    // All that a registry asks of a metric; its own kinds can count but not be told what was counted.
    const told = { name, get: () => Promise.resolve({ name, type, help, values }) };
    registry.registerMetric(told as unknown as PromMetric);
  }
  return new Response(await registry.metrics(), { headers: { "Content-Type": registry.contentType } });
}

function samplesIn(metric: Metric): Sample[] {
  const { name } = metric;
  if ("samples" in metric) return [...metric.samples];
  if ("value" in metric) return samplesOf(name, metric.value, {});
  if ("series" in metric) {
    return [...metric.series].flatMap(([labels, value]) => samplesOf(name, value, labels));
  }
  const { label } = metric;
  return [...metric.values].flatMap(([given, value]) => samplesOf(name, value, { [label]: given }));
}

function samplesOf(name: string, value: number | Histogram, labels: Labels): Sample[] {
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
