/** Where and how a model is loaded, and how the addon takes that. */
import type { NativeLoadOptions, Pooling } from "./native/addon.ts";

/** Where and how to load. */
export interface EngineOptions {
  model: string;
  backend: string;
  device: number;
  slots: number;
  /** 0: the model's own, at most 4096. */
  ctxSize: number;
  /** 0: physical cores. */
  threads: number;
  /** Of keys and values in the KV cache. */
  cacheType: CacheType;
  flashAttention: "auto" | "on" | "off";
  /** One KV cache that all slots share: a single answer may use what the others leave. */
  kvUnified: boolean;
  /** A small model with the same vocabulary that guesses ahead. */
  draftModel?: string;
  /** Instead of the model's own. */
  chatTemplate?: string;
  /** For embeddings; a model that can make nothing else is always loaded for them. */
  embeddings?: boolean;
  /** What is made of a text's tokens. */
  pooling?: Pooling | "auto";
}

/** Types of the KV cache, as ggml calls them; `auto` is f16, or f32 where that is faster. */
export const CACHE_TYPES = [
  "auto",
  "f32",
  "f16",
  "bf16",
  "q8_0",
  "q5_1",
  "q5_0",
  "q4_1",
  "q4_0",
  "iq4_nl",
] as const;
/** See {@linkcode CACHE_TYPES}. */
export type CacheType = (typeof CACHE_TYPES)[number];

/** As the addon takes them. */
export function toNativeLoad(options: EngineOptions): NativeLoadOptions {
  const { model, draftModel = "", chatTemplate = "", embeddings = false, pooling = "auto", ...same } =
    options;
  return { ...same, path: model, draftModel, chatTemplate, embeddings, pooling };
}
