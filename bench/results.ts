/** What was measured, as it is kept in results.json and shown in RESULTS.md. */
import { difference, ratio, type Statistic } from "./measure.ts";
import type { Target, Unit } from "./row.ts";

/** One program's part of a row. Either `figure` with its samples or `failure`. */
export interface EntrantResult {
  program: string;
  /** The exact command line; the model by its file name. */
  command: string;
  target?: Target;
  figure?: number;
  least?: number;
  greatest?: number;
  /** In the order they were taken. */
  samples?: number[];
  /** The subject's figure over this one, median of the rounds. */
  ratio?: number;
  /** The subject's figure minus this one, median of the rounds. */
  difference?: number;
  /** Whether the target was reached. */
  met?: boolean;
  /** Why there is no figure. */
  failure?: string;
}

/** A measured row, the subject first. */
export interface RowResult {
  name: string;
  what: string;
  model: string;
  unit: Unit;
  statistic: Statistic;
  rounds: number;
  /** Of the source that was measured; with `+changes` when files differed from it. */
  commit: string;
  entrants: EntrantResult[];
}

/** The file results.json. */
export interface Results {
  made_by: string;
  /** Of the latest run. */
  commit: string;
  cores: number;
  rows: RowResult[];
}

/** Fills in how the subject, which is the first, compares with each of its peers. */
export function compared(entrants: readonly EntrantResult[], statistic: Statistic): EntrantResult[] {
  const [subject] = entrants;
  return entrants.map((entrant, i) => {
    const { target } = entrant;
    if (subject.samples === undefined || entrant.samples === undefined) return entrant;
    const result: EntrantResult = { ...entrant };
    if (i > 0) {
      const byRound = statistic === "median";
      result.ratio = byRound ? ratio(subject.samples, entrant.samples) : subject.figure! / entrant.figure!;
      result.difference = byRound
        ? difference(subject.samples, entrant.samples)
        : subject.figure! - entrant.figure!;
    }
    if (target !== undefined) {
      const reached = result[target.of]!;
      result.met = target.at === "least" ? reached >= target.value : reached <= target.value;
    }
    return result;
  });
}

/** The rows in the order of `names`: fresh ones where there are any, else those recorded before. */
export function merged(
  names: readonly string[],
  rows: { recorded: readonly RowResult[]; fresh: readonly RowResult[] },
): RowResult[] {
  return names.flatMap((name) =>
    rows.fresh.find((row) => row.name === name) ?? rows.recorded.find((row) => row.name === name) ?? []
  );
}

/** RESULTS.md. */
export function markdown({ made_by, commit, cores, rows }: Results): string {
  const lines = rows.flatMap((row) => {
    const [subject] = row.entrants;
    return row.entrants.map((entrant, i) =>
      cells([
        ...(i === 0 ? [`\`${row.name}\``, row.what, row.model] : ["", "", ""]),
        entrant.program,
        figureCell(entrant, row),
        entrant.ratio === undefined ? "" : entrant.ratio.toFixed(2),
        targetCell(entrant, row.unit),
        subject.failure !== undefined || entrant.met === undefined ? "" : entrant.met ? "yes" : "**no**",
        i === 0 ? row.commit : "",
        entrant.command === "" ? "" : `\`${entrant.command}\``,
      ])
    );
  });
  return [
    "# Measured beside others",
    "",
    `Commit ${commit}, ${cores} cores; made by \`${made_by}\`. Programs take turns; a figure is the median (or the ` +
    "p99, where it says so) of all rounds after a warm-up, with the least and the greatest. “rbee is ×” is the " +
    "figure of the row's first program over that of the line, median of the rounds. A row that the latest run left " +
    "out shows the commit at which it was measured.",
    "",
    cells([
      ...["row", "what", "model", "program", "figure", "rbee is ×", "target", "met", "commit", "command"],
    ]),
    cells(Array(10).fill("---")),
    ...lines,
    "",
  ].join("\n");
}

function cells(texts: readonly string[]): string {
  return `| ${texts.map((text) => text.replaceAll("|", "\\|")).join(" | ")} |`;
}

function figureCell({ figure, least, greatest, failure }: EntrantResult, row: RowResult): string {
  if (figure === undefined) return `failed: ${failure}`;
  const spread = `(${shown(least!)}–${shown(greatest!)})`;
  const statistic = row.statistic === "median" ? "" : ` ${row.statistic} of ${row.rounds}`;
  return `${shown(figure)} ${spread} ${row.unit}${statistic}`;
}

function targetCell({ target, difference }: EntrantResult, unit: Unit): string {
  if (target === undefined) return "";
  const sign = target.at === "least" ? "≥" : "≤";
  switch (target.of) {
    case "ratio":
      return `${sign} ${target.value} ×`;
    case "figure":
      return `${sign} ${target.value} ${unit}`;
    case "difference":
      return `${sign} ${signed(target.value)} ${unit}` +
        (difference === undefined ? "" : `; is ${signed(difference)}`);
  }
}

/** Three figures are all that a noisy machine gives. */
function shown(figure: number): string {
  return Math.abs(figure) >= 100 ? figure.toFixed(0) : figure.toPrecision(3);
}

function signed(value: number): string {
  return value < 0 ? `−${shown(-value)}` : `+${shown(value)}`;
}
