/**
 * What a worker is asked for: in the body of a request, in the configuration, and by the keeper's flags. Apart from the
 * other schemas, so that a keeper whose worker is there already need not load them.
 */
import * as z from "zod";
import { ModelRefText } from "./model_ref.ts";

/** Where a model can run. `auto` is a wish of the caller and never reaches a worker. */
export const BackendName = z.enum(["cpu", "cuda", "metal", "vulkan"]);
/** See {@linkcode BackendName}. */
export type BackendName = z.infer<typeof BackendName>;

/** Most slots one worker may have. */
export const MAX_SLOTS = 64;
/** Largest context of one slot. */
export const MAX_CTX_SIZE = 1_048_576;

/** `POST /v1/workers/spawn`. */
export const SpawnRequest = z.strictObject({
  model_ref: ModelRefText,
  /** `auto` (the default) takes the best backend there is and says which. */
  backend: z.enum(["auto", ...BackendName.options]).default("auto"),
  device: z.int().min(0).max(255).default(0),
  slots: z.int().min(1).max(MAX_SLOTS).default(4),
  /** Tokens per slot; absent: what the model was trained for, at most 4096. */
  ctx_size: z.int().min(16).max(MAX_CTX_SIZE).optional(),
  /** Seconds without a request until the worker goes; 0 = never; absent: never if pinned, else the hive's setting. */
  idle_timeout: z.number().min(0).max(31_536_000).optional(),
  /** Never evicted to make room; absent: as it was, else false. */
  pin: z.boolean().optional(),
});
/** A checked request. */
export type SpawnRequest = z.infer<typeof SpawnRequest>;
/** A request as a caller writes it. */
export type SpawnInput = z.input<typeof SpawnRequest>;
