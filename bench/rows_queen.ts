/** Rows about what a queen costs: the same requests to a worker, through it and straight. */
import { WORKER_COMMAND_VARIABLE, workerCommand } from "../hive/workers/command.ts";
import { readEvents } from "../protocol/sse.ts";
import { type Cluster, CLUSTER_KEY, startCluster } from "../tests/helpers/cluster.ts";
import { median } from "./measure.ts";
import { BUILTIN, MADE_UP } from "./models.ts";
import { kilobytes } from "./process_figures.ts";
import { atLeast, atMostAbove, type Entrant, figureAtMost, type Row, type RunningContender } from "./row.ts";

const MODEL = "builtin:stories";
const ROUNDS = 20;
/** Single waits of some milliseconds scatter: a figure is the median of so many. */
const WAITS = 20;
const STREAMS = 200;
const STREAM_TOKENS = 60;
const BYTES_PER_MB = 1e6;
const ASKED = [
  "a dog",
  "a ball",
  "the sea",
  "the big tree",
  "a kite",
  "the lost cat",
  "a shell",
  "two friends",
];

/** An address to ask, and its key. */
interface Address {
  url: string;
  key: string;
}

/** One cluster for both ways of a row. */
class Shared {
  #cluster: Promise<Cluster> | undefined;
  #users = 0;
  readonly #nodes: readonly string[];

  constructor(nodes: readonly string[]) {
    this.#nodes = nodes;
  }

  async use(): Promise<{ cluster: Cluster } & AsyncDisposable> {
    this.#users++;
    const cluster = await (this.#cluster ??= startCluster({ nodes: this.#nodes }));
    return {
      cluster,
      [Symbol.asyncDispose]: async () => {
        if (--this.#users > 0) return;
        this.#cluster = undefined;
        await cluster[Symbol.asyncDispose]();
      },
    };
  }
}

function entrant(
  shared: Shared,
  how: { through: "queen" | "worker"; run: (at: Address) => Promise<number>; target?: Entrant["target"] },
): Entrant {
  const { through, run, target } = how;
  return {
    program: through === "queen" ? "through queen-rbee" : "straight to the worker",
    target,
    async start(): Promise<RunningContender> {
      const used = await shared.use();
      const { queen, hives: { bench } } = used.cluster;
      await answer({ url: queen.url, key: CLUSTER_KEY }, "a dog", 1);
      const worker = await bench.client.spawn({ model_ref: MODEL });
      const at = through === "queen"
        ? { url: queen.url, key: CLUSTER_KEY }
        : { url: worker.url, key: worker.api_key };
      return {
        command: `POST ${through === "queen" ? "queen" : "worker"}/v1/chat/completions`,
        run: () => run(at),
        [Symbol.asyncDispose]: () => used[Symbol.asyncDispose](),
      };
    },
  };
}

async function ask(at: Address, what: string, maxTokens: number): Promise<Response> {
  const response = await fetch(`${at.url}/v1/chat/completions`, {
    method: "POST",
    headers: { Authorization: `Bearer ${at.key}` },
    body: JSON.stringify({
      model: MODEL,
      messages: [{ role: "user", content: `Write a story of ${what}.` }],
      ...{ temperature: 0, max_tokens: maxTokens, stream: true },
      stream_options: { include_usage: true },
    }),
  });
  if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
  return response;
}

/** Tokens of a streamed answer, and how long its first took. */
async function answer(
  at: Address,
  what: string,
  maxTokens: number,
): Promise<{ tokens: number; firstMs: number; chunks: number }> {
  const startMs = performance.now();
  let firstMs = 0;
  let tokens = 0;
  let chunks = 0;
  for await (const event of readEvents((await ask(at, what, maxTokens)).body!)) {
    // deno-lint-ignore no-explicit-any -- OpenAI's shape
    const { choices, usage } = event as any;
    if (choices[0]?.delta.content) {
      chunks++;
      if (firstMs === 0) firstMs = performance.now() - startMs;
    }
    tokens = usage?.completion_tokens ?? tokens;
  }
  return { tokens, firstMs, chunks };
}

async function firstToken(at: Address): Promise<number> {
  const waits = [];
  for (let i = 0; i < WAITS; i++) waits.push((await answer(at, ASKED[i % ASKED.length], 1)).firstMs);
  return median(waits);
}

/** Of the tokens after each answer's first: what that one takes has a row of its own. */
async function speed(at: Address): Promise<number> {
  let ms = 0;
  let tokens = 0;
  for (const what of ASKED) {
    const reader = (await ask(at, what, 400)).body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    let firstMs = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      text += value;
      if (firstMs === 0 && text.includes('"delta":{"content":"')) firstMs = performance.now();
    }
    ms += performance.now() - firstMs;
    tokens += Number([...text.matchAll(/"completion_tokens":(\d+)/g)].at(-1)![1]) - 1;
  }
  return tokens * 1000 / ms;
}

const one = new Shared(["bench"]);

/** 200 streams at once over four workers; the figure is the queen's greatest resident memory. */
const manyStreams: Entrant = {
  program: "queen-rbee",
  target: figureAtMost(150),
  async start(): Promise<RunningContender> {
    // Four engines with a thread for each core would wait for each other most of the time.
    const command = [...workerCommand(new Map()), "--threads", "1"];
    const cluster = await startCluster({
      nodes: ["bench"],
      queenConfig: { queue_limit: STREAMS },
      hive: { env: { [WORKER_COMMAND_VARIABLE]: JSON.stringify(command) } },
    });
    const { queen, hives: { bench } } = cluster;
    for (const ctx_size of [512, 511, 510, 509]) {
      await bench.client.spawn({ model_ref: MODEL, slots: STREAMS / 4, ctx_size });
    }
    const at = { url: queen.url, key: CLUSTER_KEY };
    return {
      command: `${STREAMS} × POST queen/v1/chat/completions at once, ${STREAM_TOKENS} tokens each`,
      async run() {
        const answers = await Promise.all(
          Array.from(
            { length: STREAMS },
            (_, i) => answer(at, `${ASKED[i % ASKED.length]} and ${i}`, STREAM_TOKENS),
          ),
        );
        const lost = answers.filter(({ tokens, chunks }) => tokens === 0 || chunks < tokens - 1);
        if (lost.length > 0) {
          throw new Error(`${lost.length} streams lost something: ${JSON.stringify(lost[0])}`);
        }
        return await kilobytes(`/proc/${queen.pid}/status`, /^VmHWM:\s+(\d+) kB/m) / BYTES_PER_MB;
      },
      [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose](),
    };
  },
};

/** See the file's head. */
export const QUEEN_ROWS: readonly Row[] = [
  {
    name: "queen-first-token",
    what: "until the first token of a chat, the median of 20",
    model: BUILTIN,
    unit: "ms",
    rounds: ROUNDS,
    entrants: [
      entrant(one, { through: "queen", run: firstToken }),
      entrant(one, { through: "worker", run: firstToken, target: atMostAbove(3) }),
    ],
  },
  {
    name: "queen-tokens",
    what: "eight stories, streamed one after the other, without their first tokens",
    model: BUILTIN,
    unit: "tokens/s",
    rounds: ROUNDS,
    entrants: [
      entrant(one, { through: "queen", run: speed }),
      entrant(one, { through: "worker", run: speed, target: atLeast(0.97) }),
    ],
  },
  {
    name: "queen-streams",
    what:
      `the queen's greatest resident memory (VmHWM) with ${STREAMS} streams at once, none of which may lose anything`,
    model: MADE_UP,
    unit: "MB",
    entrants: [manyStreams],
  },
];
