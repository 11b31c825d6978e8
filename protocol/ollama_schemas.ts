/** What Ollama's clients send. Unknown fields and options are ignored. */
import * as z from "zod";
import { MAX_PROMPTS, MAX_TOOL_CALLS } from "./limits.ts";
import { JsonObject, Stops, Tool } from "./openai_schemas.ts";

/** Parameters of an answer; those that belong to a model's load are ignored: it is loaded. */
export const OllamaOptions = z.object({
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_k: z.int().max(1_000_000).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  repeat_penalty: z.number().min(0.01).max(10).nullish(),
  seed: z.int().nullish(),
  stop: Stops.nullish(),
  /** -1 and -2: as many as the context has. */
  num_predict: z.int().nullish(),
});
/** See {@linkcode OllamaOptions}. */
export type OllamaOptions = z.infer<typeof OllamaOptions>;

const Common = z.object({
  model: z.string().nullish(),
  /** Any JSON, or what satisfies a schema. */
  format: z.union([z.literal(""), z.literal("json"), JsonObject]).nullish(),
  options: OllamaOptions.nullish(),
  stream: z.boolean().nullish(),
  /** Thoughts apart from the answer; false: none, where the model can do without. */
  think: z.union([z.boolean(), z.string()]).nullish(),
});

/** One message of a conversation. */
export const OllamaMessage = z.object({
  role: z.string().min(1),
  content: z.string().default(""),
  thinking: z.string().nullish(),
  images: z.array(z.unknown()).max(0, "cannot be read: this worker takes text only").nullish(),
  tool_calls: z.array(
    z.object({
      function: z.object({
        name: z.string().min(1),
        arguments: JsonObject.default({}),
      }),
    }),
  ).max(MAX_TOOL_CALLS).nullish(),
  tool_name: z.string().nullish(),
  tool_call_id: z.string().nullish(),
});
/** See {@linkcode OllamaMessage}. */
export type OllamaMessage = z.infer<typeof OllamaMessage>;

/** `POST /api/chat`. */
export const OllamaChatRequest = Common.extend({
  /** Without any the model is only loaded, which it is. */
  messages: z.array(OllamaMessage).max(4096).default([]),
  tools: z.array(Tool).max(256).nullish(),
});
/** See {@linkcode OllamaChatRequest}. */
export type OllamaChatRequest = z.infer<typeof OllamaChatRequest>;

/** `POST /api/generate`. */
export const OllamaGenerateRequest = Common.extend({
  /** Without any the model is only loaded, which it is. */
  prompt: z.string().default(""),
  system: z.string().nullish(),
  /** The prompt as it stands, not through the model's template. */
  raw: z.boolean().nullish(),
  images: z.array(z.unknown()).max(0, "cannot be read: this worker takes text only").nullish(),
});
/** See {@linkcode OllamaGenerateRequest}. */
export type OllamaGenerateRequest = z.infer<typeof OllamaGenerateRequest>;

/** `POST /api/embed`. */
export const OllamaEmbedRequest = z.object({
  model: z.string().nullish(),
  input: z.union([z.string(), z.array(z.string()).min(1).max(MAX_PROMPTS)]),
  /** Texts are cut to what the context holds; default true. */
  truncate: z.boolean().default(true),
  dimensions: z.int().min(1).nullish(),
});

/** `POST /api/show`. */
export const OllamaShowRequest = z.object({ model: z.string().nullish(), name: z.string().nullish() });
