/** Rows about the routes of other interfaces: what they cost beside `/v1/inference`, for the same answers. */
import { rbee } from "./entrants.ts";
import { BUILTIN } from "./models.ts";
import { atLeast, type Row } from "./row.ts";
import type { InferenceServer } from "./server.ts";

/** Each answered once a figure; greedy, so every route gives the same answers. */
const ASKED = [
  ...["write a short story", "tell me about a dog", "a girl finds a ball", "a story about the sea"],
  ...["the big tree", "two friends play", "a boy and his kite", "the lost cat"],
];
const ROUNDS = 20;
/** As many as the worker chooses, as it runs in earnest. */
const THREADS = [0];

interface RouteUse {
  path: string;
  body: (text: string) => Record<string, unknown>;
  /** Finds the number of tokens in the last event that has it. */
  tokens: RegExp;
}

const messages = (content: string) => [{ role: "user", content }];

const INFERENCE: RouteUse = {
  path: "/v1/inference",
  body: (text) => ({ messages: messages(text), temperature: 0, max_tokens: 400 }),
  tokens: /"total_tokens":(\d+)/g,
};

const ROUTES: readonly RouteUse[] = [
  {
    path: "/v1/chat/completions",
    body: (text) => ({
      ...{ messages: messages(text), temperature: 0, max_tokens: 400, stream: true },
      stream_options: { include_usage: true },
    }),
    tokens: /"completion_tokens":(\d+)/g,
  },
  {
    path: "/v1/completions",
    body: (text) => ({
      ...{
        prompt: `<|user|>\n${text}<|end|>\n<|assistant|>\n`,
        temperature: 0,
        max_tokens: 400,
        stream: true,
      },
      stream_options: { include_usage: true },
    }),
    tokens: /"completion_tokens":(\d+)/g,
  },
  {
    path: "/v1/responses",
    body: (text) => ({ input: text, temperature: 0, max_output_tokens: 400, stream: true }),
    tokens: /"output_tokens":(\d+)/g,
  },
  {
    path: "/v1/messages",
    body: (text) => ({ messages: messages(text), temperature: 0, max_tokens: 400, stream: true }),
    tokens: /"output_tokens":(\d+)/g,
  },
  {
    path: "/api/chat",
    body: (text) => ({ messages: messages(text), options: { temperature: 0, num_predict: 400 } }),
    tokens: /"eval_count":(\d+)/g,
  },
];

/** Tokens a second, from the first request to the end of the last answer, one after the other. */
function streaming({ path, body, tokens }: RouteUse) {
  return async (server: InferenceServer): Promise<number> => {
    const startMs = performance.now();
    let total = 0;
    for (const text of ASKED) {
      const response = await fetch(`${server.url}${path}`, {
        method: "POST",
        headers: server.headers,
        body: JSON.stringify(body(text)),
      });
      const last = [...(await response.text()).matchAll(tokens)].at(-1);
      if (last === undefined) throw new Error(`${path} did not say how many tokens there were.`);
      total += Number(last[1]);
    }
    return total * 1000 / (performance.now() - startMs);
  };
}

/** See the file's head. */
export const ROUTE_ROWS: readonly Row[] = ROUTES.map((route) => ({
  name: `route-${route.path.slice(1).replaceAll("/", "-")}`,
  what: `eight stories, streamed by ${route.path}`,
  model: BUILTIN,
  unit: "tokens/s",
  rounds: ROUNDS,
  entrants: [
    rbee({ load: streaming(route), detail: route.path, threads: THREADS }),
    rbee({ load: streaming(INFERENCE), detail: INFERENCE.path, threads: THREADS, target: atLeast(0.95) }),
  ],
}));
