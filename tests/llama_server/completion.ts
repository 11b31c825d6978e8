/** llama-server's own `POST /completion`, told by the worker's `/v1/inference` and `/v1/completions`. */
import { readEvents } from "../../protocol/sse.ts";
import type { InferenceEvent, InferenceStats, TokenEvent } from "../../protocol/worker_schemas.ts";

type Json = Record<string, unknown>;

/** Sends a request to the worker. */
export type Call = (path: string, body: Json, signal: AbortSignal) => Promise<Response>;

interface Defaults {
  n_predict: number;
  seed?: number;
  context: number;
}

/** Answers one request. */
export async function completion(
  call: Call,
  request: Json,
  how: { defaults: Defaults; signal: AbortSignal },
) {
  const { prompt } = request;
  const several = Array.isArray(prompt) && !prompt.some((part) => typeof part === "number") &&
    (prompt.length > 1 || Array.isArray(prompt[0]));
  if (!several) return await one(call, request, how);
  const answers = await Promise.all(
    (prompt as unknown[]).map(async (each) =>
      await (await one(call, { ...request, prompt: each }, how)).json()
    ),
  );
  return Response.json(answers);
}

async function one(
  call: Call,
  request: Json,
  { defaults, signal }: { defaults: Defaults; signal: AbortSignal },
): Promise<Response> {
  const prompt = textOf(request.prompt);
  const n_predict = limit(request.n_predict, defaults);
  const settings = {
    n_predict,
    seed: request.seed ?? defaults.seed,
    adaptive_target: -1,
    adaptive_decay: 0.9,
  };
  const sampling: Json = {};
  for (const name of ["temperature", "top_k", "top_p", "min_p", "seed", "stop", "grammar", "json_schema"]) {
    if (request[name] !== undefined) sampling[name] = request[name];
  }
  if (typeof prompt !== "string" || request.logit_bias !== undefined) {
    const response = await call("/v1/completions", {
      ...sampling,
      prompt,
      max_tokens: n_predict,
      logit_bias: request.logit_bias,
    }, signal);
    if (!response.ok) return response;
    const { choices: [{ text }], timings } = await response.json();
    return Response.json({ content: text, timings, tokens: [], stop: true, generation_settings: settings });
  }
  const response = await call("/v1/inference", {
    ...sampling,
    prompt,
    stream: request.stream === true,
    ...n_predict > 0 ? { max_tokens: n_predict } : {},
    ...request.n_probs === undefined ? {} : { logprobs: request.n_probs },
  }, signal);
  if (!response.ok) return response;
  if (request.stream === true) return streamed(response, { request, settings });
  const { text, token_ids, logprobs, ...stats } = await response.json();
  const whole = {
    content: text,
    tokens: request.return_tokens ? token_ids : [],
    ...ending(stats, text),
    generation_settings: settings,
    prompt: `<s> ${prompt}`,
    ...logprobs === undefined ? {} : { completion_probabilities: logprobs.map(probability) },
  };
  return Response.json(chosen(whole, request.response_fields as string[] | undefined));
}

function streamed(response: Response, what: { request: Json; settings: Json }): Response {
  let text = "";
  const events = readEvents(response.body!) as AsyncGenerator<InferenceEvent, void>;
  const encoder = new TextEncoder();
  return new Response(
    new ReadableStream({
      async pull(controller) {
        const { value, done } = await events.next();
        if (done) return controller.close();
        const tell = (data: unknown) =>
          controller.enqueue(encoder.encode(`data: ${JSON.stringify(data)}\n\n`));
        if ("error" in value) return tell(value);
        if ("done" in value) {
          return tell({ content: "", ...ending(value, text), generation_settings: what.settings });
        }
        text += value.token;
        tell({
          content: value.token,
          tokens: [value.id],
          stop: false,
          ...what.request.n_probs === undefined ? {} : { completion_probabilities: [probability(value)] },
        });
      },
      cancel: () => void events.return(),
    }),
    { headers: { "Content-Type": "text/event-stream" } },
  );
}

function limit(asked: unknown, defaults: Defaults): number {
  return typeof asked === "number" && asked >= 0 ? asked : defaults.n_predict;
}

function textOf(prompt: unknown): unknown {
  if (Array.isArray(prompt)) return prompt.length === 1 ? textOf(prompt[0]) : prompt;
  if (typeof prompt !== "object" || prompt === null) return prompt;
  const { prompt_string, multimodal_data } = prompt as Json;
  // What the worker cannot read it refuses.
  return multimodal_data === undefined ? prompt_string : prompt;
}

function ending(stats: InferenceStats, text: string): Json {
  const types = { length: "limit", eos: "eos", stop: "word", canceled: "none", deadline: "limit" };
  return {
    stop: true,
    stop_type: types[stats.stop_reason],
    truncated: false,
    has_new_line: text.includes("\n"),
    timings: {
      cache_n: stats.cached_tokens,
      prompt_n: stats.prompt_tokens - stats.cached_tokens,
      predicted_n: stats.total_tokens,
    },
  };
}

function probability({ id, token, logprob, top_logprobs = [] }: Omit<TokenEvent, "index">): Json {
  const bytes = (text: string) => [...new TextEncoder().encode(text)];
  return {
    id,
    token,
    logprob,
    bytes: bytes(token),
    top_logprobs: top_logprobs.map((top) => ({ ...top, bytes: bytes(top.token) })),
  };
}

/** Paths with slashes, as `generation_settings/n_predict`. */
function chosen(whole: Json, fields: string[] | undefined): Json {
  if (!fields?.length) return whole;
  const at = (path: string) =>
    path.split("/").reduce<unknown>((value, name) => (value as Json | undefined)?.[name], whole);
  return Object.fromEntries(fields.map((path) => [path, at(path)]));
}
