/**
 * `deno task bench [--rounds N] [--only ROW,...] [--list]`: our worker beside llama.cpp's own programs, built from the
 * same source, and beside node-llama-cpp. Writes bench/results.json and, from it, bench/RESULTS.md after every row; a
 * row that is left out keeps what was recorded.
 */
import { type FlagTable, readFlags } from "../home/flags.ts";
import { sharedModel } from "../tests/helpers/test_models.ts";
import { STORIES } from "./models.ts";
import { markdown, merged, type Results, type RowResult } from "./results.ts";
import { measureRow } from "./row.ts";
import { ROWS, rowsNamed } from "./rows.ts";

const FLAGS = {
  rounds: { type: "integer", value: "N", min: 1, max: 1000, default: 5, help: "Rounds after the warm-up." },
  only: { type: "text", value: "ROW,...", help: "Measure these rows." },
  list: { type: "boolean", help: "Print the rows." },
} as const satisfies FlagTable;

const RESULTS = new URL("results.json", import.meta.url);
const TABLE = new URL("RESULTS.md", import.meta.url);

if (import.meta.main) Deno.exit(await main(Deno.args));

async function main(args: string[]): Promise<number> {
  const { flags, problems } = readFlags(args, FLAGS);
  const { rows, unknown } = rowsNamed(flags.only);
  for (const name of unknown) problems.push(`No row is called "${name}". Try: deno task bench --list`);
  if (flags.list && problems.length === 0) {
    for (const { name, what, model } of ROWS) console.log(`${name.padEnd(18)} ${what} (${model})`);
    return 0;
  }
  if (sharedModel(`${STORIES}.gguf`) === undefined) {
    problems.push(`RBEE_TEST_MODELS must name a folder that holds ${STORIES}.gguf.`);
  }
  if (problems.length > 0) {
    for (const problem of problems) console.error(`Error: ${problem}`);
    return 2;
  }
  const run = { rounds: flags.rounds, commit: await commitOfSource() };
  const fresh: RowResult[] = [];
  for (const row of rows) {
    console.error(`${row.name} …`);
    fresh.push(await measureRow(row, run));
    await record(fresh, run.commit);
  }
  console.log(await Deno.readTextFile(TABLE));
  return 0;
}

/** After each row, so that a run that is broken off loses one row at most. */
async function record(fresh: readonly RowResult[], commit: string): Promise<void> {
  const rows = merged(ROWS.map(({ name }) => name), { recorded: await recordedRows(), fresh });
  const results: Results = {
    made_by: "deno task bench",
    commit,
    cores: navigator.hardwareConcurrency,
    rows,
  };
  await Deno.writeTextFile(RESULTS, JSON.stringify(results, null, 2) + "\n");
  await Deno.writeTextFile(TABLE, markdown(results));
}

async function recordedRows(): Promise<RowResult[]> {
  try {
    return (JSON.parse(await Deno.readTextFile(RESULTS)) as Results).rows;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** What is recorded by the bench itself is no change of what it measures. */
async function commitOfSource(): Promise<string> {
  const commit = await git("rev-parse", "--short", "HEAD");
  const changes = await git(
    "status",
    "--porcelain",
    "--",
    ":/",
    ":!bench/RESULTS.md",
    ":!bench/results.json",
  );
  return changes === "" ? commit : `${commit}+changes`;
}

async function git(...args: string[]): Promise<string> {
  const { stdout, success } = await new Deno.Command("git", { args }).output();
  if (!success) throw new Error(`git ${args.join(" ")} failed.`);
  return new TextDecoder().decode(stdout).trim();
}
