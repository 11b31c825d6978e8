/**
 * `deno task bench [ROUNDS]`: generation speed beside llama.cpp's own programs, built from the same source. Every
 * program runs with one and with two threads, in turn; a row compares each at its best. Writes bench/RESULTS.md and
 * bench/results.json.
 */
import { basename, fromFileUrl } from "@std/path";
import { cachedLlamaGguf, TINY_LLAMA_1B } from "../tests/helpers/gguf_writer.ts";
import { sharedModel } from "../tests/helpers/test_models.ts";
import { llamaBench, llamaServer, ourWorker, type RunningContender, type StreamLoad } from "./contenders.ts";
import { alternate, median, ratio, type Samples, spread } from "./measure.ts";

const THREADS = [1, 2];
const DEFAULT_ROUNDS = 5;

interface Row {
  what: string;
  model: string;
  best: { name: string; command: string; tokens_per_second: Samples }[];
}

if (import.meta.main) {
  const rounds = Number(Deno.args[0] ?? DEFAULT_ROUNDS);
  const stories = sharedModel("stories260K-F32.gguf");
  if (stories === undefined || !Number.isInteger(rounds) || rounds < 1) {
    console.error(
      "Usage: RBEE_TEST_MODELS=FOLDER deno task bench [ROUNDS]; FOLDER holds stories260K-F32.gguf.",
    );
    Deno.exit(2);
  }
  const big = await cachedLlamaGguf(fromFileUrl(new URL("../.cache/bench", import.meta.url)), {
    ...TINY_LLAMA_1B,
    type: "Q4_0",
  });
  const rows: Row[] = [
    await row("one stream, 400 tokens", { model: stories, streams: 1, tokens: 400 }, rounds),
    await row("eight streams, 400 tokens each", { model: stories, streams: 8, tokens: 400 }, rounds),
    await row("one stream, 48 tokens", { model: big, streams: 1, tokens: 48 }, rounds),
  ];
  const commit = await output("git", ["rev-parse", "--short", "HEAD"]);
  const results = {
    made_by: `deno task bench ${rounds}`,
    commit,
    cores: navigator.hardwareConcurrency,
    rows,
  };
  await write("results.json", JSON.stringify(results, null, 2) + "\n");
  const table = markdown(rows, { commit, rounds });
  await write("RESULTS.md", table);
  console.log(table);
}

async function row(what: string, load: Omit<StreamLoad, "threads">, rounds: number): Promise<Row> {
  await using all = new AsyncDisposableStack();
  const contenders: RunningContender[] = [];
  for (const threads of THREADS) {
    for (const start of [ourWorker, llamaServer, llamaBench]) {
      const contender = all.use(await start({ ...load, threads }));
      contenders.push({ ...contender, name: `${contender.name} ${threads}` });
    }
  }
  const samples = await alternate(contenders, rounds);
  const best = new Map<string, Row["best"][number]>();
  for (const { name, command } of contenders) {
    const program = name.split(" ")[0];
    const figures = { name: program, command, tokens_per_second: samples.get(name)! };
    const before = best.get(program);
    if (before === undefined || median(figures.tokens_per_second) > median(before.tokens_per_second)) {
      best.set(program, figures);
    }
  }
  return { what, model: basename(load.model), best: [...best.values()] };
}

function markdown(rows: Row[], run: { commit: string; rounds: number }): string {
  const lines = rows.flatMap(({ what, model, best }) => {
    const ours = best[0].tokens_per_second;
    return best.map(({ name, command, tokens_per_second }, i) => {
      const times = i === 0 ? "" : ratio(ours, tokens_per_second).toFixed(2);
      return `| ${what} | ${model} | ${name} | ${spread(tokens_per_second)} | ${times} | \`${command}\` |`;
    });
  });
  return [
    "# Generation speed",
    "",
    `Commit ${run.commit}, ${navigator.hardwareConcurrency} cores, ${run.rounds} alternated rounds after a warm-up; ` +
    "tokens/s as median (least–greatest), each program at its better thread count of 1 and 2. The ratio is rbee's " +
    "figure over the program's, median of the rounds. Made by `deno task bench`.",
    "",
    "| what | model | program | tokens/s | rbee is × | command |",
    "| --- | --- | --- | --- | --- | --- |",
    ...lines,
    "",
  ].join("\n");
}

async function output(program: string, args: string[]): Promise<string> {
  const { stdout } = await new Deno.Command(program, { args }).output();
  return new TextDecoder().decode(stdout).trim();
}

async function write(name: string, text: string): Promise<void> {
  await Deno.writeTextFile(new URL(name, import.meta.url), text);
}
