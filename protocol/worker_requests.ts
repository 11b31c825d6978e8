/**
 * What `llm-worker-rbee` is asked (SPEC §5); unknown fields are refused. Apart from the answers, because a client needs no
 * more than the types.
 */
import * as z from "zod";
import { deeperThan } from "./json_depth.ts";
import {
  MAX_BIASED_TOKENS,
  MAX_JSON_SCHEMA_DEPTH,
  MAX_STOP_STRINGS,
  MAX_STOP_STRINGS_WITH_TEMPLATE,
} from "./limits.ts";

/** Ids that callers choose or read: safe in URLs, file names and logs. */
export const RequestId = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "must be 1 to 64 letters, digits, - or _");

/** One message of a conversation. */
export const ChatMessage = z.strictObject({
  role: z.enum(["system", "user", "assistant"]),
  content: z.string(),
});
/** See {@linkcode ChatMessage}. */
export type ChatMessage = z.infer<typeof ChatMessage>;

/** Largest seed; the value above it means "choose one". */
export const MAX_SEED = 0xffff_fffe;

/** Rules between fields are checked beside those of each: a caller learns of all that is wrong at once. */
const isObject = ({ value }: { value: unknown }) => typeof value === "object" && value !== null;

const StopString = z.string().min(1).max(1024);

/** How an answer is generated, whatever it answers. */
export const GenerationOptions = z.strictObject({
  temperature: z.number().min(0).max(2).default(0.7),
  top_p: z.number().min(0).max(1).default(0.95),
  /** 0 switches it off. */
  top_k: z.int().min(0).max(1_000_000).default(40),
  min_p: z.number().min(0).max(1).default(0.05),
  /** 1 switches it off; looks back 64 tokens. */
  repetition_penalty: z.number().min(0.01).max(10).default(1),
  presence_penalty: z.number().min(-2).max(2).default(0),
  frequency_penalty: z.number().min(-2).max(2).default(0),
  /**
   * Absent: one is chosen and reported in the terminal event. A request that names one reads its prompt from the
   * start and is not speculated on unless it asks, so that the same request gives the same answer.
   */
  seed: z.int().min(0).max(MAX_SEED).optional(),
  stop: z.array(StopString).max(MAX_STOP_STRINGS_WITH_TEMPLATE).default([]),
  /** GBNF. */
  grammar: z.string().min(1).max(1_000_000).optional(),
  /** A JSON schema that the answer will satisfy. */
  json_schema: z.record(z.string(), z.unknown())
    .refine((schema) => !deeperThan(schema, MAX_JSON_SCHEMA_DEPTH), {
      error: `must not be nested deeper than ${MAX_JSON_SCHEMA_DEPTH} levels`,
    }).optional(),
  /** Added to the logits of tokens before anything else. */
  logit_bias: z.array(
    z.strictObject({ token: z.int().min(0).max(0x7fff_ffff), bias: z.number().min(-1000).max(1000) }),
  ).max(MAX_BIASED_TOKENS).default([]),
  /** How many alternatives to report with each token's log probability; absent: none at all. */
  logprobs: z.int().min(0).max(20).optional(),
  /**
   * Computed in steps of its own: the same greedy or seeded answer whatever else the worker does at the time. Otherwise
   * kernels for few and for many rows may round differently and turn a near-tie. Slower beside other answers.
   */
  strict: z.boolean().default(false),
  /**
   * Guessing several tokens at once, from what the prompt and the answer repeat or with the worker's draft model. `auto`
   * does so while it pays and nobody else is computing.
   */
  speculative: z.enum(["auto", "on", "off"]).default("auto"),
  /** JSON text: what a chat template asks of an answer. Part of exported answers only. */
  constraint: z.string().optional(),
});
/** See {@linkcode GenerationOptions}. */
export type GenerationOptions = z.infer<typeof GenerationOptions>;

/** What is asked, and how it is answered; whoever is asked adds fields of its own. */
export const AskedText = GenerationOptions.omit({ constraint: true }).extend({
  stop: z.array(StopString).max(MAX_STOP_STRINGS).default([]),
  prompt: z.string().min(1, "must not be empty").optional(),
  messages: z.array(ChatMessage).min(1).max(4096).optional(),
  /** Default: {@linkcode DEFAULT_MAX_TOKENS} or what the context leaves, whichever is less. */
  max_tokens: z.int().min(1).optional(),
});

/** The rules between the fields of {@linkcode AskedText}. */
export function askedOnce<Schema extends z.ZodType<z.infer<typeof AskedText>>>(schema: Schema): Schema {
  return schema.refine(({ prompt, messages }) => (prompt === undefined) !== (messages === undefined), {
    path: ["prompt"],
    error: "give either prompt or messages",
    when: isObject,
  }).refine(({ grammar, json_schema }) => grammar === undefined || json_schema === undefined, {
    path: ["grammar"],
    error: "give either grammar or json_schema",
    when: isObject,
  }) as Schema;
}

/** `POST /v1/inference`. `prompt` continues the text as it stands; `messages` go through the model's template. */
export const InferenceRequest = askedOnce(AskedText.extend({
  stream: z.boolean().default(true),
  request_id: RequestId.optional(),
}));
/** A checked request, defaults filled in. */
export type InferenceRequest = z.infer<typeof InferenceRequest>;
/** A request as a caller writes it. */
export type InferenceInput = z.input<typeof InferenceRequest>;

/** `POST /cancel`. */
export const CancelRequest = z.strictObject({ request_id: RequestId });

/** `POST /v1/admin/shutdown`. With `if_idle_ms` it only happens when nothing has run for that long. */
export const ShutdownRequest = z.strictObject({ if_idle_ms: z.int().min(0).optional() });
/** See {@linkcode ShutdownRequest}. */
export type ShutdownRequest = z.infer<typeof ShutdownRequest>;
/** `POST /v1/admin/self-test`: generates one token of a fixed prompt if nothing has run for that long. */
export const SelfTestRequest = z.strictObject({ if_idle_ms: z.int().min(0).default(0) });
/** `POST /v1/inference/:request_id/export`. */
export const ExportRequest = z.strictObject({
  /** With the KV cache, so that nothing has to be computed again. */
  kv: z.boolean().default(true),
  /** The answer ends here; every further token is for whoever goes on with it. */
  stop: z.boolean().default(true),
});
/** See {@linkcode ExportRequest}. */
export type ExportRequest = z.infer<typeof ExportRequest>;
