/** A5 and A6: bodies of many nodes, deep ones, and small ones that multiply. */
import { FOREIGN_ROUTES, WORKER_ROUTES } from "../../protocol/routes.ts";
import { type Draw, repeated } from "./draw.ts";
import { type Ground, jsonRequest, type RequestEntry } from "./entry.ts";

const MAX_BODY_CHARACTERS = 15_000_000;

/** Where a hostile value stands in a request: what is before it and after it. */
const PLACES: Readonly<Record<string, readonly [path: string, before: string, after: string]>> = {
  body: [WORKER_ROUTES.inference.path, "", ""],
  prompt: [FOREIGN_ROUTES.completions.path, '{"max_tokens":4,"prompt":', "}"],
  inference_prompt: [WORKER_ROUTES.inference.path, '{"max_tokens":4,"prompt":', "}"],
  unknown_field: [FOREIGN_ROUTES.completions.path, '{"max_tokens":4,"prompt":"a","metadata":', "}"],
  messages: [FOREIGN_ROUTES.chatCompletions.path, '{"max_tokens":4,"messages":', "}"],
  content: [
    FOREIGN_ROUTES.chatCompletions.path,
    '{"max_tokens":4,"messages":[{"role":"user","content":',
    "}]}",
  ],
  tool_parameters: [
    FOREIGN_ROUTES.chatCompletions.path,
    '{"max_tokens":4,"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":{"name":"f","parameters":',
    "}}]}",
  ],
  template_arguments: [
    FOREIGN_ROUTES.chatCompletions.path,
    '{"max_tokens":4,"messages":[{"role":"user","content":"a"}],"chat_template_kwargs":',
    "}",
  ],
  schema: [WORKER_ROUTES.inference.path, '{"max_tokens":4,"prompt":"a","json_schema":', "}"],
  logit_bias: [FOREIGN_ROUTES.completions.path, '{"max_tokens":4,"prompt":"a","logit_bias":', "}"],
  stop: [FOREIGN_ROUTES.completions.path, '{"max_tokens":4,"prompt":"a","stop":', "}"],
  tokens: [FOREIGN_ROUTES.detokenize.path, '{"tokens":', "}"],
  tokenize: [FOREIGN_ROUTES.tokenize.path, '{"content":', "}"],
  documents: [FOREIGN_ROUTES.rerank.path, '{"query":"a","documents":', "}"],
  input: [FOREIGN_ROUTES.embeddings.path, '{"input":', "}"],
  responses_input: [FOREIGN_ROUTES.responses.path, '{"max_output_tokens":4,"input":', "}"],
  anthropic_system: [
    FOREIGN_ROUTES.messages.path,
    '{"max_tokens":4,"messages":[{"role":"user","content":"a"}],"system":',
    "}",
  ],
  ollama_options: [
    FOREIGN_ROUTES.ollamaChat.path,
    '{"model":"a","messages":[{"role":"user","content":"a"}],"options":',
    "}",
  ],
  relay: [WORKER_ROUTES.relay.path, '{"path":"/v1/completions","body":', "}"],
  cancel: [WORKER_ROUTES.cancelAlias.path, '{"request_id":', "}"],
};

/** JSON values that cost far more to read than to write. */
const VALUES: Readonly<Record<string, (draw: Draw) => string>> = {
  empty_arrays: (draw) => list("[]", draw.size(1_000, MAX_BODY_CHARACTERS)),
  empty_objects: (draw) => list("{}", draw.size(1_000, MAX_BODY_CHARACTERS)),
  nulls: (draw) => list("null", draw.size(1_000, MAX_BODY_CHARACTERS)),
  digits: (draw) => list(String(draw.integer(0, 9)), draw.size(1_000, MAX_BODY_CHARACTERS)),
  token_ids: (draw) => list(String(draw.integer(300, 2_000)), draw.size(1_000, MAX_BODY_CHARACTERS)),
  short_texts: (draw) => list('"a"', draw.size(1_000, MAX_BODY_CHARACTERS)),
  empty_texts: (draw) => list('""', draw.size(1_000, MAX_BODY_CHARACTERS)),
  pairs: (draw) => list('["a",1]', draw.size(1_000, MAX_BODY_CHARACTERS)),
  messages: (draw) => list('{"role":"user","content":"a"}', draw.size(1_000, MAX_BODY_CHARACTERS)),
  parts: (draw) => list('{"type":"text","text":"a"}', draw.size(1_000, MAX_BODY_CHARACTERS)),
  properties: (draw) => {
    const count = draw.size(100, 300_000);
    return `{${draw.list(count, (i) => `"k${i}":1`).join(",")}}`;
  },
  same_property: (draw) => `{${repeated('"k":{},', draw.size(1_000, 5_000_000))}"k":1}`,
  prototype: () =>
    '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}},"toString":1}',
  deep_arrays: (draw) => nested("[", "]", draw.size(10, 3_000_000)),
  deep_objects: (draw) => nested('{"a":', "}", draw.size(10, 1_000_000), "1"),
  deep_unclosed: (draw) => draw.pick(["[", '{"a":', '[{"a":']).repeat(draw.size(10, 1_000_000)),
  bushes: (draw) => list(nested("[", "]", draw.size(2, 60)), draw.size(1_000, MAX_BODY_CHARACTERS)),
  long_number: (draw) => draw.pick(["", "-", "0.", "1e"]) + "9".repeat(draw.size(10, 1_000_000)),
  odd_numbers: (draw) =>
    draw.pick([
      "1e400",
      "-1e400",
      "-0",
      "1e-400",
      "01",
      "0x10",
      "NaN",
      "Infinity",
      "1_000",
      "9007199254740993",
    ]),
  escapes: (draw) =>
    `"${
      draw.pick(["\\u0041", "\\ud83d\\ude00", "\\ud83d", "\\u0000", "\\\\", '\\"']).repeat(
        draw.size(10, 1_000_000),
      )
    }"`,
  long_text: (draw) => `"${"a".repeat(draw.size(10, MAX_BODY_CHARACTERS))}"`,
  spaces: (draw) => `${draw.pick([" ", "\\n", "\t", "\n"]).repeat(draw.size(10, MAX_BODY_CHARACTERS))}1`,
  rubbish: (draw) =>
    draw.pick([
      "",
      "}",
      "]",
      '"',
      "tru",
      "undefined",
      "'a'",
      "/* */1",
      "\ufeff1",
      "[1,]",
      '{"a":1,}',
      "\u0000",
    ]),
};

/** A5: a body that is deep, wide, or no JSON at all, in any place of a request. */
export function drawBody(draw: Draw): RequestEntry {
  const place = draw.pick(Object.keys(PLACES));
  const value = draw.pick(Object.keys(VALUES));
  return bodyEntry(place, value, () => VALUES[value](draw));
}

/** `make`'s value in one of the places. */
export function bodyEntry(place: keyof typeof PLACES, name: string, make: () => string): RequestEntry {
  const [path, before, after] = PLACES[place];
  let made: string | undefined;
  return {
    act: "request",
    ground: groundOf(path),
    name: `${place}: ${name}`,
    path,
    right: "either",
    // Drawn once, however often it is sent.
    body: () => made ??= before + make() + after,
  };
}

const SHORT = { max_tokens: 2, temperature: 0 };

const PRODUCTS: Readonly<
  Record<
    string,
    (
      draw: Draw,
    ) => Omit<RequestEntry, "act" | "body" | "ground" | "right"> & {
      json: () => unknown;
      ground?: Ground;
    }
  >
> = {
  prompts_and_choices: (draw) =>
    completion(draw, { prompt: fill("a", draw.size(1, 200_000)), n: draw.size(1, 128) }),
  prompts: (draw) =>
    completion(draw, { prompt: fill(draw.pick(["a", "", "Once upon a time", "😀"]), draw.size(1, 500_000)) }),
  choices: (draw) =>
    completion(draw, { prompt: "Once", n: draw.pick([0, 1, 4, 5, 127, 128, 129, 2 ** 31, -1, 1.5]) }),
  long_prompts: (draw) =>
    completion(draw, {
      prompt: fill(repeated("word ", draw.size(10, 20_000)), draw.size(1, 500)),
      n: draw.size(1, 8),
    }),
  lists_of_ids: (draw) =>
    completion(draw, {
      prompt: Array.from({ length: draw.size(1, 5_000) }, () => [300, 301, 302]),
      n: draw.size(1, 128),
    }),
  chat_choices: (draw) => ({
    name: "choices of a chat",
    path: FOREIGN_ROUTES.chatCompletions.path,
    generates: true,
    json: () => ({ messages: [{ role: "user", content: "a" }], n: draw.size(1, 128), ...SHORT }),
  }),
  log_probabilities: (draw) =>
    completion(draw, {
      prompt: fill("Once upon", draw.size(1, 4)),
      n: 4,
      logprobs: 20,
      max_tokens: draw.size(1, 500),
    }),
  biases: (draw) =>
    completion(draw, {
      prompt: "Once",
      logit_bias: Array.from({ length: draw.size(1, 200_000) }, (_, i) => [i % 2_000, 1]),
    }),
  text_biases: (draw) =>
    completion(draw, {
      prompt: "Once",
      logit_bias: fill([repeated("word ", draw.size(5, 5_000)), 1], draw.size(1, 2_000)),
    }),
  stops: (draw) =>
    completion(draw, { prompt: "Once", stop: fill("x".repeat(draw.size(1, 1_024)), draw.size(1, 40)) }),
  messages: (draw) => ({
    name: "many messages",
    path: FOREIGN_ROUTES.chatCompletions.path,
    generates: true,
    json: () => ({
      messages: fill({ role: "user", content: repeated("a ", draw.size(1, 2_000)) }, draw.size(1, 5_000)),
      ...SHORT,
    }),
  }),
  tools: (draw) => ({
    name: "many tools",
    path: FOREIGN_ROUTES.chatCompletions.path,
    generates: true,
    json: () => ({
      messages: [{ role: "user", content: "a" }],
      tools: Array.from({ length: draw.size(1, 300) }, (_, i) => ({
        type: "function",
        function: {
          name: `f${i}`,
          parameters: {
            type: "object",
            properties: Object.fromEntries(
              Array.from({ length: 20 }, (_, j) => [`p${j}`, { type: "string" }]),
            ),
          },
        },
      })),
      ...SHORT,
    }),
  }),
  documents: (draw) => ({
    name: "documents and a long query",
    ground: "ranking",
    path: FOREIGN_ROUTES.rerank.path,
    json: () => ({
      query: repeated("word ", draw.size(5, 200_000)),
      documents: fill("a", draw.size(1, 3_000)),
    }),
  }),
  inputs: (draw) => ({
    name: "many inputs",
    ground: "embeddings",
    path: draw.pick([
      FOREIGN_ROUTES.embeddings.path,
      FOREIGN_ROUTES.tokenEmbeddings.path,
      FOREIGN_ROUTES.ollamaEmbed.path,
    ]),
    json: () => ({ model: "any", input: fill(repeated("word ", draw.size(1, 500)), draw.size(1, 20_000)) }),
  }),
};

/** A6: a small request that stands for much work. */
export function drawProduct(draw: Draw): RequestEntry {
  const what = draw.pick(Object.keys(PRODUCTS));
  const { name, ...rest } = PRODUCTS[what](draw);
  return jsonRequest({ ...rest, name: `${what}: ${name}` });
}

/** A request of `POST /v1/completions`. */
export function completion(draw: Pick<Draw, "chance">, fields: Record<string, unknown>) {
  const path = FOREIGN_ROUTES.completions.path;
  const body = { ...SHORT, ...fields, ...draw.chance(50) ? { stream: true } : {} };
  const name = Object.entries(fields).map(([field, value]) =>
    Array.isArray(value)
      ? `${field} × ${value.length}`
      : typeof value === "string"
      ? field
      : `${field} ${value}`
  ).join(", ");
  return { name, path, generates: true, json: () => body };
}

/** `count` times the same. */
export function fill<T>(value: T, count: number): T[] {
  return Array<T>(count).fill(value);
}

/** A JSON array of the same value, about so many characters. */
export function list(value: string, characters: number): string {
  return `[${repeated(`${value},`, characters)}${value}]`;
}

/** `depth` levels around `inner`. */
export function nested(open: string, close: string, depth: number, inner = ""): string {
  return open.repeat(depth) + inner + close.repeat(depth);
}

function groundOf(path: string): Ground {
  if (path === FOREIGN_ROUTES.rerank.path) return "ranking";
  return path === FOREIGN_ROUTES.embeddings.path ? "embeddings" : "answers";
}
