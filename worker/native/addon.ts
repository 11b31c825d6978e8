/** The C++ addon with types: the only place that loads it. What the members do is told in native/src/*.h. */
import { join } from "@std/path";
import { createRequire } from "node:module";
import { INSTALLATION } from "../../home/installation.ts";
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
  /** Instead of the file's own: Jinja, or a name that llama.cpp knows; empty: the file's own. */
  chatTemplate: string;
  /** For embeddings; a model that can make nothing else is always loaded for them. */
  embeddings: boolean;
  /** What is made of a text's tokens, as llama.cpp calls it, or `auto`. */
  pooling: string;
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
  chatTemplate: boolean;
  recurrent: boolean;
  /** Absent when it was loaded for embeddings, then the others are there. */
  slots?: number;
  pooling?: Pooling;
  /** Values of one embedding. */
  width?: number;
  /** Texts that one call may have. */
  batch?: number;
  /** How a ranking model is given a query and a document: a text that names both, or ids around theirs. */
  pair?: { template: string; before: number[]; between: number[]; after: number[] };
}

/** What an embedding is made of: every token's own, their mean, the first's, the last's, or a score. */
export type Pooling = "none" | "mean" | "cls" | "last" | "rank";

/** A request; ranges are checked before. Either `prompt` or `promptTokens`. */
export interface NativeRequest {
  prompt?: string;
  promptTokens?: Int32Array;
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
  /** JSON text of a {@linkcode NativeChat}'s `constraint`, instead of the two. */
  constraint?: string;
  logitBias: { token: number; bias: number }[];
  logprobs?: number;
  strict: boolean;
  speculative: "auto" | "on" | "off";
  /** Told where it stands, so that another engine can go on with it. */
  marked: boolean;
  /** 16 hexadecimal digits; what was computed for requests of another scope is not reused. */
  cacheScope?: string;
  /** Text that everybody may know: as far as the prompt has its tokens, what was computed for any scope is reused. */
  common?: string;
  /** An answer to go on with; prompt and `maxTokens` are used only if it has no prompt of its own. */
  resume?: NativeSequence;
}

/** What is to be rendered; goes over as JSON text. */
export interface NativeChatRequest {
  /** As OpenAI's API writes them. */
  messages: unknown[];
  tools?: unknown[];
  tool_choice?: "auto" | "required" | "none";
  parallel_tool_calls?: boolean;
  json_schema?: unknown;
  grammar?: string;
  /** Default true. */
  add_generation_prompt?: boolean;
  /** The answer goes on with the last message. */
  continue_final_message?: boolean | string;
  /** How thoughts are told: `none` leaves them in the content. Default `auto`. */
  reasoning_format?: string;
  /** Default true. */
  enable_thinking?: boolean;
  /** Variables of the template. */
  template_arguments?: Record<string, unknown>;
  /** ChatML stands in for a model without a template. */
  any_template?: boolean;
}

/** A rendered conversation; comes as JSON text. */
export interface NativeChat {
  prompt: string;
  /** Beside those of the request. */
  stops: string[];
  /** What the sampler has to keep to. Plain data, for {@linkcode NativeRequest}. */
  constraint: { grammar: string } & Record<string, unknown>;
  /** How the answer is to be read. Plain data, for {@linkcode NativeChatParser}. */
  parser: {
    /** The text is the content, and need not be read. */
    plain: boolean;
    [other: string]: unknown;
  };
}

/** What is new of an answer; comes as JSON text, in arrays. */
export interface NativeChatDelta {
  reasoning?: string;
  content?: string;
  /** `name` may still grow as long as there are no `arguments`. */
  tool_call?: { index: number; id: string; name: string; arguments: string };
}

/** Reads one answer as it grows. */
export interface NativeChatParser {
  /** More text, `last` with the end of the answer. Blocks for as long as the answer is long. */
  push(text: string, last: boolean): string;
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

/** Whether the engine's thread still makes steps. */
export interface NativeHeartbeat {
  /** Age of the step under way; null while it waits for work. */
  stepMs: number | null;
  /** Since the end of the last step; null before the first. */
  lastStepMs: number | null;
  /** A step older than that is stuck: a generous multiple of what such steps take on this machine. */
  limitMs: number;
  /** What ended the thread before its time. */
  failure?: string;
}

/** What was settled about a request when it was taken. */
export interface NativeAccepted {
  promptTokens: number;
  maxTokens: number;
  seed: number;
  /** Of a resumed answer: the texts of tokens that were sent before. */
  sentTexts: string[];
  /** Hashes of the prompt's beginnings, where it is marked: one for each whole block of 32 tokens. */
  blocks: Float64Array;
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
  /** Which of the stop strings, with reason `stop`. */
  stoppedBy?: number;
  promptTokens: number;
  cachedTokens: number;
  generatedTokens: number;
  draftTokens: number;
  draftAcceptedTokens: number;
  durationMs: number;
  firstTokenMs: number;
  tokensPerSecond: number;
}

/** Where an answer stands behind a token that was told. */
export interface NativeMark {
  /** Generated beyond it, not told. */
  ids: number[];
  held: Partial<NativeLogprob>[];
  /** Random numbers drawn so far. */
  draws: number;
}

/** News of one request: `ids[i]` has the text `texts[i]` and, where asked for, `logprobs[i]`. */
export interface NativeEvent {
  handle: number;
  ids: number[];
  texts: string[];
  logprobs: NativeLogprob[];
  /** Where it stood behind the first `marked` of these tokens. */
  mark?: NativeMark;
  marked?: number;
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
  /**
   * Tokenises and queues. Tokens and exactly one ending follow as events if and only if it resolves. Rejects with
   * `QUEUE_FULL` when too much waits to be prepared, as the other methods that take a handle do.
   */
  submit(handle: number, request: NativeRequest): Promise<NativeAccepted>;
  /** Ends what goes by this handle, a request or another promise; false when it is not known. */
  cancel(handle: number, reason: "canceled" | "deadline"): boolean;
  /** What another engine needs to go on; undefined when it is not running. With `stop` it ends here. */
  exportSequence(handle: number, withKv: boolean, stop: boolean): Promise<NativeSequence | undefined>;
  /** Hashes of the beginnings of all that the slots hold, as of a prompt's. */
  heldBlocks(): Promise<Float64Array>;
  /** Since the load. */
  times(): NativeTimes;
  /** Never blocks for long, and may be asked at any time. */
  heartbeat(): NativeHeartbeat;
  /** Rejects with `INVALID_REQUEST` for more than `limit` tokens, unless that is 0. */
  tokenize(
    handle: number,
    text: string,
    addSpecial: boolean,
    parseSpecial: boolean,
    limit: number,
  ): Promise<Int32Array>;
  /** The bytes of one token, maybe no whole character. */
  piece(token: number): Uint8Array;
  /** Special tokens included. */
  detokenize(handle: number, tokens: Int32Array): Promise<string>;
  /** A {@linkcode NativeChatRequest} to a {@linkcode NativeChat}, both JSON text. */
  renderChat(handle: number, request: string): Promise<string>;
  /** One embedding a text, each not longer than the context and all together neither. Others wait meanwhile. */
  embed(texts: Int32Array[]): Promise<Float32Array[]>;
  /** What llama.cpp allocated. */
  memory(): NativeMemory;
  /** Cancels everything and frees the model once the last reference is gone. Idempotent. */
  close(): Promise<void>;
}

/** What the running kernel has to confine a process with. */
export interface NativeSandboxSupport {
  /** Version of landlock's interface; 0: there is none. */
  landlockAbi: number;
  seccomp: boolean;
}

/** What confining this process came to. */
export interface NativeSandboxReport {
  support: NativeSandboxSupport;
  noNewPrivs: boolean;
  /** On all threads. */
  landlock: boolean;
  /** On all threads. */
  seccomp: boolean;
  /** A sentence for each part that does not hold. */
  problems: string[];
}

/** Files, and folders with all that is in them. What does not exist is left out. */
export interface SandboxPaths {
  read: string[];
  /** Also to be read, made and removed; patterns of glob(7). */
  write: string[];
}

/** The addon. */
export interface NativeAddon {
  llamaVersion: string;
  devices(): NativeDevice[];
  sandboxSupport(): NativeSandboxSupport;
  /** Confines every thread of this process, for good. Blocks for some milliseconds. */
  confine(paths: SandboxPaths): NativeSandboxReport;
  Engine: new (onEvents: (events: NativeEvent[]) => void) => NativeEngine;
  ChatParser: new (parser: string) => NativeChatParser;
}

/** Where `deno task build` puts the addon, and where an archive has it. */
const ADDON_PATH = join(INSTALLATION, "worker/native/build/rbee_engine.node");

let loaded: NativeAddon | undefined;

/**
 * Loads the addon, once.
 *
 * @throws {RbeeError} `WORKER_START_FAILED` when it is not built or does not fit this machine.
 */
export function loadAddon(): NativeAddon {
  try {
    return loaded ??= createRequire(import.meta.url)(ADDON_PATH) as NativeAddon;
  } catch (error) {
    throw new RbeeError(
      "WORKER_START_FAILED",
      `The engine cannot be loaded: ${(error as Error).message}. Run: deno task build`,
      { cause: error },
    );
  }
}
