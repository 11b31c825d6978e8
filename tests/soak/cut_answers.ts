/**
 * Part of `deno task soak`: seeded answers by way of a queen, whose worker is killed at a random token. Each has to be the
 * same as without that. Exit status 1 otherwise.
 */
import { type FlagTable, readFlags } from "../../home/flags.ts";
import { killBusyWorkers, startCluster } from "../helpers/cluster.ts";
import { type Asked, waysOf } from "../helpers/cluster_answers.ts";
import { Random } from "./random.ts";

const PROMPTS = [
  "Once upon a time",
  "The little dog was very happy because",
  "Tell me of a girl who found a shell.",
  "One day, a bird",
];
const TOKENS_MIN = 20;
const TOKENS_MAX = 240;
/** An answer that is told as a whole shows nobody how far it is: it is cut within this time. */
const WHOLE_CUT_MS = 100;

const FLAGS = {
  answers: { type: "integer", value: "N", min: 1, max: 1_000_000, default: 100, help: "How many are cut." },
  seed: {
    type: "integer",
    value: "N",
    min: 0,
    max: 2 ** 32 - 1,
    default: 1,
    help: "What makes them the same.",
  },
} as const satisfies FlagTable;

if (import.meta.main) {
  const { flags, problems } = readFlags(Deno.args, FLAGS);
  if (problems.length > 0) {
    console.error([...problems, "Usage: cut_answers.ts [--answers N] [--seed N]"].join("\n"));
    Deno.exit(2);
  }
  Deno.exit(await soak(flags));
}

async function soak({ answers, seed }: { answers: number; seed: number }): Promise<number> {
  const random = new Random(seed);
  const startedMs = performance.now();
  await using cluster = await startCluster({ nodes: ["blep", "mac", "workstation"] });
  const ways = waysOf(cluster.queen);
  const pauses: number[] = [];
  let same = 0;
  let cuts = 0;
  let tries = 0;
  // Some are over before they are cut, and prove nothing.
  for (; cuts < answers && tries < 3 * answers; tries++) {
    const way = random.pick(ways);
    const asked: Asked = {
      model: "builtin:stories",
      prompt: random.pick(PROMPTS),
      maxTokens: random.integer(TOKENS_MIN, TOKENS_MAX),
      seed: random.integer(0, 1_000_000),
      temperature: random.integer(0, 15) / 10,
    };
    const uncut = await way.ask(asked);
    const at = random.integer(1, asked.maxTokens / 2);
    let killed = 0;
    let lastMs = 0;
    let pauseMs = 0;
    const kill = async () => {
      killed = await killBusyWorkers(cluster);
      lastMs = performance.now();
    };
    const timer = way.name === "whole chat" ? setTimeout(kill, random.integer(0, WHOLE_CUT_MS)) : undefined;
    const cut = await way.ask(asked, async (count) => {
      if (count === at) await kill();
      if (count <= at) return;
      pauseMs = Math.max(pauseMs, performance.now() - lastMs);
      lastMs = performance.now();
    });
    clearTimeout(timer);
    if (killed === 0) continue;
    cuts++;
    if (pauseMs > 0) pauses.push(pauseMs);
    if (cut === uncut) same++;
    else console.log(`try ${tries} (${way.name}, ${JSON.stringify(asked)}):\n  ${uncut}\n  ${cut}`);
  }
  pauses.sort((a, b) => a - b);
  console.log(
    `cut answers: ${same} of ${cuts} whose worker was killed are the same as without that (${tries} tries, seed ${seed}); ` +
      `the longest pause in one, for the next worker to load: ${
        Math.round(pauses[pauses.length >> 1] ?? 0)
      } ms (median); ` +
      `${((performance.now() - startedMs) / 1000).toFixed(0)} s`,
  );
  return same === answers ? 0 : 1;
}
