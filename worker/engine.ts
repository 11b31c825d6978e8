/**
 * The engine as the rest of the worker sees it: one loaded model, slots, generations with sinks. It hides handles and
 * native shapes, and it is the one owner of how many slots are taken.
 */
import { type ErrorCode, isErrorCode, RbeeError } from "../protocol/errors.ts";
import { DEFAULT_MAX_TOKENS } from "../protocol/limits.ts";
import type { ChatMessage, GenerationOptions, InferenceRequest } from "../protocol/worker_requests.ts";
import type { ModelFacts, StopReason, TokenEvent } from "../protocol/worker_schemas.ts";
import type { InferenceStats, LoadingEvent } from "../protocol/worker_schemas.ts";
import {
  loadAddon,
  type NativeEngine,
  type NativeError,
  type NativeEvent,
  type NativeFacts,
  type NativeLoadOptions,
  type NativeMemory,
  type NativeRequest,
  type NativeSequence,
  type NativeTimes,
} from "./native/addon.ts";

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

/** What is to be answered: a new prompt, or an answer that was begun elsewhere. */
export type Work =
  & GenerationOptions
  & (Pick<InferenceRequest, "prompt" | "messages" | "max_tokens"> | { resume: NativeSequence });

/** Who takes the tokens of one answer. Exactly one of the last two is called, once, last. */
export interface GenerationSink {
  /** One batch, in order, without gaps. */
  tokens(tokens: TokenEvent[]): void;
  /** The answer came to its end. */
  done(stats: InferenceStats): void;
  /** It failed. */
  failed(error: RbeeError): void;
}

/** A running answer. */
export interface Generation {
  /** Ends it; its sink is told. Idempotent. */
  cancel(reason: Extract<StopReason, "canceled" | "deadline">): void;
  /** Where it stands; with `stop` it ends here, as canceled. Undefined when it is not running (any more). */
  export(options: { kv: boolean; stop: boolean }): Promise<NativeSequence | undefined>;
}

interface Running {
  sink: GenerationSink;
  index: number;
  /** Tokens that another worker had sent. */
  resumed: number;
  seed: number;
  /** What came before the seed was known. */
  early?: NativeEvent[];
}

/** A loaded model. Must be closed. */
export class Engine {
  readonly #native: NativeEngine;
  readonly #running = new Map<number, Running>();
  #facts: NativeFacts | undefined;
  #nextHandle = 1;

  private constructor() {
    const { Engine: Native } = loadAddon();
    this.#native = new Native((events) => {
      for (const event of events) this.#take(event);
    });
  }

  /**
   * Loads a model. Resolves when it can generate; aborting the signal ends the load.
   *
   * @throws {RbeeError} `INVALID_MODEL`, `INVALID_REQUEST`, `BACKEND_UNAVAILABLE`, `DEVICE_NOT_FOUND`,
   * `INSUFFICIENT_RAM`, `WORKER_START_FAILED`.
   */
  static async load(
    options: EngineOptions,
    context: { onProgress: (event: LoadingEvent) => void; signal: AbortSignal },
  ): Promise<Engine> {
    const engine = new Engine();
    const stop = () => engine.#native.cancelLoad();
    context.signal.addEventListener("abort", stop, { once: true });
    try {
      engine.#facts = await engine.#native.load(toNativeLoad(options), (progress) => {
        context.onProgress({
          stage: "loading_to_vram",
          layers_loaded: progress.layersLoaded,
          layers_total: progress.layersTotal,
          vram_mb: progress.bytesLoaded / 1e6,
        });
      });
      return engine;
    } catch (error) {
      await engine.close();
      throw fromNative(error);
    } finally {
      context.signal.removeEventListener("abort", stop);
    }
  }

  /** What was loaded. */
  get facts(): ModelFacts {
    const facts = this.#facts!;
    return {
      architecture: facts.architecture,
      description: facts.description,
      parameters: facts.parameters,
      size_bytes: facts.sizeBytes,
      layers: facts.layers,
      vocabulary: facts.vocabulary,
      embedding_length: facts.embeddingLength,
      context_train: facts.contextTrain,
      context: facts.context,
      slots: facts.slots,
      chat_template: facts.chatTemplate,
      recurrent: facts.recurrent,
    };
  }

  /** Answers that can be generated at once. */
  get slots(): number {
    return this.#facts!.slots;
  }

  /** Of these, how many are free. */
  get slotsAvailable(): number {
    return this.slots - this.#running.size;
  }

  /** Bytes that llama.cpp allocated. */
  memory(): NativeMemory {
    return this.#native.memory();
  }

  /** Where the engine thread's time went since the load. */
  times(): NativeTimes {
    return this.#native.times();
  }

  /** A conversation as the model's template renders it. */
  renderChat(messages: ChatMessage[]): string {
    return unwrap(() => this.#native.renderChat({ messages }));
  }

  /** Text to ids, with the special tokens that the model adds. Blocks for as long as the text is long. */
  tokenize(text: string): Int32Array {
    return unwrap(() => this.#native.tokenize(text, true, true));
  }

  /** Ids to text, special tokens shown. */
  detokenize(tokens: Int32Array): string {
    return unwrap(() => this.#native.detokenize(tokens));
  }

  /**
   * Starts an answer. When `accepted` resolves, the sink will be told how it went; when it rejects, the sink hears
   * nothing.
   *
   * @throws {RbeeError} `ALL_SLOTS_BUSY`. `accepted` rejects with `INVALID_REQUEST` for what only the model can tell.
   */
  generate(work: Work, sink: GenerationSink): Generation & { accepted: Promise<void> } {
    if (this.slotsAvailable === 0) {
      const details = { slots_total: this.slots, slots_busy: this.slots };
      throw new RbeeError("ALL_SLOTS_BUSY", `All ${this.slots} slots are busy. Try again in a moment.`, {
        details,
      });
    }
    const handle = this.#nextHandle++;
    const running: Running = { sink, index: 0, resumed: 0, seed: 0, early: [] };
    this.#running.set(handle, running);
    return {
      accepted: this.#submit(handle, { work, running }),
      cancel: (reason) => void this.#native.cancel(handle, reason),
      export: ({ kv, stop }) => this.#native.exportSequence(handle, kv, stop),
    };
  }

  /** Cancels everything and lets go of the model. Idempotent. */
  async close(): Promise<void> {
    await this.#native.close();
  }

  async #submit(handle: number, what: { work: Work; running: Running }): Promise<void> {
    try {
      const { seed, sentTokens } = await this.#native.submit(handle, toNative(what.work));
      what.running.seed = seed;
      what.running.resumed = what.running.index = sentTokens;
    } catch (error) {
      this.#running.delete(handle);
      throw fromNative(error);
    }
    const early = what.running.early ?? [];
    delete what.running.early;
    for (const event of early) this.#take(event);
  }

  #take(event: NativeEvent): void {
    const running = this.#running.get(event.handle);
    if (running === undefined) return;
    // The engine thread may be faster than the promise that tells the seed.
    if (running.early !== undefined) return void running.early.push(event);
    if (event.ids.length > 0) {
      running.sink.tokens(event.ids.map((id, i) => {
        const token: TokenEvent = { token: event.texts[i], index: running.index++, id };
        const logprob = event.logprobs[i];
        if (logprob !== undefined) {
          token.logprob = logprob.logprob;
          token.top_logprobs = logprob.top;
        }
        return token;
      }));
    }
    const { ending } = event;
    if (ending === undefined) return;
    this.#running.delete(event.handle);
    if (ending.error !== undefined) return running.sink.failed(fromNative(ending.error));
    running.sink.done({
      total_tokens: ending.generatedTokens,
      duration_ms: round(ending.durationMs),
      stop_reason: ending.reason!,
      prompt_tokens: ending.promptTokens,
      cached_tokens: ending.cachedTokens,
      time_to_first_token_ms: round(ending.firstTokenMs),
      tokens_per_second: round(ending.tokensPerSecond),
      seed: running.seed,
      resumed_tokens: running.resumed,
      draft_tokens: ending.draftTokens,
      draft_accepted_tokens: ending.draftAcceptedTokens,
    });
  }
}

function toNativeLoad(options: EngineOptions): NativeLoadOptions {
  const { model, draftModel = "", ...same } = options;
  return { ...same, path: model, draftModel };
}

function toNative(work: Work): NativeRequest {
  const source = "resume" in work
    ? { resume: work.resume }
    : { prompt: work.prompt, messages: work.messages, maxTokens: work.max_tokens };
  return {
    ...source,
    defaultMaxTokens: DEFAULT_MAX_TOKENS,
    temperature: work.temperature,
    topP: work.top_p,
    topK: work.top_k,
    minP: work.min_p,
    repetitionPenalty: work.repetition_penalty,
    presencePenalty: work.presence_penalty,
    frequencyPenalty: work.frequency_penalty,
    seed: work.seed,
    stops: work.stop,
    grammar: work.grammar,
    jsonSchema: work.json_schema === undefined ? undefined : JSON.stringify(work.json_schema),
    logprobs: work.logprobs,
    strict: work.strict,
    speculative: work.speculative,
  };
}

function fromNative(error: unknown): RbeeError {
  if (error instanceof RbeeError) return error;
  const { code, message, native } = error as NativeError;
  const known: ErrorCode = isErrorCode(code) ? code : "INTERNAL";
  return new RbeeError(known, message, { details: native ? { native } : {}, cause: error });
}

function unwrap<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw fromNative(error);
  }
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
