/**
 * Chat traffic of 32 sessions of 6 turns over 3 workers: how long a turn's first token takes by way of the queen, who
 * knows which worker has read what, and in turns over the same workers (round robin). Twice, in either order.
 *
 *     deno run -A bench/queen_sessions.ts
 */
import { join } from "@std/path";
import { WORKER_COMMAND_VARIABLE, workerCommand } from "../hive/workers/command.ts";
import type { SpawnResponse } from "../protocol/hive_schemas.ts";
import { readEvents } from "../protocol/sse.ts";
import { CLUSTER_KEY, startCluster } from "../tests/helpers/cluster.ts";
import { type LlamaShape, TINY_LLAMA_1B, writeLlamaGguf } from "../tests/helpers/gguf_writer.ts";
import { Random } from "../tests/soak/random.ts";
import { prompt } from "./prompts.ts";

const NODES = ["blep", "mac", "workstation"];
const SESSIONS = 32;
const TURNS = 6;
/** Sessions that ask at the same time. */
const AT_ONCE = 3;
/** Enough for all sessions, spread evenly, and no more. */
const SLOTS = 12;
const SYSTEM_TOKENS = 120;
const TURN_TOKENS = 40;
const ANSWER_TOKENS = 8;
/** Some 20 million weights at random: what they say means nothing, what reading a prompt costs is true. */
const SHAPE: LlamaShape = {
  ...{ layers: 4, embd: 256, heads: 8, ff: 768, type: "Q8_0", vocab: TINY_LLAMA_1B.vocab, ctx: 1_024 },
};

interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/** Where a turn goes. */
type Route = () => { url: string; key: string };

if (import.meta.main) await main();

async function main(): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "sessions.gguf");
    await writeLlamaGguf(path, SHAPE);
    const model = `file:${path}`;
    // Three engines with a thread for each core would wait for each other most of the time.
    const command = [...workerCommand(new Map()), "--threads", "1"];
    await using cluster = await startCluster({
      nodes: NODES,
      hive: { env: { [WORKER_COMMAND_VARIABLE]: JSON.stringify(command) } },
    });
    const workers: SpawnResponse[] = [];
    for (const { client } of Object.values(cluster.hives)) {
      workers.push(await client.spawn({ model_ref: model, slots: SLOTS, ctx_size: SHAPE.ctx }));
    }
    let next = 0;
    const inTurns: Route = () => {
      const { url, api_key: key } = workers[next++ % workers.length];
      return { url, key };
    };
    const byQueen: Route = () => ({ url: cluster.queen.url, key: CLUSTER_KEY });
    const rounds = [["queen", byQueen], ["turns", inTurns], ["turns", inTurns], ["queen", byQueen]] as const;
    const means: Record<"queen" | "turns", number[]> = { queen: [], turns: [] };
    for (const [i, [name, route]] of rounds.entries()) {
      const waits = await traffic(model, { route, seed: i });
      waits.sort((a, b) => a - b);
      const mean = waits.reduce((sum, one) => sum + one, 0) / waits.length;
      means[name].push(mean);
      console.log(
        `${name === "queen" ? "by way of the queen" : "round robin"}: first token ${
          mean.toFixed(1)
        } ms (mean of ${waits.length} ` +
          `turns; median ${waits[waits.length >> 1].toFixed(1)}, most ${waits.at(-1)!.toFixed(0)})`,
      );
    }
    const sum = (values: number[]) => values.reduce((total, one) => total + one, 0);
    console.log(`queen / round robin: ${(sum(means.queen) / sum(means.turns)).toFixed(3)}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Waits for first tokens, of all turns: those that begin a session are the same either way, and count as well. */
async function traffic(model: string, how: { route: Route; seed: number }): Promise<number[]> {
  const random = new Random(how.seed);
  const sessions = Array.from({ length: SESSIONS }, (): Message[] => [
    { role: "system", content: prompt(SYSTEM_TOKENS) },
  ]);
  const waits: number[] = [];
  for (let turn = 0; turn < TURNS; turn++) {
    const order = sessions.map((session) => ({ session, at: random.next() })).sort((a, b) => a.at - b.at);
    await Promise.all(Array.from({ length: AT_ONCE }, async () => {
      for (let one = order.pop(); one !== undefined; one = order.pop()) {
        one.session.push({ role: "user", content: prompt(TURN_TOKENS) });
        const { waitMs, text } = await ask(model, { ...how.route(), messages: one.session });
        one.session.push({ role: "assistant", content: text });
        waits.push(waitMs);
      }
    }));
  }
  return waits;
}

async function ask(
  model: string,
  to: { url: string; key: string; messages: Message[] },
): Promise<{ waitMs: number; text: string }> {
  const startMs = performance.now();
  const response = await fetch(`${to.url}/v1/chat/completions`, {
    method: "POST",
    headers: { Authorization: `Bearer ${to.key}` },
    body: JSON.stringify({
      model,
      messages: to.messages,
      max_tokens: ANSWER_TOKENS,
      stream: true,
      temperature: 0.8,
    }),
  });
  if (!response.ok) throw new Error(await response.text());
  let waitMs = 0;
  let text = "";
  for await (const event of readEvents(response.body!)) {
    // deno-lint-ignore no-explicit-any -- OpenAI's shape
    const piece = (event as any).choices[0]?.delta.content;
    if (!piece) continue;
    if (text === "") waitMs = performance.now() - startMs;
    text += piece;
  }
  return { waitMs, text };
}
