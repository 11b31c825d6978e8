/** Reads the text that `GET /metrics` of a daemon is. */
import type { MetricHead, Sample } from "./metrics.ts";

/** One metric, as it was told. */
export type ToldMetric = MetricHead & { samples: Sample[] };

const SERIES = /^([a-zA-Z_]\w*)(?:\{(.*)\})? (\S+)$/;
/** Names that begin with two underscores are Prometheus' own: with one of them a metric could pass for another. */
const LABEL = /\b((?!__)[a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"(?:,|$)/g;
const HISTOGRAM_PARTS = ["_bucket", "_sum", "_count"];

/** Parses the metrics in a text. Lines that are not a sample of the metric declared above them are skipped. */
export function readMetrics(text: string): ToldMetric[] {
  const metrics: ToldMetric[] = [];
  let help = "";
  for (const line of text.split("\n")) {
    const [, what, name, rest] = /^# (HELP|TYPE) (\w+) (.*)$/.exec(line) ?? [];
    if (what === "HELP") help = rest;
    else if (what === "TYPE") {
      if (rest !== "counter" && rest !== "gauge" && rest !== "histogram") continue;
      metrics.push({ name, type: rest, help, samples: [] });
    } else {
      const metric = metrics.at(-1);
      const sample = metric && sampleIn(line, metric);
      if (sample !== undefined) metric!.samples.push(sample);
    }
  }
  return metrics;
}

function sampleIn(line: string, { name, type }: MetricHead): Sample | undefined {
  const [, metricName, labels = "", number] = SERIES.exec(line) ?? [];
  if (metricName === undefined) return undefined;
  const part = metricName.startsWith(name) ? metricName.slice(name.length) : undefined;
  const fits = type === "histogram" ? HISTOGRAM_PARTS.includes(part!) : part === "";
  const value = numberOf(number);
  if (!fits || value === undefined) return undefined;
  return { metricName, labels: labelsIn(labels), value };
}

function labelsIn(text: string): Record<string, string> {
  return Object.fromEntries(
    [...text.matchAll(LABEL)].map(([, label, value]) => [
      label,
      value.replace(/\\(.)/g, (_, escaped) => escaped === "n" ? "\n" : escaped),
    ]),
  );
}

function numberOf(text: string): number | undefined {
  if (text === "NaN") return NaN;
  const infinite = /^([+-]?)Inf$/.exec(text);
  if (infinite) return infinite[1] === "-" ? -Infinity : Infinity;
  const value = Number(text);
  return Number.isNaN(value) ? undefined : value;
}
