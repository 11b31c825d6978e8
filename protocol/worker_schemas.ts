/** Answers and events of `llm-worker-rbee` (SPEC §5), read leniently: a newer worker may say more. */
import * as z from "zod";
import { ErrorBodySchema } from "./errors.ts";

/** Whether the thread that computes still makes steps. */
export const EngineHeartbeat = z.object({
  /** Age of the step under way; null while the thread waits for work. */
  step_ms: z.number().nullable(),
  /** Since the end of the last step; null before the first. */
  last_step_ms: z.number().nullable(),
  /** A step older than that is stuck. It follows from how long such steps take on this machine. */
  limit_ms: z.number(),
  /** What ended the thread: nothing is answered any more. */
  failure: z.string().optional(),
});
/** See {@linkcode EngineHeartbeat}. */
export type EngineHeartbeat = z.infer<typeof EngineHeartbeat>;

/** `GET /v1/health` of every daemon. */
export const HealthResponse = z.object({
  /** `degraded`: a worker whose model could not be loaded, or whose engine is stuck or has failed. */
  status: z.enum(["alive", "degraded"]),
  version: z.string(),
  api_version: z.string(),
  /** Of a worker's engine; absent while no model is loaded, and of other daemons. */
  engine: EngineHeartbeat.optional(),
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
  /** What it makes of a text's tokens, of a worker that makes embeddings; such a one answers nothing else. */
  pooling: z.enum(["none", "mean", "cls", "last", "rank"]).optional(),
});
/** See {@linkcode ModelFacts}. */
export type ModelFacts = z.infer<typeof ModelFacts>;

/** How a worker's process is confined; SECURITY.md says what that keeps out. */
export const Sandbox = z.object({
  /** `partial`: only one of landlock and seccomp holds; `unavailable`: neither does. */
  state: z.enum(["on", "partial", "off", "unavailable"]),
  /** Version of landlock's interface that the kernel has; 0: none, or nobody asked. */
  landlock_abi: z.int(),
  /** Files and TCP ports, on every thread. */
  landlock: z.boolean(),
  /** System calls, on every thread. */
  seccomp: z.boolean(),
  no_new_privs: z.boolean(),
  /** What does not hold and why, a sentence each without a full stop. */
  problems: z.array(z.string()),
});
/** See {@linkcode Sandbox}. */
export type Sandbox = z.infer<typeof Sandbox>;

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
      /** Absent from older workers. */
      sandbox: Sandbox.optional(),
      /** Hashes of the beginnings of all that the slots hold, see `prefix_blocks.ts`; with `?blocks=true`. */
      blocks: z.string().optional(),
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
  /** Which of the stop strings it was. */
  stop_string: z.string().optional(),
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

/** Answer of `POST /v1/admin/shutdown`; `accepted: false` when the worker was not idle for that long. */
export const ShutdownResponse = z.object({ accepted: z.boolean(), idle_ms: z.number() });
/** See {@linkcode ShutdownResponse}. */
export type ShutdownResponse = z.infer<typeof ShutdownResponse>;

/** Answer of `POST /v1/admin/self-test`. */
export const SelfTestResponse = z.discriminatedUnion("ran", [
  /** Something ran, or came meanwhile: requests go first. */
  z.object({ ran: z.literal(false) }),
  /** The same id each time, or something is broken; null when the model has nothing to say. */
  z.object({ ran: z.literal(true), token_id: z.int().nullable() }),
]);
/** See {@linkcode SelfTestResponse}. */
export type SelfTestResponse = z.infer<typeof SelfTestResponse>;
