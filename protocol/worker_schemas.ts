/** Bodies and events of `llm-worker-rbee` (SPEC §5). Requests reject unknown fields; answers are read leniently. */
import { z } from "zod";
import { ErrorBodySchema } from "./errors.ts";
import { MAX_JSON_SCHEMA_DEPTH, MAX_STOP_STRINGS } from "./limits.ts";

/** Where a model can run. `auto` is a wish of the caller and never reaches a worker. */
export const BackendName = z.enum(["cpu", "cuda", "metal", "vulkan"]);
/** See {@linkcode BackendName}. */
export type BackendName = z.infer<typeof BackendName>;

/** Ids that callers choose or read: safe in URLs, file names and logs. */
export const RequestId = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "must be 1 to 64 letters, digits, - or _");

/** `GET /v1/health` of every daemon. */
export const HealthResponse = z.object({
  status: z.enum(["alive", "degraded"]),
  version: z.string(),
  api_version: z.string(),
});
/** See {@linkcode HealthResponse}. */
export type HealthResponse = z.infer<typeof HealthResponse>;

/** A worker's own memory, in MB of 1,000,000 bytes. */
export const WorkerMemory = z.object({
  weights_mb: z.number(),
  /** Of the weights, those used where the file is mapped: no private memory, but needed all the same. */
  mapped_mb: z.number().default(0),
  /** Of the whole process: what no file stands behind. */
  private_mb: z.number().default(0),
  kv_mb: z.number(),
  compute_mb: z.number(),
  process_mb: z.number(),
});
/** See {@linkcode WorkerMemory}. */
export type WorkerMemory = z.infer<typeof WorkerMemory>;

/** What is known of a loaded model. */
export const ModelFacts = z.object({
  architecture: z.string(),
  description: z.string(),
  parameters: z.number(),
  size_bytes: z.number(),
  layers: z.number(),
  vocabulary: z.number(),
  embedding_length: z.number(),
  context_train: z.number(),
  /** Tokens one slot may hold: prompt and answer together. */
  context: z.number(),
  slots: z.number(),
  chat_template: z.boolean(),
  recurrent: z.boolean(),
});
/** See {@linkcode ModelFacts}. */
export type ModelFacts = z.infer<typeof ModelFacts>;

/** `GET /v1/ready`. */
export const ReadyResponse = z.discriminatedUnion("state", [
  z.object({ ready: z.literal(false), state: z.literal("loading"), progress_url: z.string() }),
  z.object({ ready: z.literal(false), state: z.literal("failed"), error: ErrorBodySchema }),
  z.object({
    ready: z.literal(false),
    state: z.literal("draining"),
    slots_total: z.int(),
    slots_available: z.int(),
  }),
  ...(["idle", "busy"] as const).map((state) =>
    z.object({
      ready: z.literal(true),
      state: z.literal(state),
      model_loaded: z.literal(true),
      model_ref: z.string(),
      slots_total: z.int(),
      slots_available: z.int(),
      /** Milliseconds since the last request ended, or since the load; 0 while busy. */
      idle_ms: z.number(),
      model: ModelFacts,
      memory: WorkerMemory,
    })
  ),
]);
/** See {@linkcode ReadyResponse}. */
export type ReadyResponse = z.infer<typeof ReadyResponse>;

/** Events of `GET /v1/loading/progress`; the stream ends with `[DONE]` after `ready` or `error`. */
export const LoadingEvent = z.discriminatedUnion("stage", [
  z.object({
    stage: z.literal("loading_to_vram"),
    layers_loaded: z.int(),
    layers_total: z.int(),
    /** Weights in memory so far. */
    vram_mb: z.number(),
  }),
  z.object({ stage: z.literal("ready") }),
  z.object({ stage: z.literal("error"), error: ErrorBodySchema }),
]);
/** See {@linkcode LoadingEvent}. */
export type LoadingEvent = z.infer<typeof LoadingEvent>;

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
  stop: z.array(z.string().min(1).max(1024)).max(MAX_STOP_STRINGS).default([]),
  /** GBNF. */
  grammar: z.string().min(1).max(1_000_000).optional(),
  /** A JSON schema that the answer will satisfy. */
  json_schema: z.record(z.string(), z.unknown())
    .refine((schema) => !deeperThan(schema, MAX_JSON_SCHEMA_DEPTH), {
      error: `must not be nested deeper than ${MAX_JSON_SCHEMA_DEPTH} levels`,
    }).optional(),
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
});
/** See {@linkcode GenerationOptions}. */
export type GenerationOptions = z.infer<typeof GenerationOptions>;

/** `POST /v1/inference`. `prompt` continues the text as it stands; `messages` go through the model's template. */
export const InferenceRequest = GenerationOptions.extend({
  prompt: z.string().min(1, "must not be empty").optional(),
  messages: z.array(ChatMessage).min(1).max(4096).optional(),
  /** Default: {@linkcode DEFAULT_MAX_TOKENS} or what the context leaves, whichever is less. */
  max_tokens: z.int().min(1).optional(),
  stream: z.boolean().default(true),
  request_id: RequestId.optional(),
}).refine(({ prompt, messages }) => (prompt === undefined) !== (messages === undefined), {
  path: ["prompt"],
  error: "give either prompt or messages",
  when: isObject,
}).refine(({ grammar, json_schema }) => grammar === undefined || json_schema === undefined, {
  path: ["grammar"],
  error: "give either grammar or json_schema",
  when: isObject,
});
/** A checked request, defaults filled in. */
export type InferenceRequest = z.infer<typeof InferenceRequest>;
/** A request as a caller writes it. */
export type InferenceInput = z.input<typeof InferenceRequest>;

/** An alternative the model weighed, natural logarithm. */
export const TokenLogprob = z.object({ id: z.int(), token: z.string(), logprob: z.number() });
/** See {@linkcode TokenLogprob}. */
export type TokenLogprob = z.infer<typeof TokenLogprob>;

/**
 * One generated token. There is one event per token, in order, without gaps; `token` is empty where its text is not
 * certain yet (half a UTF-8 character, a possible stop string) and arrives with a later event.
 */
export const TokenEvent = z.object({
  token: z.string(),
  index: z.int().min(0),
  /** The model's token id. */
  id: z.int(),
  logprob: z.number().optional(),
  top_logprobs: z.array(TokenLogprob).optional(),
});
/** See {@linkcode TokenEvent}. */
export type TokenEvent = z.infer<typeof TokenEvent>;

/** Why generation ended. */
export const StopReason = z.enum(["length", "stop", "eos", "canceled", "deadline"]);
/** See {@linkcode StopReason}. */
export type StopReason = z.infer<typeof StopReason>;

/** Figures of a finished request. */
export const InferenceStats = z.object({
  total_tokens: z.int(),
  duration_ms: z.number(),
  stop_reason: StopReason,
  prompt_tokens: z.int(),
  /** Prompt tokens whose KV state was still there. */
  cached_tokens: z.int(),
  time_to_first_token_ms: z.number(),
  /** Of the tokens after the first. */
  tokens_per_second: z.number(),
  seed: z.int(),
  /** Of `total_tokens`, those that another worker had sent before the answer was moved here. */
  resumed_tokens: z.int().default(0),
  /** Tokens that were guessed. */
  draft_tokens: z.int().default(0),
  /** Of these, how many were right. */
  draft_accepted_tokens: z.int().default(0),
});
/** See {@linkcode InferenceStats}. */
export type InferenceStats = z.infer<typeof InferenceStats>;

/** The terminal event of an answer that came to an end. */
export const DoneEvent = InferenceStats.extend({ done: z.literal(true) });
/** See {@linkcode DoneEvent}. */
export type DoneEvent = z.infer<typeof DoneEvent>;

/** Every event of `POST /v1/inference`; exactly one of the last two ends it, then `[DONE]`. */
export const InferenceEvent = z.union([DoneEvent, z.object({ error: ErrorBodySchema }), TokenEvent]);
/** See {@linkcode InferenceEvent}. */
export type InferenceEvent = z.infer<typeof InferenceEvent>;

/** `POST /v1/inference` with `stream: false`. */
export const InferenceResponse = InferenceStats.extend({
  request_id: z.string(),
  text: z.string(),
  /** The generated ids, in order. */
  token_ids: z.array(z.int()),
  logprobs: z.array(TokenLogprob.extend({ top_logprobs: z.array(TokenLogprob) })).optional(),
});
/** See {@linkcode InferenceResponse}. */
export type InferenceResponse = z.infer<typeof InferenceResponse>;

/** `POST /cancel`. */
export const CancelRequest = z.strictObject({ request_id: RequestId });

/** `POST /v1/admin/shutdown`. With `if_idle_ms` it only happens when nothing has run for that long. */
export const ShutdownRequest = z.strictObject({ if_idle_ms: z.int().min(0).optional() });
/** See {@linkcode ShutdownRequest}. */
export type ShutdownRequest = z.infer<typeof ShutdownRequest>;
/** Its answer; `accepted: false` when the worker was not idle for that long. */
export const ShutdownResponse = z.object({ accepted: z.boolean(), idle_ms: z.number() });
/** See {@linkcode ShutdownResponse}. */
export type ShutdownResponse = z.infer<typeof ShutdownResponse>;

/** `POST /v1/admin/self-test`: generates one token of a fixed prompt if nothing has run for that long. */
export const SelfTestRequest = z.strictObject({ if_idle_ms: z.int().min(0).default(0) });
/** Its answer. */
export const SelfTestResponse = z.discriminatedUnion("ran", [
  /** Something ran, or came meanwhile: requests go first. */
  z.object({ ran: z.literal(false) }),
  /** The same id each time, or something is broken; null when the model has nothing to say. */
  z.object({ ran: z.literal(true), token_id: z.int().nullable() }),
]);
/** See {@linkcode SelfTestResponse}. */
export type SelfTestResponse = z.infer<typeof SelfTestResponse>;

/** Level by level, not recursive: the value may be as deep as its sender liked. */
function deeperThan(value: unknown, levels: number): boolean {
  const inside = (at: unknown) => typeof at === "object" && at !== null ? Object.values(at) : [];
  let level = inside(value);
  for (let depth = 1; depth < levels && level.length > 0; depth++) level = level.flatMap(inside);
  return level.some((at) => typeof at === "object" && at !== null);
}

/** `POST /v1/inference/:request_id/export`. */
export const ExportRequest = z.strictObject({
  /** With the KV cache, so that nothing has to be computed again. */
  kv: z.boolean().default(true),
  /** The answer ends here; every further token is for whoever goes on with it. */
  stop: z.boolean().default(true),
});
/** See {@linkcode ExportRequest}. */
export type ExportRequest = z.infer<typeof ExportRequest>;
