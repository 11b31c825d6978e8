/** Counts what `deno test --junit-path` wrote. */

const SUITE = /<testsuite name="([^"]*)"[^>]*>([^]*?)<\/testsuite>/g;
const TEST = /<testcase name="([^"]*)"[^>]*>([^]*?)<\/testcase>/g;
/** Of what is told of a failure. */
const FAILURE_LINES = 12;

/** Tests, without their steps; a test with a failed step is a failed test. */
export interface TestCounts {
  passed: number;
  failed: number;
  ignored: number;
}

/** What is known about one run of `deno test`. */
export interface TestRun {
  /** The test files that were to run. */
  files: string[];
  /** Exit status of the run. */
  status: number;
  /** The report, absent when the run died before it could write one. */
  report?: string;
}

/**
 * The counts of one run. Deno leaves a file that could not be loaded, and everything when the process dies, out
 * of its report; each such file is one failure here, so that nothing that did not run passes unnoticed.
 */
export function countTests({ files, status, report = "" }: TestRun): TestCounts {
  const counts: TestCounts = { passed: 0, failed: 0, ignored: 0 };
  const reported = new Set<string>();
  for (const [, name, suite] of report.matchAll(SUITE)) {
    reported.add(unescapeXml(name).replace(/^\.\//, ""));
    for (const test of topLevelTests(suite)) counts[test]++;
  }
  if (status === 0) return counts;
  counts.failed += files.filter((file) => !reported.has(file)).length;
  // For example an error after the last test.
  if (counts.failed === 0) counts.failed = 1;
  return counts;
}

/** The failed tests and steps of a report, each with its file and the first lines of what was wrong. */
export function failuresIn(report: string): string[] {
  const failures: string[] = [];
  for (const [, file, suite] of report.matchAll(SUITE)) {
    for (const [, name, body] of suite.matchAll(TEST)) {
      const message = /<(?:failure|error)\b(?: message="([^"]*)")?/.exec(body);
      if (message === null) continue;
      const told = unescapeXml(message[1] ?? "").split("\n").slice(0, FAILURE_LINES).join("\n  ");
      failures.push(`${unescapeXml(file)} => ${unescapeXml(name)}: ${told}`);
    }
  }
  return failures;
}

/** The line that ends a test run. */
export function closingLine({ passed, failed }: TestCounts): string {
  return `${passed} passed, ${failed} failed`;
}

/** A step is reported as a test called `test > step`, after its test. */
function topLevelTests(suite: string): (keyof TestCounts)[] {
  const names: string[] = [];
  const outcomes: (keyof TestCounts)[] = [];
  for (const [, name, body] of suite.matchAll(TEST)) {
    if (names.some((test) => name.startsWith(`${test} &gt; `))) continue;
    names.push(name);
    if (/<(failure|error)\b/.test(body)) outcomes.push("failed");
    else outcomes.push(/<skipped\b/.test(body) ? "ignored" : "passed");
  }
  return outcomes;
}

function unescapeXml(text: string): string {
  const entities: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
  return text.replace(/&(\w+);/g, (whole, name: string) => entities[name] ?? whole);
}
