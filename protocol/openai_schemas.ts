/**
 * What OpenAI's clients send, with the additions of llama-server's. Unknown fields are ignored, as clients of many
 * ages expect; null stands for absent.
 */
import * as z from "zod";
import { deeperThan } from "./json_depth.ts";
import {
  MAX_BIASES,
  MAX_CHOICES,
  MAX_CONTENT_PARTS,
  MAX_JSON_SCHEMA_DEPTH,
  MAX_PROMPTS,
  MAX_STOP_STRINGS,
  MAX_TOOL_CALLS,
} from "./limits.ts";

const tooDeep = `must not be nested deeper than ${MAX_JSON_SCHEMA_DEPTH} levels`;

/** A JSON object, a schema for example, that recursive code may read. */
export const JsonObject = z.record(z.string(), z.unknown())
  .refine((schema) => !deeperThan(schema, MAX_JSON_SCHEMA_DEPTH), { error: tooDeep });

/** One stop string or several. */
export const Stops = z.union([z.string(), z.array(z.string().max(1024)).max(MAX_STOP_STRINGS)]);

/** Biases by token id or by text: `{"42": -100}`, or pairs `[42, -100]` and `["word", false]`. */
export const LogitBias = z.union([
  z.record(z.string(), z.number()),
  z.array(z.tuple([z.union([z.int(), z.string()]), z.union([z.number(), z.literal(false)])])).max(MAX_BIASES),
]);

/** How an answer is generated, in all of OpenAI's routes. */
export const OpenAiSampling = z.object({
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  /** 0 and less switch it off. */
  top_k: z.int().max(1_000_000).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  repeat_penalty: z.number().min(0.01).max(10).nullish(),
  /** A negative one is chosen, and reported. */
  seed: z.int().nullish(),
  stop: Stops.nullish(),
  logit_bias: LogitBias.nullish(),
  /** GBNF. */
  grammar: z.string().max(1_000_000).nullish(),
  json_schema: JsonObject.nullish(),
  /** Answers to the same prompt; each takes a slot. */
  n: z.int().min(1).max(MAX_CHOICES).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
});
/** See {@linkcode OpenAiSampling}. */
export type OpenAiSampling = z.infer<typeof OpenAiSampling>;

/** A part of a message; only text can be read here. */
export const ContentPart = z.object({
  type: z.literal(["text", "input_text", "output_text"]),
  text: z.string(),
});

/** Arguments of a call as JSON text; templates read it, by recursion. What is no JSON is text to them. */
export const Arguments = z.string().refine(isShallow, { error: tooDeep });

function isShallow(text: string): boolean {
  try {
    return !deeperThan(JSON.parse(text), MAX_JSON_SCHEMA_DEPTH);
  } catch (error) {
    return error instanceof SyntaxError;
  }
}

/** A call that an assistant has made. */
export const ToolCall = z.object({
  id: z.string().optional(),
  type: z.literal("function").default("function"),
  function: z.object({ name: z.string().min(1), arguments: Arguments.default("{}") }),
});
/** See {@linkcode ToolCall}. */
export type ToolCall = z.infer<typeof ToolCall>;

/** One message of a conversation. */
export const ChatCompletionMessage = z.object({
  role: z.string().min(1),
  content: z.union([z.string(), z.array(ContentPart).max(MAX_CONTENT_PARTS)]).nullish(),
  reasoning_content: z.string().nullish(),
  tool_calls: z.array(ToolCall).max(MAX_TOOL_CALLS).nullish(),
  tool_call_id: z.string().nullish(),
  name: z.string().nullish(),
}).refine(
  ({ role, content, tool_calls }) =>
    typeof content === "string" || Array.isArray(content) ||
    role === "assistant" && Array.isArray(tool_calls),
  {
    path: ["content"],
    error: "is required; only an assistant's message may have tool_calls instead",
  },
);
/** See {@linkcode ChatCompletionMessage}. */
export type ChatCompletionMessage = z.infer<typeof ChatCompletionMessage>;

/** A function that the model may call. */
export const Tool = z.object({
  type: z.literal("function"),
  function: z.object({
    name: z.string().min(1).max(256),
    description: z.string().nullish(),
    parameters: JsonObject.nullish(),
    strict: z.boolean().nullish(),
  }),
});
/** See {@linkcode Tool}. */
export type Tool = z.infer<typeof Tool>;

/** Whether and which function is to be called. */
export const ToolChoice = z.union([
  z.enum(["auto", "none", "required"]),
  z.object({ type: z.literal("function"), function: z.object({ name: z.string() }) }),
]);
/** See {@linkcode ToolChoice}. */
export type ToolChoice = z.infer<typeof ToolChoice>;

/** What form the answer is to have. */
export const ResponseFormat = z.discriminatedUnion("type", [
  z.object({ type: z.literal("text") }),
  z.object({ type: z.literal("json_object"), schema: JsonObject.nullish() }),
  z.object({
    type: z.literal("json_schema"),
    json_schema: z.object({
      name: z.string().nullish(),
      schema: JsonObject.nullish(),
      strict: z.boolean().nullish(),
    }),
  }),
]);

/** `POST /v1/chat/completions`, and what `POST /apply-template` renders. */
export const ChatCompletionRequest = OpenAiSampling.extend({
  model: z.string().nullish(),
  messages: z.array(ChatCompletionMessage).min(1).max(4096),
  max_tokens: z.int().nullish(),
  max_completion_tokens: z.int().nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  response_format: ResponseFormat.nullish(),
  tools: z.array(Tool).max(256).nullish(),
  tool_choice: ToolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  reasoning_effort: z.string().nullish(),
  /** `none` leaves thoughts in the content. */
  reasoning_format: z.enum(["none", "auto", "deepseek", "deepseek-legacy"]).nullish(),
  /** Variables of the template. */
  chat_template_kwargs: JsonObject.nullish(),
  add_generation_prompt: z.boolean().nullish(),
  /** The answer goes on with the last message; the default where that is the assistant's. */
  continue_final_message: z.boolean().nullish(),
});
/** See {@linkcode ChatCompletionRequest}. */
export type ChatCompletionRequest = z.infer<typeof ChatCompletionRequest>;

/** A text, ids, or both after one another. */
export type TokenizedText = (string | number)[];
/** One prompt or several. */
export type Prompts = string | (string | number | TokenizedText)[];

const isId = (part: unknown) => typeof part === "number" && Number.isInteger(part) && part >= 0;
const isTextOrId = (part: unknown) => typeof part === "string" || isId(part);

/** Why a value is not what {@linkcode Prompts} says, or undefined. */
function promptsProblem(given: unknown): string | undefined {
  if (typeof given === "string") return undefined;
  if (!Array.isArray(given)) return "expected a text, or a list of texts or token ids";
  const isOne = given.some((part) => typeof part === "number");
  if (!isOne && given.length > MAX_PROMPTS) return `expected at most ${MAX_PROMPTS} prompts`;
  const wrong = given.findIndex((part) =>
    !isTextOrId(part) && (isOne || !Array.isArray(part) || !part.every(isTextOrId))
  );
  return wrong < 0 ? undefined : `item ${wrong} is neither a text nor a token id, nor a list of these`;
}

const OnePrompt = { type: "array", items: { anyOf: [{ type: "string" }, { type: "integer", minimum: 0 }] } };

/**
 * See the type. Checked by a loop that ends at the first mistake: a union of lists would be tried anew for every one of
 * a hundred thousand items, and would tell of each.
 */
export const Prompts: z.ZodType<Prompts> = z.unknown().superRefine((given, context) => {
  const problem = promptsProblem(given);
  if (problem !== undefined) context.addIssue({ code: "custom", message: problem });
}).meta({
  anyOf: [{ type: "string" }, OnePrompt, {
    type: "array",
    items: { anyOf: [{ type: "string" }, OnePrompt] },
  }],
}) as unknown as z.ZodType<Prompts>;

/** `POST /v1/completions`. A list of nothing but strings is one prompt each. */
export const CompletionRequest = OpenAiSampling.extend({
  model: z.string().nullish(),
  prompt: Prompts,
  max_tokens: z.int().nullish(),
  /** How many alternatives to report. */
  logprobs: z.int().min(0).max(20).nullish(),
  /** The prompt comes before the answer's text. */
  echo: z.boolean().nullish(),
});
/** See {@linkcode CompletionRequest}. */
export type CompletionRequest = z.infer<typeof CompletionRequest>;

/** `POST /v1/embeddings`. */
export const EmbeddingsRequest = z.object({
  model: z.string().nullish(),
  input: Prompts,
  encoding_format: z.enum(["float", "base64"]).nullish(),
  /** -1: none, 0: greatest value, 1: sum, 2: length, the default; above: the p-norm. Only where tokens are pooled. */
  embd_normalize: z.int().min(-1).max(100).nullish(),
  dimensions: z.int().min(1).nullish(),
});
/** See {@linkcode EmbeddingsRequest}. */
export type EmbeddingsRequest = z.infer<typeof EmbeddingsRequest>;

/** `POST /v1/rerank`. */
export const RerankRequest = z.object({
  model: z.string().nullish(),
  query: z.string(),
  documents: z.array(z.string()).min(1).max(2048),
  top_n: z.int().min(1).nullish(),
});
/** See {@linkcode RerankRequest}. */
export type RerankRequest = z.infer<typeof RerankRequest>;

/** `POST /tokenize`. */
export const TokenizeRequest = z.object({
  content: z.string(),
  add_special: z.boolean().default(false),
  parse_special: z.boolean().default(true),
  with_pieces: z.boolean().default(false),
});

/** `POST /detokenize`. */
export const DetokenizeRequest = z.object({
  tokens: z.unknown().refine(
    (tokens) => Array.isArray(tokens) && tokens.every(isId),
    "expected a list of token ids",
  )
    .meta({ type: "array", items: { type: "integer", minimum: 0 } }) as unknown as z.ZodType<number[]>,
});
