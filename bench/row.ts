/** What a row of the table is, as data, and how it is measured. */
import { alternate, type Contender, figureOf, median, type Outcome, type Statistic } from "./measure.ts";
import { modelPath } from "./models.ts";
import { compared, type EntrantResult, type RowResult } from "./results.ts";

/** What a figure counts. MB are 1,000,000 bytes. */
export type Unit = "tokens/s" | "MB/s" | "ms" | "MB" | "%";

/**
 * What is asked of the row's subject: of its own `figure`, of its `ratio` to a peer's figure, or of the `difference`
 * between the two.
 */
export interface Target {
  of: "figure" | "ratio" | "difference";
  at: "least" | "most";
  value: number;
}

/** A contender that has something to end. */
export type RunningContender = Contender & AsyncDisposable;

/** A program that takes part in a row. */
export interface Entrant {
  /** As the table shows it. */
  program: string;
  /** Numbers of threads to try; the best one counts. Default: 2. */
  threads?: readonly number[];
  /** For a peer: what the subject must reach beside it. For the subject: what its figure must reach. */
  target?: Target;
  start(setup: Setup): RunningContender | Promise<RunningContender>;
}

/** What a contender is started with. */
export interface Setup {
  /** Path of the file. */
  model: string;
  threads: number;
}

/** A row: one load, the subject that carries it, and its peers. */
export interface Row {
  /** On the command line. */
  name: string;
  what: string;
  /** One of {@linkcode modelPath}'s. */
  model: string;
  unit: Unit;
  /** Default: the median. */
  statistic?: Statistic;
  /** Where the row needs a certain number of samples, whatever the command line says. */
  rounds?: number;
  /** The subject first. */
  entrants: readonly [Entrant, ...Entrant[]];
}

/** Shorthands, as a specification words them. */
export const atLeast = (value: number): Target => ({ of: "ratio", at: "least", value });
/** See {@linkcode atLeast}. */
export const atMost = (value: number): Target => ({ of: "ratio", at: "most", value });
/** See {@linkcode atLeast}. */
export const atMostAbove = (value: number): Target => ({ of: "difference", at: "most", value });
/** See {@linkcode atLeast}. */
export const figureAtMost = (value: number): Target => ({ of: "figure", at: "most", value });

/** Starts everybody, measures in turn, and ends everybody. A program that fails is in the result with its reason. */
export async function measureRow(
  row: Row,
  run: { rounds: number; commit: string },
): Promise<RowResult> {
  const { statistic = "median", rounds = run.rounds } = row;
  const model = await modelPath(row.model);
  await using all = new AsyncDisposableStack();
  const started: { entrant: Entrant; threads: number; contender: Contender }[] = [];
  for (const entrant of row.entrants) {
    for (const threads of entrant.threads ?? [2]) {
      const contender = await startOrFail(entrant, { model, threads }, all);
      started.push({ entrant, threads, contender });
    }
  }
  const outcomes = await alternate(started.map(({ contender }) => contender), rounds);
  const entrants = row.entrants.map((entrant): EntrantResult => {
    const tried = started.map((start, i) => ({ ...start, ...outcomes[i] }))
      .filter((start) => start.entrant === entrant);
    const { contender, samples, failure } = tried.reduce((a, b) => isBetter(b, a, row.unit) ? b : a);
    const { program, target } = entrant;
    const result = { program, command: contender.command, target };
    if (failure !== undefined) return { ...result, failure: failure.message };
    const figure = figureOf(samples, statistic);
    return { ...result, figure, least: Math.min(...samples), greatest: Math.max(...samples), samples };
  });
  return {
    name: row.name,
    what: row.what,
    model: row.model,
    unit: row.unit,
    statistic,
    rounds,
    commit: run.commit,
    entrants: compared(entrants, statistic),
  };
}

/** A contender that can't start is one that fails when it is run. */
async function startOrFail(
  entrant: Entrant,
  setup: Setup,
  all: AsyncDisposableStack,
): Promise<Contender> {
  try {
    return all.use(await entrant.start(setup));
  } catch (error) {
    return { command: "", run: () => Promise.reject(error) };
  }
}

function isBetter(a: Outcome, b: Outcome, unit: Unit): boolean {
  if (a.failure !== undefined || b.failure !== undefined) return a.failure === undefined;
  const gain = median(a.samples) - median(b.samples);
  return unit.endsWith("/s") ? gain > 0 : gain < 0;
}
