/** What a query of Prometheus asks for, as far as our own queries go. */
import type { Sample } from "../../daemon/metrics.ts";

/** One `name{label="value"}`. */
export interface Selector {
  readonly name: string;
  readonly matchers: readonly { label: string; matches: (value: string) => boolean; value: string }[];
}

const SELECTOR = /\b(rbee_\w+|up)\b(?:\{([^}]*)\})?/g;
const MATCHER = /(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"/g;

/** Those of a query. */
export function selectorsIn(query: string): Selector[] {
  return [...query.matchAll(SELECTOR)].map(([, name, matchers = ""]) => ({
    name,
    matchers: [...matchers.matchAll(MATCHER)].map(([, label, operator, value]) => {
      const whole = new RegExp(`^(?:${operator.endsWith("~") ? value : RegExp.escape(value)})$`);
      return { label, value, matches: (given: string) => whole.test(given) !== operator.startsWith("!") };
    }),
  }));
}

/** Labels that a query's grouping and matching names, without what a histogram's buckets have. */
export function groupedBy(query: string): string[] {
  return [...query.matchAll(/\b(?:by|without|on|ignoring) \(([^)]*)\)/g)]
    .flatMap(([, list]) => list.split(", ")).filter((label) => label !== "le");
}

/** Whether a sample is one of those that are asked for. */
export function isSelected(sample: Sample, { name, matchers }: Selector): boolean {
  return sample.metricName === name &&
    matchers.every(({ label, matches }) => matches(String(sample.labels[label] ?? "")));
}
