/**
 * One worker's life, and the one owner of its state:
 *
 * | from | to | when |
 * | --- | --- | --- |
 * | loading | ready | the model is in memory |
 * | loading | failed | it can't be |
 * | loading, ready, failed | draining | a shutdown was asked for |
 *
 * `ready` shows as `idle` or `busy` by whether anything runs.
 */
import type { Logger } from "../daemon/log.ts";
import { RbeeError, toRbeeError } from "../protocol/errors.ts";
import { newCorrelationId } from "../protocol/correlation.ts";
import type { ExportRequest, GenerationOptions } from "../protocol/worker_requests.ts";
import type {
  EngineHeartbeat,
  LoadingEvent,
  ReadyResponse,
  Sandbox,
  SelfTestResponse,
  WorkerMemory,
} from "../protocol/worker_schemas.ts";
import { WORKER_ROUTES } from "../protocol/routes.ts";
import type { Engine, Generation, GenerationSink } from "./engine.ts";
import { heartbeatOf, memoryOf, timesOf } from "./engine_figures.ts";
import { encodeAnswer, generationOptions } from "./exported_answer.ts";
import { MAX_TIMER_MS } from "./limits.ts";
import { LoadingProgress } from "./loading_progress.ts";
import type { WorkerMetrics } from "./metrics.ts";
import { type SelfTest, startSelfTest } from "./self_check.ts";
import { type Accepted, boundBy, type Work } from "./work.ts";

type State =
  | { name: "loading" }
  | { name: "ready"; engine: Engine }
  | { name: "failed"; error: RbeeError }
  | { name: "draining"; engine?: Engine };

/** Who is told how a load goes, and who may end it. */
export interface LoadContext {
  onProgress: (event: LoadingEvent) => void;
  signal: AbortSignal;
}

/** Loads the model; injected so that the state can be tested with any engine. */
export type LoadEngine = (context: LoadContext) => Promise<Engine>;

/** What a request brings besides its body. */
export interface RunOptions {
  requestId: string;
  /** Milliseconds from now. */
  deadlineMs?: number;
}

/** An answer that is being generated. */
interface Running {
  generation: Generation;
  options: GenerationOptions;
  /** When it was told to stop. */
  canceledMs?: number;
}

/** See the table above. */
export class Worker {
  /** What answers call the model. */
  readonly modelRef: string;
  /** Tells the model's file from any other. */
  readonly fingerprint: () => Promise<string>;
  /** How its load goes. */
  readonly loading = new LoadingProgress();
  readonly #metrics: WorkerMetrics;
  readonly #log: Logger;
  readonly #confine: (() => Sandbox) | undefined;
  readonly #stopLoading = new AbortController();
  readonly #running = new Map<string, Running>();
  readonly #drained = Promise.withResolvers<void>();
  readonly #shutdownAsked = Promise.withResolvers<void>();
  #state: State = { name: "loading" };
  #sandbox: Sandbox | undefined;
  #idleSinceMs = performance.now();
  #selfTest: SelfTest | undefined;
  /** Requests for embeddings. */
  #embedding = 0;

  /**
   * `modelRef` is what answers call the model, `fingerprint` tells its file from any other. `confine` confines the
   * process; it is called once the model is in memory, before anything is computed for a request.
   */
  constructor(
    options: {
      modelRef: string;
      fingerprint: () => Promise<string>;
      metrics: WorkerMetrics;
      log: Logger;
      confine?: () => Sandbox;
    },
  ) {
    this.modelRef = options.modelRef;
    this.fingerprint = options.fingerprint;
    this.#metrics = options.metrics;
    this.#log = options.log;
    this.#confine = options.confine;
  }

  /** Loads. Never throws: a failure becomes the state, and resolves to the error. */
  async load(loadEngine: LoadEngine): Promise<RbeeError | undefined> {
    const startedMs = performance.now();
    try {
      const engine = await loadEngine({
        onProgress: (event) => this.loading.publish(event),
        signal: this.#stopLoading.signal,
      });
      if (this.#state.name === "draining") {
        this.#state.engine = engine;
        return undefined;
      }
      this.#sandbox = this.#confine?.();
      this.#state = { name: "ready", engine };
      this.#idleSinceMs = performance.now();
      const tookMs = this.#idleSinceMs - startedMs;
      this.#metrics.loaded(tookMs);
      this.#log.info("model loaded", { duration_ms: Math.round(tookMs), ...engine.facts });
      this.loading.publish({ stage: "ready" });
    } catch (thrown) {
      const error = toRbeeError(thrown);
      if (this.#state.name === "draining") return undefined;
      this.#state = { name: "failed", error };
      this.#log.error("model cannot be loaded", { error });
      this.loading.publish({ stage: "error", error: error.toBody(newCorrelationId()) });
      return error;
    }
  }

  /** Settles when somebody asked for the shutdown. */
  get shutdownAsked(): Promise<void> {
    return this.#shutdownAsked.promise;
  }

  /** Why it can't take requests, or undefined. */
  get notReady(): RbeeError | undefined {
    switch (this.#state.name) {
      case "ready":
        return undefined;
      case "failed":
        return this.#state.error;
      case "draining":
        return new RbeeError("SHUTTING_DOWN", "This worker is shutting down.");
      default:
        return new RbeeError("NOT_READY", "The model is still loading. Follow /v1/loading/progress.");
    }
  }

  /** Milliseconds since the last request ended, or since the load; 0 while anything runs. */
  get idleMs(): number {
    return this.#busy > 0 ? 0 : performance.now() - this.#idleSinceMs;
  }

  /** `GET /v1/ready`. */
  status(): ReadyResponse {
    switch (this.#state.name) {
      case "loading":
        return { ready: false, state: "loading", progress_url: WORKER_ROUTES.loadingProgress.path };
      case "failed":
        return { ready: false, state: "failed", error: this.#state.error.toBody(newCorrelationId()) };
      case "draining":
        return {
          ready: false,
          state: "draining",
          slots_total: this.#state.engine?.slots ?? 0,
          slots_available: 0,
        };
      case "ready": {
        const { engine } = this.#state;
        return {
          ready: true,
          state: this.#busy > 0 ? "busy" : "idle",
          model_loaded: true,
          model_ref: this.modelRef,
          slots_total: engine.slots,
          slots_available: engine.slotsAvailable,
          idle_ms: Math.round(this.idleMs),
          model: engine.facts,
          memory: this.memory(),
          sandbox: this.#sandbox,
        };
      }
    }
  }

  /** Whether the thread that computes still makes steps; undefined without a model. */
  heartbeat(): EngineHeartbeat | undefined {
    return heartbeatOf(this.#state.name === "draining" ? this.#state.engine : this.#loaded);
  }

  /** It cannot answer and will not recover: the model could not be loaded, or the engine is stuck or has failed. */
  get degraded(): boolean {
    const beat = this.heartbeat();
    return this.#state.name === "failed" || beat?.failure !== undefined ||
      (beat !== undefined && (beat.step_ms ?? 0) > beat.limit_ms);
  }

  /** In MB of 1,000,000 bytes. */
  memory(): WorkerMemory {
    return memoryOf(this.#loaded);
  }

  /** Where the engine thread's time went, in seconds; zeros without a model. */
  times(): { step: number; sampling: number; handover: number } {
    return timesOf(this.#loaded);
  }

  /** Slots for the metrics; zeros without a model. */
  slots(): { total: number; busy: number } {
    return { total: this.#loaded?.slots ?? 0, busy: this.#busy };
  }

  /**
   * Starts an answer. Resolves once it is accepted; its sink is told the rest.
   *
   * @throws {RbeeError} why it can't be: `NOT_READY`, `SHUTTING_DOWN`, `ALL_SLOTS_BUSY`, `INVALID_REQUEST`, …
   */
  async run(work: Work, options: RunOptions & { sink: GenerationSink }): Promise<Accepted> {
    if (this.#selfTest !== undefined) await this.#stopSelfTest();
    const { engine } = this;
    const { requestId, sink } = options;
    if (this.#running.has(requestId)) {
      throw new RbeeError("INVALID_REQUEST", `A request with the id ${requestId} is running already.`, {
        details: { errors: [{ field: "request_id", constraint: "unique", message: "is in use" }] },
      });
    }
    let deadline: ReturnType<typeof setTimeout> | undefined;
    const ended = () => {
      clearTimeout(deadline);
      const canceledMs = this.#running.get(requestId)?.canceledMs;
      if (canceledMs !== undefined) this.#metrics.canceled(performance.now() - canceledMs);
      this.#running.delete(requestId);
      this.#ended();
    };
    let lastTokensMs: number | undefined;
    const generation = engine.generate(work, {
      accepted: (accepted) => sink.accepted?.(accepted),
      tokens: (tokens, mark) => {
        const nowMs = performance.now();
        if (lastTokensMs !== undefined) this.#metrics.tokens(tokens.length, nowMs - lastTokensMs);
        lastTokensMs = nowMs;
        sink.tokens(tokens, mark);
      },
      done: (stats) => {
        ended();
        this.#metrics.finished(stats);
        sink.done(stats);
      },
      failed: (error) => {
        ended();
        this.#metrics.failed(error);
        sink.failed(error);
      },
    });
    const running: Running = { generation, options: generationOptions(work) };
    this.#running.set(requestId, running);
    if (options.deadlineMs !== undefined) {
      deadline = setTimeout(() => generation.cancel("deadline"), Math.min(options.deadlineMs, MAX_TIMER_MS));
    }
    try {
      const accepted = await generation.accepted;
      if (accepted.rendered !== undefined) running.options = boundBy(accepted.rendered, running.options);
      return accepted;
    } catch (error) {
      ended();
      throw error;
    }
  }

  /**
   * Embeddings of texts, see {@linkcode Engine.embed}.
   *
   * @throws {RbeeError} why it can't make them; the signal's reason when that aborts.
   */
  async embed(texts: readonly Int32Array[], signal: AbortSignal): Promise<Float32Array[]> {
    const { engine } = this;
    this.#embedding++;
    try {
      return await engine.embed(texts, signal);
    } finally {
      this.#embedding--;
      this.#ended();
    }
  }

  /**
   * The loaded model, to ask and not to generate with.
   *
   * @throws {RbeeError} why there is none.
   */
  get engine(): Engine {
    if (this.#state.name !== "ready") throw this.notReady;
    return this.#state.engine;
  }

  /**
   * Generates one token of a fixed prompt, unless something has run within `ifIdleMs`. It is no activity, and gives way
   * to a request that comes meanwhile.
   *
   * @throws {RbeeError} `NOT_READY`, `SHUTTING_DOWN`, and what is wrong with the engine.
   */
  async selfTest(ifIdleMs: number): Promise<SelfTestResponse> {
    if (this.#state.name !== "ready") throw this.notReady;
    const { facts } = this.#state.engine;
    if (
      this.#busy > 0 || this.idleMs < ifIdleMs || this.#selfTest !== undefined || facts.pooling !== undefined
    ) return { ran: false };
    this.#selfTest = startSelfTest(this.#state.engine);
    try {
      const token = await this.#selfTest.token;
      return token === undefined ? { ran: false } : { ran: true, token_id: token };
    } finally {
      this.#selfTest = undefined;
    }
  }

  /** Stops an answer; does nothing when there is none of that id. */
  cancel(requestId: string): void {
    const running = this.#running.get(requestId);
    if (running === undefined) return;
    running.canceledMs ??= performance.now();
    running.generation.cancel("canceled");
  }

  /**
   * A running answer as another worker can go on with it.
   *
   * @throws {RbeeError} `NOT_FOUND` when none of that id is running.
   */
  async export(requestId: string, wanted: ExportRequest): Promise<Uint8Array<ArrayBuffer>> {
    const running = this.#running.get(requestId);
    const [model, sequence] = await Promise.all([this.fingerprint(), running?.generation.export(wanted)]);
    if (running === undefined || sequence === undefined) {
      throw new RbeeError("NOT_FOUND", `No answer with the id ${requestId} is running.`);
    }
    return await encodeAnswer({ model, options: running.options, sequence });
  }

  /**
   * Asks for the shutdown. With `ifIdleMs` only when nothing ran for that long: check and decision are one step, so
   * no request can slip in between.
   *
   * @returns whether it will happen.
   */
  askShutdown(ifIdleMs?: number): boolean {
    if (ifIdleMs !== undefined && (this.#busy > 0 || this.idleMs < ifIdleMs)) return false;
    this.#startDraining();
    this.#shutdownAsked.resolve();
    return true;
  }

  /** Waits for what runs; when the signal aborts first, it is canceled. */
  async drain(signal: AbortSignal): Promise<void> {
    this.#startDraining();
    if (this.#busy === 0) return;
    const cancelAll = () => this.#running.forEach(({ generation }) => generation.cancel("canceled"));
    signal.addEventListener("abort", cancelAll, { once: true });
    await this.#drained.promise;
    signal.removeEventListener("abort", cancelAll);
  }

  /** Lets go of the model. */
  async close(): Promise<void> {
    if (this.#state.name === "draining") await this.#state.engine?.close();
  }

  get #loaded(): Engine | undefined {
    return this.#state.name === "ready" ? this.#state.engine : undefined;
  }

  get #busy(): number {
    return this.#running.size + this.#embedding;
  }

  #ended(): void {
    if (this.#busy > 0) return;
    this.#idleSinceMs = performance.now();
    if (this.#state.name === "draining") this.#drained.resolve();
  }

  /** Waits for its slot, at most one step, only where a request would find none. */
  async #stopSelfTest(): Promise<void> {
    this.#selfTest?.cancel();
    if (this.#loaded?.slotsAvailable === 0) await this.#selfTest?.over;
  }

  #startDraining(): void {
    if (this.#state.name === "draining") return;
    this.#stopLoading.abort();
    this.#state = { name: "draining", engine: this.#state.name === "ready" ? this.#state.engine : undefined };
  }
}
