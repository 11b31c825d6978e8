/** A12 and A4: answers that are long to read back, and requests that are the end of their worker. */
import { FOREIGN_ROUTES, WORKER_ROUTES } from "../../protocol/routes.ts";
import type { Draw } from "./draw.ts";
import { jsonRequest, type RequestEntry } from "./entry.ts";

/** The end of a story's turn in the model that comes with the project; never chosen. */
const NO_END: Readonly<Record<string, number>> = {
  "0": -100,
  "1": -100,
  "2": -100,
  "3": -100,
  "4": -100,
  "5": -100,
};

const TOOLS = [{
  type: "function",
  function: {
    name: "write",
    parameters: { type: "object", properties: { text: { type: "string" } }, required: ["text"] },
  },
}];
const MESSAGES = [{ role: "user", content: "Tell me a long story." }];

const LONG_ANSWERS: Readonly<
  Record<string, (tokens: number, seed: number) => readonly [path: string, json: unknown]>
> = {
  chat: (
    max_tokens,
    seed,
  ) => [FOREIGN_ROUTES.chatCompletions.path, {
    messages: MESSAGES,
    max_tokens,
    seed,
    logit_bias: NO_END,
    stream: true,
  }],
  chat_with_tools: (max_tokens, seed) => [
    FOREIGN_ROUTES.chatCompletions.path,
    { messages: MESSAGES, max_tokens, seed, logit_bias: NO_END, tools: TOOLS, stream: true },
  ],
  required_tool: (max_tokens, seed) => [
    FOREIGN_ROUTES.chatCompletions.path,
    {
      messages: MESSAGES,
      max_tokens,
      seed,
      logit_bias: NO_END,
      tools: TOOLS,
      tool_choice: "required",
      stream: true,
    },
  ],
  whole_answer: (max_tokens, seed) => [
    FOREIGN_ROUTES.chatCompletions.path,
    { messages: MESSAGES, max_tokens, seed, logit_bias: NO_END, tools: TOOLS, tool_choice: "required" },
  ],
  thoughts: (max_tokens, seed) => [
    FOREIGN_ROUTES.chatCompletions.path,
    {
      messages: MESSAGES,
      max_tokens,
      seed,
      logit_bias: NO_END,
      stream: true,
      chat_template_kwargs: { enable_thinking: true },
      reasoning_format: "deepseek",
    },
  ],
  anthropic: (max_tokens) => [
    FOREIGN_ROUTES.messages.path,
    {
      messages: MESSAGES,
      max_tokens,
      stream: true,
      tools: [{ name: "write", input_schema: TOOLS[0].function.parameters }],
      tool_choice: { type: "any" },
    },
  ],
  responses: (max_output_tokens) => [
    FOREIGN_ROUTES.responses.path,
    {
      input: "Tell me a long story.",
      max_output_tokens,
      stream: true,
      tools: [{ type: "function", ...TOOLS[0].function }],
      tool_choice: "required",
    },
  ],
  ollama: (
    num_predict,
  ) => [FOREIGN_ROUTES.ollamaChat.path, {
    model: "any",
    messages: MESSAGES,
    tools: TOOLS,
    options: { num_predict },
  }],
  log_probabilities: (max_tokens, seed) => [
    FOREIGN_ROUTES.chatCompletions.path,
    {
      messages: MESSAGES,
      max_tokens,
      seed,
      logit_bias: NO_END,
      logprobs: true,
      top_logprobs: 20,
      stream: true,
    },
  ],
};

/** A long answer of a chat. */
export function longAnswer(way: keyof typeof LONG_ANSWERS, tokens: number, seed = 1): RequestEntry {
  const [path, json] = LONG_ANSWERS[way](tokens, seed);
  return jsonRequest({
    name: `${way}: ${tokens} tokens`,
    ground: "long answers",
    path,
    generates: true,
    json: () => json,
  });
}

/** A12: a chat whose answer is long, and read back as it grows. */
export function drawLongAnswer(draw: Draw): RequestEntry {
  return longAnswer(draw.pick(Object.keys(LONG_ANSWERS)), draw.size(100, 4_000), draw.integer(0, 1_000));
}

/** In the prompt of a request that is the end of each worker that it reaches: the harness sees to that. */
export const KILLS_ITS_WORKER = "This request is the end of its worker";

/** A4: a request that no worker survives, by one of the ways that a queen takes. */
export function drawKiller(draw: Draw): RequestEntry {
  const text = `${KILLS_ITS_WORKER}, number ${draw.integer(0, 2 ** 31)}.`;
  const messages = [{ role: "user", content: text }];
  const max_tokens = draw.size(50, 400);
  const [path, json] = draw.pick<readonly [string, unknown]>([
    [FOREIGN_ROUTES.completions.path, { prompt: text, max_tokens, stream: draw.chance(50) }],
    [FOREIGN_ROUTES.chatCompletions.path, { messages, max_tokens, stream: draw.chance(50) }],
    [FOREIGN_ROUTES.messages.path, { messages, max_tokens, stream: draw.chance(50) }],
    [FOREIGN_ROUTES.responses.path, { input: text, max_output_tokens: max_tokens, stream: draw.chance(50) }],
    [FOREIGN_ROUTES.embeddings.path, { input: text }],
  ]);
  return jsonRequest({
    name: path,
    path,
    right: "either",
    generates: true,
    json: () => ({ model: "builtin:stories", ...json as object }),
  });
}

/** The same to a worker itself. */
export function plainRequest(prompt: string): RequestEntry {
  return jsonRequest({
    name: "a plain request",
    path: WORKER_ROUTES.inference.path,
    right: "answered",
    generates: true,
    json: () => ({ prompt, max_tokens: 8 }),
  });
}
