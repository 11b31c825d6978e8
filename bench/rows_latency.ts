/** Rows about how long somebody waits. */
import { firstTokenMs, timedAnswer } from "./answer.ts";
import { BOTH_THREADS, llamaServer, type Load, rbee } from "./entrants.ts";
import { median } from "./measure.ts";
import { RANDOM_1B, STORIES } from "./models.ts";
import { prompt, storyPrompt } from "./prompts.ts";
import { atMost, figureAtMost, type Row } from "./row.ts";
import type { InferenceServer } from "./server.ts";

/** Single waits of a few milliseconds scatter: a figure is the median of so many. */
const SHORT_PROMPTS = 10;
const HISTORY_TOKENS = 400;
const TURN_TOKENS = 30;
const LONG_TOKENS = 1500;
/** After the long prompt was sent: its first step has begun. */
const SHORT_ARRIVES_MS = 100;
const CANCELS = 50;
/** Between sending a request, or its first token, and its cancel. */
const CANCEL_AFTER_MS = [50, 2000] as const;
/** More than is generated before the cancel. */
const CANCELED_TOKENS = 400;

const firstToken = (newPrompt: () => string): Load => async (server) => {
  const samples = [];
  for (let i = 0; i < SHORT_PROMPTS; i++) samples.push(await firstTokenMs(server, newPrompt()));
  return median(samples);
};

/** The second turn of a chat, the first one just done. */
const cachedTurn: Load = async (server) => {
  const history = prompt(HISTORY_TOKENS);
  await timedAnswer(server, { prompt: history, maxTokens: 1 });
  const answer = await timedAnswer(server, { prompt: `${history} ${turn()}`, maxTokens: 2 });
  const { promptTokens, cachedTokens } = answer.summary();
  if (promptTokens !== HISTORY_TOKENS + TURN_TOKENS) {
    throw new Error(`The prompt had ${promptTokens} tokens.`);
  }
  // A program that does not reuse the history shows that by its figure; the row is about ours.
  if (cachedTokens < HISTORY_TOKENS - 1) throw new Error(`Only ${cachedTokens} tokens were cached.`);
  return answer.firstMs - answer.startMs;
};

const coldTurn: Load = (server) => firstTokenMs(server, prompt(HISTORY_TOKENS + TURN_TOKENS));

/** One word less: what begins all texts is counted in a prompt. */
function turn(): string {
  return prompt(TURN_TOKENS + 1);
}

/** A request for 2 tokens while a long prompt is read: its time, and what the long one still took from then on. */
async function shortBesideLong(server: InferenceServer): Promise<{ shortMs: number; longRestMs: number }> {
  const long = timedAnswer(server, { prompt: prompt(LONG_TOKENS), maxTokens: 1 });
  await delay(SHORT_ARRIVES_MS);
  const short = await timedAnswer(server, { prompt: prompt(8), maxTokens: 2 });
  const { firstMs } = await long;
  return { shortMs: short.endMs - short.startMs, longRestMs: firstMs - short.startMs };
}

const shortTime: Load = async (server) => (await shortBesideLong(server)).shortMs;
const longRest: Load = async (server) => (await shortBesideLong(server)).longRestMs;

/** Cancels in the middle of a prompt and in the middle of generating, in turn. */
function cancels(): Load {
  let count = 0;
  return (server) => cancelMs(server, { midPrompt: count++ % 2 === 0 });
}

/** From the cancel until all slots are free again. */
async function cancelMs(server: InferenceServer, { midPrompt }: { midPrompt: boolean }): Promise<number> {
  const requestId = crypto.randomUUID();
  const started = Promise.withResolvers<void>();
  const question = midPrompt
    ? { prompt: prompt(LONG_TOKENS), maxTokens: 1, requestId }
    : { prompt: prompt(8), maxTokens: CANCELED_TOKENS, requestId };
  const answer = timedAnswer(server, question, () => started.resolve());
  if (!midPrompt) await started.promise;
  const [least, most] = CANCEL_AFTER_MS;
  await delay(least + Math.random() * (most - least));
  const { headers } = server;
  const startMs = performance.now();
  const deleted = fetch(`${server.url}/v1/inference/${requestId}`, { method: "DELETE", headers });
  while (!await allSlotsFree(server));
  const freeMs = performance.now();
  const { status } = await deleted;
  const { tokens } = (await answer).summary();
  if (status !== 204 || tokens === question.maxTokens) {
    throw new Error("The request was over before its cancel.");
  }
  return freeMs - startMs;
}

async function allSlotsFree({ url, headers }: InferenceServer): Promise<boolean> {
  const response = await fetch(`${url}/v1/ready`, { headers });
  const { slots_total, slots_available } = await response.json();
  return slots_available === slots_total;
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const chat = { context: 1024 };
const twoLong = { context: 2048, slots: 2 };

/** See the file's head. */
export const LATENCY_ROWS: readonly Row[] = [
  {
    name: "first-token",
    what: "first token of a new prompt of about 8 tokens, warm",
    model: STORIES,
    unit: "ms",
    entrants: [
      rbee({ load: firstToken(storyPrompt), threads: [0, ...BOTH_THREADS] }),
      llamaServer({ load: firstToken(storyPrompt), threads: BOTH_THREADS, target: atMost(1) }),
    ],
  },
  {
    name: "first-token-1b",
    what: "first token of a new prompt of 8 tokens, warm",
    model: RANDOM_1B,
    unit: "ms",
    entrants: [
      rbee({ load: firstToken(() => prompt(8)), threads: BOTH_THREADS }),
      llamaServer({ load: firstToken(() => prompt(8)), threads: BOTH_THREADS, target: atMost(1) }),
    ],
  },
  {
    name: "second-turn",
    what: `first token of a chat's second turn: ${HISTORY_TOKENS} tokens of history, ${TURN_TOKENS} new ones`,
    model: RANDOM_1B,
    unit: "ms",
    entrants: [
      rbee({ load: cachedTurn, setup: chat, detail: "history cached" }),
      rbee({ load: coldTurn, setup: chat, detail: "cold", target: atMost(0.2) }),
      llamaServer({ load: cachedTurn, setup: chat, detail: "history cached" }),
      llamaServer({ load: coldTurn, setup: chat, detail: "cold" }),
    ],
  },
  {
    name: "short-beside-long",
    what:
      `a request for 2 tokens while a prompt of ${LONG_TOKENS} is being read, against what the long one still takes`,
    model: RANDOM_1B,
    unit: "ms",
    entrants: [
      rbee({ load: shortTime, setup: twoLong }),
      // Within 3 steps: the one under way and two more are less than half of a long prompt.
      rbee({ load: longRest, setup: twoLong, detail: "the long prompt's rest", target: atMost(0.5) }),
      llamaServer({ load: shortTime, setup: twoLong }),
      llamaServer({ load: longRest, setup: twoLong, detail: "the long prompt's rest" }),
    ],
  },
  {
    name: "cancel",
    what:
      "cancel until the slot is free, half of them while a prompt is read, half while tokens are generated",
    model: RANDOM_1B,
    unit: "ms",
    statistic: "p99",
    rounds: CANCELS,
    entrants: [
      {
        ...rbee({ load: cancels(), setup: { context: 2048 } }),
        target: figureAtMost(100),
      },
    ],
  },
];
