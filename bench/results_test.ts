import { assertEquals, assertStringIncludes } from "@std/assert";
import { compared, type EntrantResult, markdown, merged, type RowResult } from "./results.ts";
import { atLeast, atMostAbove, figureAtMost } from "./row.ts";
import { ROWS, rowsNamed } from "./rows.ts";

function entrant(program: string, samples: number[], more: Partial<EntrantResult> = {}): EntrantResult {
  return { program, command: `run ${program}`, samples, figure: samples[0], least: 1, greatest: 9, ...more };
}

function row(name: string, commit: string, entrants: EntrantResult[] = [entrant("rbee", [7])]): RowResult {
  return { name, what: "a|b", model: "m", unit: "ms", statistic: "median", rounds: 1, commit, entrants };
}

Deno.test("a target of a peer is held against the subject beside it", () => {
  const [subject, slower, faster] = compared([
    entrant("rbee", [120, 60]),
    entrant("slow", [100, 50], { target: atLeast(1.2) }),
    entrant("fast", [150, 75], { target: atLeast(0.9) }),
  ], "median");
  assertEquals([subject.ratio, subject.met], [undefined, undefined]);
  assertEquals([slower.ratio, slower.difference, slower.met], [1.2, 15, true]);
  assertEquals([faster.ratio, faster.met], [0.8, false]);
});

Deno.test("differences and figures have targets as well", () => {
  const [subject, peer] = compared([
    entrant("rbee", [80], { target: figureAtMost(100) }),
    entrant("peer", [10], { target: atMostAbove(60) }),
  ], "p99");
  assertEquals(subject.met, true);
  assertEquals([peer.difference, peer.met], [70, false]);
});

Deno.test("a program without figures is compared with nobody", () => {
  const failed = { program: "peer", command: "", target: atLeast(1), failure: "no such file" };
  assertEquals(compared([entrant("rbee", [1]), failed], "median")[1], failed);
  assertEquals(compared([{ ...failed }, entrant("peer", [1])], "median")[1].ratio, undefined);
});

Deno.test("rows that were not run keep what was recorded, in the order of the table", () => {
  const recorded = [row("c", "old"), row("a", "old"), row("gone", "old")];
  const rows = merged(["a", "b", "c", "d"], { recorded, fresh: [row("b", "new"), row("a", "new")] });
  assertEquals(rows.map(({ name, commit }) => `${name} ${commit}`), ["a new", "b new", "c old"]);
});

Deno.test("the table shows figures, targets, commits and commands, and says what failed", () => {
  const entrants = compared([
    entrant("rbee", [120]),
    entrant("peer", [100], { target: atLeast(1.5) }),
    { program: "broken", command: "", failure: "no such file" },
  ], "median");
  const table = markdown({ made_by: "x", commit: "new", cores: 2, rows: [row("r", "old", entrants)] });
  assertStringIncludes(table, "| `r` | a\\|b | m | rbee | 120 (1.00–9.00) ms |  |  |  | old | `run rbee` |");
  assertStringIncludes(
    table,
    "|  |  |  | peer | 100 (1.00–9.00) ms | 1.20 | ≥ 1.5 × | **no** |  | `run peer` |",
  );
  assertStringIncludes(table, "| broken | failed: no such file |");
});

Deno.test("rows have names of their own, by which they are chosen", () => {
  assertEquals(new Set(ROWS.map(({ name }) => name)).size, ROWS.length);
  assertEquals(rowsNamed().rows, [...ROWS]);
  const { rows, unknown } = rowsNamed("cancel, one-stream,nix");
  assertEquals(rows.map(({ name }) => name), ["one-stream", "cancel"]);
  assertEquals(unknown, ["nix"]);
});
