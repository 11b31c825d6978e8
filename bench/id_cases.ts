/**
 * Fifty requests whose token ids must be llama-server's: what `deno task bench:ids` compares live and records, and what
 * the tests hold against the record. Every case names a seed, greedy ones too: then a prompt is read from its start, as
 * llama-server reads it, whatever a slot still holds of it.
 */
import type { ChatMessage, InferenceInput } from "../protocol/worker_requests.ts";

/** Context of one slot, in tokens: what the models were trained for. The prompts of given lengths depend on it. */
export const CONTEXT = 512;

/** The models that the cases run on. */
export const MODELS = {
  stories: "stories260K-F32.gguf",
  chat: "stories260K-chat-F32.gguf",
  builtin: "rbee-stories-1.4M-Q8_0.gguf",
  recurrent: "tiny-rwkv-7v0-834K-F32.gguf",
} as const;

/** One request. */
export interface IdCase {
  /** Unique, in words. */
  name: string;
  /** File name of the model. */
  model: string;
  /** As a caller writes it. */
  request: InferenceInput & { seed: number };
}

const PERSON = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 12 },
    age: { type: "integer", minimum: 0, maximum: 99 },
    pets: { type: "array", items: { enum: ["cat", "dog", "bee 🐝"] }, maxItems: 3 },
  },
  required: ["name", "age"],
  additionalProperties: false,
};

const LONG_STORY = "Once upon a time there was a little dog named Max. Max loved to run in the park. " +
  "One day Max saw a big red ball. He wanted to play with the ball. ".repeat(3);

/** A word and so often another, each of them one token: with the token that begins a text, `count` + 2 tokens. */
const wordsOfOneToken = (count: number) => "a" + " b".repeat(count);

const user = (content: string): ChatMessage => ({ role: "user", content });

const greedy = (prompt: string, max_tokens: number) => ({ prompt, max_tokens, temperature: 0, seed: 1 });

const sampled = (seed: number, max_tokens = 120) => ({ prompt: "Once upon a time", max_tokens, seed });

const STORIES: Record<string, IdCase["request"]> = {
  "greedy": greedy("Once upon a time", 400),
  "greedy, in mid-story": greedy("The dog saw a big red ball. He", 300),
  "greedy, behind an empty line": greedy("Lily and Tom went to the park.\n\n", 300),
  "greedy, behind an accent and an emoji": greedy("Café 🐝 was", 100),
  "greedy, from one letter": greedy("x", 200),
  "a prompt of one space": greedy(" ", 60),
  "a prompt of one line end": greedy("\n", 60),
  "a prompt of a space without width": greedy("\u200b", 60),
  "a prompt of the token that begins a text": greedy("<s>", 60),
  "a prompt of the token that ends a text": greedy("</s>", 60),
  "a NUL character in the prompt": greedy("a\u0000b", 60),
  "Japanese, Arabic, a combining accent, flags and joined emoji": greedy("日本語 العربية e\u0301 🇳🇱 👩‍👩‍👧", 60),
  "the defaults": { prompt: "Once upon a time", seed: 42 },
  "the smallest seed": sampled(0),
  "the largest seed": sampled(0xffff_fffe),
  "hot, nothing cut off": { ...sampled(2), temperature: 2, top_k: 0, top_p: 1, min_p: 0 },
  "nearly cold": { ...sampled(3), temperature: 0.01 },
  "top_k 1 in heat": { ...sampled(4), temperature: 1.5, top_k: 1 },
  "top_k 5": { ...sampled(5), temperature: 1.5, top_k: 5, top_p: 1, min_p: 0 },
  "top_p 0.3": { ...sampled(6), temperature: 1.5, top_k: 0, top_p: 0.3, min_p: 0 },
  "top_p 0": { ...sampled(7), temperature: 1.5, top_p: 0 },
  "min_p 0.3": { ...sampled(8), temperature: 2, top_k: 0, top_p: 1, min_p: 0.3 },
  "repetition penalty, greedy": { ...greedy(LONG_STORY, 150), repetition_penalty: 1.3 },
  "repetition rewarded": { ...sampled(9), repetition_penalty: 0.8 },
  "presence penalty": { ...sampled(10), presence_penalty: 1.5 },
  "negative frequency penalty": { ...sampled(11), frequency_penalty: -0.5 },
  "all penalties, behind a prompt longer than they look back": {
    ...sampled(12),
    prompt: LONG_STORY,
    repetition_penalty: 1.1,
    presence_penalty: 0.4,
    frequency_penalty: 0.3,
  },
  "a grammar with an end": { ...greedy("Is it so? ", 20), grammar: `root ::= "yes" | "no"` },
  "a grammar of emoji": { ...sampled(13, 60), grammar: `root ::= ("🐝" | "é" | [a-z ])+`, temperature: 1.5 },
  "a JSON schema": { ...sampled(14, 200), json_schema: PERSON },
  "a JSON schema and penalties, greedy": {
    ...greedy("A person: ", 200),
    json_schema: PERSON,
    repetition_penalty: 1.2,
  },
  "a stop string over several tokens": { ...greedy("Once upon a time", 60), stop: ["little girl"] },
  "the first of several stop strings": { ...sampled(15), stop: ["never there", "\n", " but", "laughed"] },
  "a stop string of one emoji": {
    ...greedy("x", 60),
    grammar: `root ::= "ab🐜cd🐝" [a-z]+`,
    stop: ["🐝"],
  },
  "a stop string begun and not ended": { ...greedy("Once upon a time", 80), stop: ["little girl named Tom"] },
  "log probabilities asked for": { ...sampled(17, 60), logprobs: 5 },
  "a prompt one short of the context": greedy(wordsOfOneToken(CONTEXT - 3), 50),
  "a prompt two short of the context": { ...sampled(18), prompt: wordsOfOneToken(CONTEXT - 4) },
};

const CHAT: Record<string, IdCase["request"]> = {
  "a conversation to its end": { messages: [user("Once upon a time")], seed: 3 },
  "a conversation, greedy": {
    messages: [user("Write a story about a dog.")],
    temperature: 0,
    seed: 1,
  },
  "a conversation of several turns with emoji": {
    messages: [
      { role: "system", content: "You write stories." },
      user("Hi 🐝!"),
      { role: "assistant", content: "Héllo." },
      user("Once upon a time"),
    ],
    seed: 21,
  },
};

const BUILTIN: Record<string, IdCase["request"]> = {
  "greedy": greedy("Once upon a time", 200),
  "as its card advises": {
    messages: [user("write a short story")],
    temperature: 0.5,
    min_p: 0.1,
    seed: 22,
  },
  "the template's tokens in a prompt": {
    ...greedy("<|user|>\nwrite a story about a bee<|end|>\n<|assistant|>\n", 150),
    stop: ["\n\n"],
  },
  "a JSON schema behind a conversation": {
    messages: [user("A person as JSON")],
    json_schema: PERSON,
    seed: 23,
    max_tokens: 200,
  },
  "a prompt one short of the context": greedy(wordsOfOneToken(CONTEXT - 3), 50),
};

const RECURRENT: Record<string, IdCase["request"]> = {
  "greedy": greedy("Once upon a time", 120),
  "broken characters, nothing cut off": {
    ...sampled(24),
    prompt: "Café 🐝 was",
    temperature: 1.5,
    top_k: 0,
    top_p: 1,
    min_p: 0,
  },
  "a prompt of emoji one short of the context": { ...sampled(25), prompt: "🐝".repeat(127) + "bee" },
  "penalties and a stop string": {
    ...sampled(26),
    repetition_penalty: 1.2,
    frequency_penalty: 0.5,
    stop: [". ", "\n"],
  },
};

/** The cases, those of one model together. */
export const ID_CASES: readonly IdCase[] = [
  ...casesOf(MODELS.stories, STORIES),
  ...casesOf(MODELS.chat, CHAT),
  ...casesOf(MODELS.builtin, BUILTIN),
  ...casesOf(MODELS.recurrent, RECURRENT),
];

function casesOf(model: string, requests: Record<string, IdCase["request"]>): IdCase[] {
  const label = model.slice(0, model.lastIndexOf("-"));
  return Object.entries(requests).map(([name, request]) => ({ name: `${label}: ${name}`, model, request }));
}
