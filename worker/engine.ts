/**
 * The engine as the rest of the worker sees it: one loaded model, slots, generations with sinks. It hides handles and
 * native shapes, and it is the one owner of how many slots are taken.
 */
import { RbeeError } from "../protocol/errors.ts";
import type { ModelFacts, StopReason, TokenEvent } from "../protocol/worker_schemas.ts";
import type { InferenceStats, LoadingEvent } from "../protocol/worker_schemas.ts";
import {
  loadAddon,
  type NativeAccepted,
  type NativeChat,
  type NativeChatRequest,
  type NativeEngine,
  type NativeEvent,
  type NativeFacts,
  type NativeHeartbeat,
  type NativeMark,
  type NativeMemory,
  type NativeSequence,
  type NativeTimes,
} from "./native/addon.ts";
import { type Running, tellEnding, tellTokens, unbegun } from "./engine_events.ts";
import { embeddingBatches } from "./embedding_batches.ts";
import { fromNative, unwrap } from "./native/errors.ts";
import { type EngineOptions, toNativeLoad } from "./engine_options.ts";
import { commonBeginningOf } from "./common_text.ts";
import { type Accepted, toNative, type Work } from "./work.ts";

/** Who takes the tokens of one answer. Exactly one of the last two is called, once, last. */
export interface GenerationSink {
  /** It is taken; before anything else. */
  accepted?(accepted: Accepted): void;
  /** One batch, in order, without gaps; `mark` is where a marked answer stands behind it. */
  tokens(tokens: TokenEvent[], mark?: NativeMark): void;
  /** The answer came to its end. */
  done(stats: InferenceStats): void;
  /** It failed. */
  failed(error: RbeeError): void;
}

/** How text becomes ids. */
export interface TokenizeOptions {
  /** Ends it soon. */
  signal: AbortSignal;
  /** With the tokens that the model puts before and behind a text; default true. */
  addSpecial?: boolean;
  /** Special tokens written out become those; default true. */
  parseSpecial?: boolean;
  /** Most tokens; a text of more is refused early. Default: any number. */
  limit?: number;
}

/** A running answer. */
export interface Generation {
  /** Ends it; its sink is told. Idempotent. */
  cancel(reason: CancelReason): void;
  /** Where it stands; with `stop` it ends here, as canceled. Undefined when it is not running (any more). */
  export(options: { kv: boolean; stop: boolean }): Promise<NativeSequence | undefined>;
}

/** Why an answer that did nothing wrong is ended. */
export type CancelReason = Extract<StopReason, "canceled" | "deadline">;

/** A loaded model. Must be closed. */
export class Engine {
  readonly #native: NativeEngine;
  readonly #running = new Map<number, Running>();
  #facts: NativeFacts | undefined;
  #slots = 0;
  #embedding = 0;
  #nextHandle = 1;
  #closed = false;

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
      engine.#slots = engine.#facts.slots ?? options.slots;
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
      slots: this.slots,
      chat_template: facts.chatTemplate,
      recurrent: facts.recurrent,
      pooling: facts.pooling,
    };
  }

  /** Answers that can be generated at once, or requests for embeddings that may wait for each other. */
  get slots(): number {
    return this.#slots;
  }

  /** Of these, how many are free. */
  get slotsAvailable(): number {
    return this.slots - this.#running.size - this.#embedding;
  }

  /** Bytes that llama.cpp allocated. */
  memory(): NativeMemory {
    return this.#native.memory();
  }

  /** Hashes of the beginnings of all prompts and answers that the slots hold. */
  async heldBlocks(): Promise<Float64Array> {
    return this.#facts!.pooling === undefined ? await this.#native.heldBlocks() : new Float64Array();
  }

  /** Where the engine thread's time went since the load. */
  times(): NativeTimes {
    return this.#native.times();
  }

  /** Whether the thread that computes still makes steps. */
  heartbeat(): NativeHeartbeat {
    return this.#native.heartbeat();
  }

  /**
   * A conversation as the model's template renders it. With the handle of a request it ends when that is canceled.
   *
   * @throws {RbeeError} `INVALID_REQUEST` for what the template refuses, `QUEUE_FULL`; the signal's reason when that
   * aborts.
   */
  async renderChat(request: NativeChatRequest, signal: AbortSignal): Promise<NativeChat> {
    const asked = JSON.stringify(request);
    return JSON.parse(await this.#prepare(signal, (handle) => this.#native.renderChat(handle, asked)));
  }

  /**
   * Text to ids.
   *
   * @throws {RbeeError} `INVALID_REQUEST` for a text beyond its limit, `QUEUE_FULL`; the signal's reason when that aborts.
   */
  async tokenize(text: string, options: TokenizeOptions): Promise<Int32Array> {
    const { addSpecial = true, parseSpecial = true, limit = 0, signal } = options;
    return await this.#prepare(
      signal,
      (handle) => this.#native.tokenize(handle, text, addSpecial, parseSpecial, limit),
    );
  }

  /** The bytes of one token; maybe no whole character. */
  piece(token: number): Uint8Array {
    return unwrap(() => this.#native.piece(token));
  }

  /** Ids to text, special tokens shown; the same errors as {@linkcode tokenize}. */
  async detokenize(tokens: Int32Array, signal: AbortSignal): Promise<string> {
    return await this.#prepare(signal, (handle) => this.#native.detokenize(handle, tokens));
  }

  /** Waits for something that the addon does on a thread of its own and ends by its handle. */
  async #prepare<T>(signal: AbortSignal, start: (handle: number) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    const handle = this.#nextHandle++;
    const cancel = () => void this.#native.cancel(handle, "canceled");
    signal.addEventListener("abort", cancel, { once: true });
    try {
      return await start(handle);
    } catch (error) {
      throw signal.aborted ? signal.reason : fromNative(error);
    } finally {
      signal.removeEventListener("abort", cancel);
    }
  }

  /**
   * Starts an answer. When `accepted` resolves, the sink will be told how it went; when it rejects, the sink hears
   * nothing.
   *
   * @throws {RbeeError} `ALL_SLOTS_BUSY`. `accepted` rejects with `INVALID_REQUEST` for what only the model can tell.
   */
  generate(work: Work, sink: GenerationSink): Generation & { accepted: Promise<Accepted> } {
    if (this.#facts!.pooling !== undefined) {
      throw new RbeeError(
        "INVALID_REQUEST",
        "This worker makes embeddings and cannot continue text. Use /v1/embeddings, or another model.",
      );
    }
    this.#requireSlot();
    const handle = this.#nextHandle++;
    const running: Running = { sink, index: 0, resumed: 0, seed: 0, stops: [], early: [] };
    this.#running.set(handle, running);
    return {
      accepted: this.#submit(handle, { work, running }),
      cancel: (reason) => {
        running.canceled ??= reason;
        this.#native.cancel(handle, reason);
      },
      export: ({ kv, stop }) => this.#native.exportSequence(handle, kv, stop),
    };
  }

  /**
   * Embeddings of texts, not normalised; texts that do not fit into one step together are computed in several, with
   * others' in between. Aborting the signal ends it between two.
   *
   * @throws {RbeeError} `ALL_SLOTS_BUSY`, and `INVALID_REQUEST` when a text is too long or the model makes none.
   */
  async embed(texts: readonly Int32Array[], signal: AbortSignal): Promise<Float32Array[]> {
    const { pooling, batch, context } = this.#facts!;
    if (pooling === undefined) {
      throw new RbeeError(
        "INVALID_REQUEST",
        "This worker continues text and makes no embeddings. Start one with --embeddings.",
      );
    }
    const lengths = texts.map((text) => text.length);
    lengths.forEach((length, i) => {
      if (length > context) {
        throw new RbeeError(
          "INVALID_REQUEST",
          `Input ${i + 1} has ${length} tokens, too large for the context of ${context}. Shorten it.`,
        );
      }
    });
    this.#requireSlot();
    this.#embedding++;
    try {
      const results: Float32Array[] = [];
      for (const count of embeddingBatches(lengths, { tokens: context, texts: batch! })) {
        signal.throwIfAborted();
        const part = texts.slice(results.length, results.length + count);
        results.push(...await this.#native.embed([...part]));
      }
      return results;
    } catch (error) {
      throw signal.aborted ? error : fromNative(error);
    } finally {
      this.#embedding--;
    }
  }

  /** How a query and a document are put together, of a ranking model. */
  get pairFormat(): NativeFacts["pair"] {
    const { pair, pooling } = this.#facts!;
    return pooling === "rank" ? pair : undefined;
  }

  #requireSlot(): void {
    if (this.slotsAvailable > 0) return;
    const details = { slots_total: this.slots, slots_busy: this.slots };
    throw new RbeeError("ALL_SLOTS_BUSY", `All ${this.slots} slots are busy. Try again in a moment.`, {
      details,
    });
  }

  /** Whether it was closed. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Cancels everything and lets go of the model. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#native.close();
  }

  async #submit(handle: number, what: { work: Work; running: Running }): Promise<Accepted> {
    const { work, running } = what;
    let rendered: NativeChat | undefined;
    let accepted: NativeAccepted;
    try {
      rendered = await this.#render(handle, work);
      const request = toNative(work, { rendered, common: await this.#commonOf(handle, work) });
      running.stops = request.stops;
      const submitted = this.#native.submit(handle, request);
      if (running.canceled !== undefined) this.#native.cancel(handle, running.canceled);
      accepted = await submitted;
      running.seed = accepted.seed;
      running.resumed = running.index = accepted.sentTexts.length;
    } catch (thrown) {
      const error = fromNative(thrown);
      if (running.canceled === undefined || error.code !== "REQUEST_CANCELED") {
        this.#running.delete(handle);
        throw error;
      }
      // It ended while its conversation was rendered, so the addon has no ending to tell.
      accepted = { promptTokens: 0, maxTokens: 0, seed: 0, sentTexts: [], blocks: new Float64Array() };
      running.early?.push({ handle, ids: [], texts: [], logprobs: [], ending: unbegun(running.canceled) });
    }
    const settled: Accepted = { ...accepted, rendered };
    running.sink.accepted?.(settled);
    const early = running.early ?? [];
    delete running.early;
    for (const event of early) this.#take(event);
    return settled;
  }

  async #renderChat(handle: number, request: NativeChatRequest): Promise<NativeChat> {
    return JSON.parse(await this.#native.renderChat(handle, JSON.stringify(request)));
  }

  /** The text that the prompt begins with and everybody may know. */
  async #commonOf(handle: number, work: Work): Promise<string | undefined> {
    if ("resume" in work || work.common === undefined) return undefined;
    const common = commonBeginningOf(work, work.common);
    if (common === undefined || "prompt" in common) return common?.prompt;
    // Where a template does not take it by itself nothing is common.
    return await this.#renderChat(handle, common.chat).then(({ prompt }) => prompt, () => undefined);
  }

  async #render(handle: number, work: Work): Promise<NativeChat | undefined> {
    if ("resume" in work) return undefined;
    if (work.chat !== undefined) {
      const rendered = await this.#renderChat(handle, work.chat);
      if (work.chat.tool_choice !== "required" || rendered.constraint.grammar !== "") return rendered;
      throw new RbeeError(
        "INVALID_REQUEST",
        "A call was required, but this model's chat template knows no tools. Use tool_choice auto, or another model.",
      );
    }
    if (work.messages === undefined) return undefined;
    // Here the text is told as it stands, so the template binds nothing.
    const { prompt } = await this.#renderChat(handle, { messages: work.messages });
    return { prompt, stops: [], constraint: { grammar: "" }, parser: { plain: true } };
  }

  #take(event: NativeEvent): void {
    const running = this.#running.get(event.handle);
    if (running === undefined) return;
    // The engine thread may be faster than the promise that tells the seed.
    if (running.early !== undefined) return void running.early.push(event);
    if (event.ids.length > 0) tellTokens(running, event);
    if (event.ending === undefined) return;
    this.#running.delete(event.handle);
    tellEnding(running, event.ending);
  }
}
