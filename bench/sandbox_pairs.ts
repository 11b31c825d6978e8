/**
 * `deno run -A bench/sandbox_pairs.ts [--model PATH] [--pairs N]`: what the sandbox costs. Two workers of one model, one
 * confined and one not, answer in turns; each pair starts with the other one. Prints the medians, and of the ratios
 * within a pair the median with its quartiles.
 */
import { parseArgs } from "node:util";
import { startWorker, type WorkerProcess } from "../tests/helpers/worker_process.ts";
import { STORIES } from "../tests/helpers/test_models.ts";

const TOKENS = 200;
const PROMPT = "Once upon a time there was a little girl who";

interface Figures {
  firstTokenMs: number;
  tokensPerSecond: number;
}

const { values } = parseArgs({
  options: { model: { type: "string", default: STORIES }, pairs: { type: "string", default: "20" } },
});
await using confined = await startWorker({ model: values.model });
await using free = await startWorker({ model: values.model, args: ["--sandbox", "off"] });
const workers = { confined, free };
const figures: Record<keyof typeof workers, Figures[]> = { confined: [], free: [] };
await Promise.all([measure(confined), measure(free)]); // the first answer of a process is slower
for (let pair = 0; pair < Number(values.pairs); pair++) {
  const order = ["confined", "free"] as const;
  for (const which of pair % 2 === 0 ? order : order.toReversed()) {
    figures[which].push(await measure(workers[which]));
  }
}
for (const key of ["tokensPerSecond", "firstTokenMs"] as const) {
  const [on, off] = (["confined", "free"] as const).map((which) => figures[which].map((each) => each[key]));
  const ratios = on.map((value, at) => value / off[at]);
  console.log(
    `${key}: confined ${quantile(on, 0.5).toFixed(2)}, free ${quantile(off, 0.5).toFixed(2)}; ` +
      `confined/free ${
        [0.5, 0.25, 0.75].map((at) => quantile(ratios, at).toFixed(3)).join(", ")
      } (median, quartiles)`,
  );
}

async function measure({ url, key }: WorkerProcess): Promise<Figures> {
  const startedMs = performance.now();
  const response = await fetch(new URL("/v1/inference", url), {
    method: "POST",
    headers: { "Authorization": `Bearer ${key}`, "Content-Type": "application/json" },
    body: JSON.stringify({
      ...{ prompt: PROMPT, max_tokens: TOKENS, seed: 1, stream: true },
    }),
  });
  if (!response.ok) throw new Error(await response.text());
  let firstMs: number | undefined;
  let tokens = 0;
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    const events = chunk.match(/"index":/g)?.length ?? 0;
    if (events > 0) firstMs ??= performance.now();
    tokens += events;
  }
  if (firstMs === undefined) throw new Error("No token came.");
  return {
    firstTokenMs: firstMs - startedMs,
    tokensPerSecond: tokens / (performance.now() - firstMs) * 1000,
  };
}

function quantile(values: number[], at: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.round((sorted.length - 1) * at)];
}
