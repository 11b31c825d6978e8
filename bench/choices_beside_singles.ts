/**
 * One request with `n: 4` beside streams of another key, in turn with four single requests of its key: how long each waits
 * for its first and its last token on a worker of four slots, then what both keys get when both always ask. Medians of
 * rounds that alternate, with the middle half.
 *
 *     deno run -A bench/choices_beside_singles.ts [--rounds N]
 */
import { parseArgs } from "node:util";
import { digestOf } from "../daemon/auth.ts";
import { readEvents } from "../protocol/sse.ts";
import { spawned, startCluster } from "../tests/helpers/cluster.ts";
import { percentile } from "./measure.ts";

const MODEL = "builtin:stories";
const SLOTS = 4;
const STREAMS = 5;
const TOKENS = 200;
const SHARE_MS = 20_000;
const KEYS = ["streams", "choices"] as const;
type Key = typeof KEYS[number];

const { values } = parseArgs({ args: Deno.args, options: { rounds: { type: "string", default: "40" } } });
const keys = KEYS.map((name) => ({ name, hash: digestOf(secretOf(name)).toHex() }));
await using cluster = await startCluster({ nodes: ["mac"], queenConfig: { keys, replicate_after: 3_600 } });
await spawned(cluster, "mac", { model_ref: MODEL, slots: SLOTS });

/** Asks, and tells when the first choice began and the last one had begun and was over. */
async function ask(key: Key, n: number): Promise<{ firstMs: number; lastMs: number; endMs: number }> {
  const startMs = performance.now();
  const response = await fetch(`${cluster.queen.url}/v1/completions`, {
    method: "POST",
    headers: { Authorization: `Bearer ${secretOf(key)}` },
    body: JSON.stringify({
      ...{ model: MODEL, prompt: "Once", n, max_tokens: TOKENS, stream: true, temperature: 1 },
      logit_bias: { 1: -100, 2: -100 },
    }),
  });
  if (!response.ok) throw new Error(await response.text());
  const begun = new Set<number>();
  const told = { firstMs: 0, lastMs: 0, endMs: 0 };
  for await (const event of readEvents(response.body!)) {
    const [choice] = (event as { choices: { index: number; text: string }[] }).choices;
    if (choice === undefined || begun.has(choice.index)) continue;
    begun.add(choice.index);
    told.lastMs = performance.now() - startMs;
    told.firstMs ||= told.lastMs;
  }
  told.endMs = performance.now() - startMs;
  return told;
}

const singles = async () => {
  const all = await Promise.all(Array.from({ length: SLOTS }, () => ask("choices", 1)));
  const most = (of: "lastMs" | "endMs") => Math.max(...all.map((one) => one[of]));
  return {
    firstMs: Math.min(...all.map(({ firstMs }) => firstMs)),
    lastMs: most("lastMs"),
    endMs: most("endMs"),
  };
};

let enough = false;
const answered = { streams: 0, choices: 0 };
const streams = Array.from({ length: STREAMS }, async () => {
  while (!enough) {
    await ask("streams", 1);
    answered.streams++;
  }
});
const ways = { "n: 4": () => ask("choices", SLOTS), "4 singles": singles };
const measured = Object.keys(ways).map((name) => ({ name, told: [] as Awaited<ReturnType<typeof ask>>[] }));
for (let round = 0; round < Number(values.rounds); round++) {
  for (const { name, told } of round % 2 ? measured.toReversed() : measured) {
    told.push(await ways[name as keyof typeof ways]());
  }
}
for (const { name, told } of measured) {
  const of = (field: "firstMs" | "lastMs" | "endMs") => {
    const samples = told.map((one) => one[field]);
    const at = (percent: number) => percentile(samples, percent).toFixed(0);
    return `${at(50)} ms (${at(25)} to ${at(75)})`;
  };
  console.log(`${name}: first token ${of("firstMs")}, all begun ${of("lastMs")}, all over ${of("endMs")}`);
}
for (const [name, way] of Object.entries(ways)) {
  answered.streams = 0;
  let choices = 0;
  const untilMs = performance.now() + SHARE_MS;
  while (performance.now() < untilMs) {
    await way();
    choices += SLOTS;
  }
  const { streams } = answered;
  const jain = (streams + choices) ** 2 / (2 * (streams ** 2 + choices ** 2));
  console.log(
    `both keys always ask, one with ${name}: ${streams} and ${choices} answers, Jain ${jain.toFixed(3)}`,
  );
}
enough = true;
await Promise.all(streams);

function secretOf(key: Key): string {
  return `the-key-of-${key}`;
}
