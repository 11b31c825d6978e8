/** The C++ addon with types: the only place that loads it. What the members do is told in native/src/*.h. */
import { createRequire } from "node:module";
import { RbeeError } from "../../protocol/errors.ts";

/** A device as ggml sees it. */
export interface NativeDevice {
  backend: string;
  index: number;
  name: string;
  description: string;
  memoryTotalBytes: number;
  memoryFreeBytes: number;
}

/** Where and how to load. */
export interface NativeLoadOptions {
  path: string;
  backend: string;
  /** Index within the backend. */
  device: number;
  slots: number;
  /** Tokens per slot; 0: what the model was trained for, at most 4096. */
  ctxSize: number;
  /** 0: physical cores. */
  threads: number;
  /** Of keys and values in the KV cache, as ggml calls it. */
  cacheType: string;
  flashAttention: "auto" | "on" | "off";
  /** One cache that all slots share. */
  kvUnified: boolean;
  /** Path of a small model that guesses ahead; empty: none. */
  draftModel: string;
}

/** Progress of a load. */
export interface NativeProgress {
  layersLoaded: number;
  layersTotal: number;
  bytesLoaded: number;
}

/** What a loaded model is. */
export interface NativeFacts {
  architecture: string;
  description: string;
  parameters: number;
  sizeBytes: number;
  layers: number;
  vocabulary: number;
  embeddingLength: number;
  contextTrain: number;
  context: number;
  slots: number;
  chatTemplate: boolean;
  recurrent: boolean;
}

/** A request; ranges are checked before. Either `prompt` or `messages`. */
export interface NativeRequest {
  prompt?: string;
  messages?: { role: string; content: string }[];
  maxTokens?: number;
  defaultMaxTokens: number;
  temperature: number;
  topP: number;
  topK: number;
  minP: number;
  repetitionPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
  seed?: number;
  stops: string[];
  grammar?: string;
  /** JSON text. */
  jsonSchema?: string;
  logprobs?: number;
  strict: boolean;
  speculative: "auto" | "on" | "off";
  /** An answer to go on with; `prompt`, `messages` and `maxTokens` are not used then. */
  resume?: NativeSequence;
}

/** An answer in the middle of its generation. */
export interface NativeSequence {
  seed: number;
  /** Of the whole answer. */
  maxTokens: number;
  prompt: Int32Array;
  generated: Int32Array;
  /** The last of `generated`, not sent yet because their text may still change. */
  held: Partial<NativeLogprob>[];
  /** Random numbers drawn from the seed. */
  draws: number;
  /** llama.cpp's own form of the KV cache of the first `kvTokens` tokens; empty: it is computed again. */
  kv: Uint8Array<ArrayBuffer>;
  kvTokens: number;
}

/** Where the engine thread's time went since the load, in nanoseconds. */
export interface NativeTimes {
  /** Computing, guesses included. */
  stepNs: number;
  /** Choosing tokens. */
  samplingNs: number;
  /** Making text of them and queueing it. */
  handoverNs: number;
}

/** What was settled about a request when it was taken. */
export interface NativeAccepted {
  promptTokens: number;
  maxTokens: number;
  seed: number;
  /** Of a resumed answer: tokens that were sent before. */
  sentTokens: number;
}

/** A thrown error: `code` of the catalogue, `native` as llama.cpp gave it. */
export interface NativeError extends Error {
  code: string;
  native: number;
}

/** Log probability of one token and its rivals. */
export interface NativeLogprob {
  logprob: number;
  top: { id: number; token: string; logprob: number }[];
}

/** How an answer ended: with a `reason` or an `error`. */
export interface NativeEnding {
  reason?: "length" | "stop" | "eos" | "canceled" | "deadline";
  error?: NativeError;
  promptTokens: number;
  cachedTokens: number;
  generatedTokens: number;
  draftTokens: number;
  draftAcceptedTokens: number;
  durationMs: number;
  firstTokenMs: number;
  tokensPerSecond: number;
}

/** News of one request: `ids[i]` has the text `texts[i]` and, where asked for, `logprobs[i]`. */
export interface NativeEvent {
  handle: number;
  ids: number[];
  texts: string[];
  logprobs: NativeLogprob[];
  ending?: NativeEnding;
}

/** Bytes allocated by llama.cpp. */
export interface NativeMemory {
  weightsBytes: number;
  /** Of the weights, those used where the file is mapped. */
  mappedBytes: number;
  /** Of the whole process: what no file stands behind. */
  privateBytes: number;
  kvBytes: number;
  computeBytes: number;
}

/** One model and its loop. Not loaded until `load` resolves; must be closed. */
export interface NativeEngine {
  /** Rejects with a {@linkcode NativeError}. */
  load(options: NativeLoadOptions, onProgress: (progress: NativeProgress) => void): Promise<NativeFacts>;
  /** Ends a load that is under way. */
  cancelLoad(): void;
  /** Tokenises and queues. Tokens and exactly one ending follow as events if and only if it resolves. */
  submit(handle: number, request: NativeRequest): Promise<NativeAccepted>;
  /** Ends a request; false when it is not known. */
  cancel(handle: number, reason: "canceled" | "deadline"): boolean;
  /** What another engine needs to go on; undefined when it is not running. With `stop` it ends here. */
  exportSequence(handle: number, withKv: boolean, stop: boolean): Promise<NativeSequence | undefined>;
  /** Since the load. */
  times(): NativeTimes;
  /** Blocks for as long as the text is long. */
  tokenize(text: string, addSpecial: boolean, parseSpecial: boolean): Int32Array;
  /** Special tokens included. */
  detokenize(tokens: Int32Array): string;
  /** A conversation as the model's template renders it. */
  renderChat(request: { messages: { role: string; content: string }[] }): string;
  /** What llama.cpp allocated. */
  memory(): NativeMemory;
  /** Cancels everything and frees the model once the last reference is gone. Idempotent. */
  close(): Promise<void>;
}

/** The addon. */
export interface NativeAddon {
  llamaVersion: string;
  devices(): NativeDevice[];
  Engine: new (onEvents: (events: NativeEvent[]) => void) => NativeEngine;
}

/** Where `deno task build` puts the addon. */
export const ADDON_URL: URL = new URL("./build/rbee_engine.node", import.meta.url);

let loaded: NativeAddon | undefined;

/**
 * Loads the addon, once.
 *
 * @throws {RbeeError} `WORKER_START_FAILED` when it is not built or does not fit this machine.
 */
export function loadAddon(): NativeAddon {
  try {
    return loaded ??= createRequire(import.meta.url)(ADDON_URL.pathname) as NativeAddon;
  } catch (error) {
    throw new RbeeError(
      "WORKER_START_FAILED",
      `The engine cannot be loaded: ${(error as Error).message}. Run: deno task build`,
      { cause: error },
    );
  }
}
