/** What a run of the soak counts, and the problems it tells of. */
import type { Result } from "./send.ts";
import type { MemorySample } from "./trend.ts";

/** More problems are only counted. */
const MAX_SHOWN_PROBLEMS = 20;

/** The counts of one run. */
export class Tally {
  /** How many requests came to which outcome. */
  readonly outcomes = new Map<string, number>();
  readonly memory: MemorySample[] = [];
  /** Requests that came to an outcome. */
  requests = 0;
  /** Times that a request found no slot and was sent again. */
  busy = 0;
  /** Tokens of answers that ended. */
  tokens = 0;
  /** Everything that was wrong. */
  problems = 0;

  /** `tell` takes lines for a person. */
  constructor(readonly tell: (line: string) => void) {}

  /** Counts an answer; its problems are told aside, with the request's number. */
  add({ outcome, stats }: Result): void {
    this.requests++;
    this.tokens += stats?.total_tokens ?? 0;
    this.outcomes.set(outcome, this.count(outcome) + 1);
  }

  /** The outcomes in one line. */
  summary(): string {
    const counts = [...this.outcomes].sort().map(([outcome, count]) => `${count} ${outcome}, `);
    return `${counts.join("")}${this.busy} times busy`;
  }

  /** Requests of one outcome. */
  count(outcome: string): number {
    return this.outcomes.get(outcome) ?? 0;
  }

  /** Something is wrong. */
  problem(text: string): void {
    if (++this.problems <= MAX_SHOWN_PROBLEMS) this.tell(`failed: ${text}`);
  }

  /** Something is wrong unless `ok`. */
  expect(ok: boolean, problem: string): void {
    if (!ok) this.problem(problem);
  }
}
