/** Rows about tokens per second. */
import { timedAnswer, tokensPerSecond } from "./answer.ts";
import { BOTH_THREADS, llamaServer, type Load, rbee } from "./entrants.ts";
import { CHAIN_1B, RANDOM_1B, STORIES } from "./models.ts";
import { llamaBatchedBench, llamaBench, nodeLlamaCpp } from "./programs.ts";
import { editPrompt, freshPrompt, prompt } from "./prompts.ts";
import { atLeast, type Row } from "./row.ts";
import type { Question } from "./server.ts";

const BEGINNINGS = [
  ...["Once upon a time", "The dog saw", "A girl named", "Tom and Sam"],
  ...["One day, a", "The big red", "In the park", "Lily had a"],
];
const STORY_TOKENS = 400;
const BIG_TOKENS = 128;
const READ_TOKENS = 512;
const EDIT_WORDS = 200;
const PROSE_WORDS = 100;

/** Stories of 400 tokens, so many at once. */
function stories(streams: number): Load {
  const questions = BEGINNINGS.slice(0, streams).map((prompt) => ({ prompt, maxTokens: STORY_TOKENS }));
  return (server) => tokensPerSecond(server, questions);
}

/** Tokens of a prompt over the time to the first token of the answer. */
const reading: Load = async (server) => {
  const answer = await timedAnswer(server, { prompt: prompt(READ_TOKENS), maxTokens: 1 });
  const { promptTokens, cachedTokens } = answer.summary();
  // The token at the beginning of all texts may come from the cache.
  if (promptTokens !== READ_TOKENS || cachedTokens > 1) {
    throw new Error(`The prompt had ${promptTokens} tokens, ${cachedTokens} of them cached.`);
  }
  return promptTokens / (answer.firstMs - answer.startMs) * 1000;
};

/** Tokens per second after the first one: generation alone, as llama-bench measures it. */
function generating(question: () => Question): Load {
  return async (server) => {
    const answer = await timedAnswer(server, question());
    const { tokens } = answer.summary();
    return (tokens - 1) / (answer.endMs - answer.firstMs) * 1000;
  };
}

const bigText: Load = generating(() => ({ prompt: "The dog saw", maxTokens: BIG_TOKENS }));

const edit = (speculative: Question["speculative"]): Load =>
  generating(() => ({ prompt: editPrompt(EDIT_WORDS), maxTokens: EDIT_WORDS, speculative }));

const chainProse = (speculative: Question["speculative"]): Load =>
  generating(() => ({ prompt: freshPrompt(PROSE_WORDS), maxTokens: PROSE_WORDS, speculative }));

const storyProse = (speculative: Question["speculative"]): Load =>
  generating(() => ({ prompt: BEGINNINGS[0], maxTokens: STORY_TOKENS, speculative }));

/** See the file's head. */
export const GENERATION_ROWS: readonly Row[] = [
  {
    name: "one-stream",
    what: "one stream, 400 tokens over HTTP",
    model: STORIES,
    unit: "tokens/s",
    entrants: [
      rbee({ load: stories(1), threads: BOTH_THREADS }),
      llamaServer({ load: stories(1), threads: BOTH_THREADS, target: atLeast(1.2) }),
      {
        program: "llama-bench",
        threads: BOTH_THREADS,
        target: atLeast(0.9),
        start: (setup) => llamaBench({ ...setup, tokens: STORY_TOKENS }),
      },
    ],
  },
  {
    name: "both-cores",
    what: "one stream, 400 tokens, both cores given to the model",
    model: STORIES,
    unit: "tokens/s",
    entrants: [
      rbee({ load: stories(1) }),
      {
        program: "node-llama-cpp",
        target: atLeast(3),
        start: (setup) => nodeLlamaCpp({ ...setup, tokens: STORY_TOKENS }),
      },
    ],
  },
  {
    name: "eight-streams",
    what: "eight streams of 400 tokens over HTTP, 8 slots",
    model: STORIES,
    unit: "tokens/s",
    entrants: [
      rbee({ load: stories(8), setup: { slots: 8 }, threads: BOTH_THREADS }),
      llamaServer({ load: stories(8), setup: { slots: 8 }, threads: BOTH_THREADS, target: atLeast(1.2) }),
      {
        program: "llama-batched-bench",
        threads: BOTH_THREADS,
        target: atLeast(0.9),
        start: (setup) => llamaBatchedBench({ ...setup, tokens: STORY_TOKENS, streams: 8 }),
      },
    ],
  },
  {
    name: "one-stream-1b",
    what: `one stream, ${BIG_TOKENS} tokens over HTTP, after the first token`,
    model: RANDOM_1B,
    unit: "tokens/s",
    entrants: [
      rbee({ load: bigText, threads: BOTH_THREADS }),
      llamaServer({ load: bigText, threads: BOTH_THREADS, target: atLeast(1) }),
      {
        program: "llama-bench",
        threads: BOTH_THREADS,
        target: atLeast(0.98),
        start: (setup) => llamaBench({ ...setup, tokens: BIG_TOKENS }),
      },
    ],
  },
  {
    name: "reading-1b",
    what: "reading a new prompt of 512 tokens over HTTP, until the first token",
    model: RANDOM_1B,
    unit: "tokens/s",
    entrants: [
      rbee({ load: reading, setup: { context: 1024 }, threads: BOTH_THREADS }),
      {
        program: "llama-bench",
        threads: BOTH_THREADS,
        target: atLeast(0.97),
        start: (setup) => llamaBench({ ...setup, promptTokens: READ_TOKENS }),
      },
      llamaServer({ load: reading, setup: { context: 1024 }, threads: BOTH_THREADS }),
    ],
  },
  {
    name: "edit-on",
    what: "prompt-lookup on: an answer of 200 tokens that repeats 80 % of the prompt, after its first token",
    model: CHAIN_1B,
    unit: "tokens/s",
    entrants: [
      rbee({ load: edit("on"), detail: "on" }),
      rbee({ load: edit("off"), detail: "off", target: atLeast(1.5) }),
    ],
  },
  {
    name: "edit-auto",
    what: "the same, prompt-lookup auto",
    model: CHAIN_1B,
    unit: "tokens/s",
    entrants: [
      rbee({ load: edit("auto"), detail: "auto" }),
      rbee({ load: edit("off"), detail: "off", target: atLeast(1.5) }),
    ],
  },
  {
    name: "prose",
    what: "prompt-lookup auto on a story of 400 tokens, after its first token",
    model: STORIES,
    unit: "tokens/s",
    entrants: [
      rbee({ load: storyProse("auto"), threads: BOTH_THREADS, detail: "auto" }),
      rbee({ load: storyProse("off"), threads: BOTH_THREADS, detail: "off", target: atLeast(0.97) }),
    ],
  },
  {
    name: "prose-1b",
    what: "prompt-lookup auto on 100 tokens that repeat nothing, after the first one",
    model: CHAIN_1B,
    unit: "tokens/s",
    entrants: [
      rbee({ load: chainProse("auto"), detail: "auto" }),
      rbee({ load: chainProse("off"), detail: "off", target: atLeast(0.97) }),
    ],
  },
];
