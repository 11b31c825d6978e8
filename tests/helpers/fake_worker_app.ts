/** State and HTTP interface of the fake worker. */
import { healthRoutes } from "../../daemon/health.ts";
import type { Logger } from "../../daemon/log.ts";
import { type App, createApp, eventResponse, type Handler, type Route } from "../../daemon/serve.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { WORKER_ROUTES } from "../../protocol/routes.ts";
import { eventStream } from "../../protocol/sse.ts";
import {
  CancelRequest,
  InferenceRequest,
  SelfTestRequest,
  ShutdownRequest,
} from "../../protocol/worker_requests.ts";
import { API_VERSION, VERSION } from "../../protocol/version.ts";
import type {
  HealthResponse,
  InferenceStats,
  LoadingEvent,
  ReadyResponse,
  StopReason,
} from "../../protocol/worker_schemas.ts";
import type { FakeMode } from "./fake_worker.ts";

/** Where the modes that break in mid-answer do so. */
export const TOKENS_BEFORE_TROUBLE = 5;
/** What the mode that eats memory takes at a time, how often, and where it stops if nobody stops it. */
const EATS = { mb: 16, everyMs: 50, mostMb: 2_000 };
const STEP_LIMIT_MS = 5_000;
/** How long the real worker lingers after a failed load, made short. */
const LINGER_MS = 200;
const STORY =
  "Once upon a time there was a little bee who lived in a hive by the sea. One day she flew out. ";
const WORDS = STORY.match(/\S+\s*/g)!;

/** What the fake worker is told by its flags. */
export interface FakeOptions {
  mode: FakeMode;
  modelRef: string;
  slots: number;
  context: number;
  layers: number;
  tokenMs: number;
  timeScale: number;
  privateMb: number;
}

/** Never settles. */
const forever = () => new Promise<never>(() => {});

/** What a fake worker is and does at present. */
export class FakeState {
  readonly options: FakeOptions;
  readonly running = new Map<string, AbortController>();
  readonly #followers = new Set<(event: LoadingEvent) => void>();
  #stage: "loading" | "ready" | "failed" | "draining" = "loading";
  #last: LoadingEvent;
  #idleSinceMs = performance.now();
  #stuckSinceMs: number | undefined;

  constructor(options: FakeOptions) {
    this.options = options;
    this.#last = { stage: "loading_to_vram", layers_loaded: 0, layers_total: options.layers, vram_mb: 0 };
  }

  /** Pretends to load, layer by layer. */
  async load(ms: number): Promise<void> {
    const { mode, layers } = this.options;
    const half = Math.floor(layers / 2);
    for (let layer = 0; layer <= layers; layer++) {
      this.#tell({ stage: "loading_to_vram", layers_loaded: layer, layers_total: layers, vram_mb: layer });
      if (layer === half && mode === "dies-during-load") {
        console.error("fake worker: the load was too much");
        Deno.exit(4);
      }
      if (layer === half && mode === "stuck-load") return;
      if (layer === half && mode === "load-fails") return this.#fail();
      await new Promise((resolve) => setTimeout(resolve, ms / (layers + 1)));
    }
    if (this.#stage !== "loading") return;
    this.#stage = "ready";
    this.#idleSinceMs = performance.now();
    this.#tell({ stage: "ready" });
    if (mode === "dies-after-load") {
      console.error("fake worker: loaded, and gone");
      setTimeout(() => Deno.exit(5), LINGER_MS);
    }
  }

  /** Whether it answers requests about itself. */
  get frozen(): boolean {
    return this.options.mode === "freezes" && this.#stage === "ready";
  }

  /** The heartbeat of the engine that is not there. */
  get engine(): NonNullable<HealthResponse["engine"]> {
    const stuckMs = this.#stuckSinceMs === undefined
      ? undefined
      : (performance.now() - this.#stuckSinceMs) * this.options.timeScale;
    const stepMs = stuckMs ?? (this.running.size > 0 ? 1 : null);
    return { step_ms: stepMs, last_step_ms: stuckMs ?? null, limit_ms: STEP_LIMIT_MS };
  }

  /** Its engine goes no further. */
  stick(): Promise<never> {
    this.#stuckSinceMs ??= performance.now();
    return forever();
  }

  get idleMs(): number {
    if (this.running.size > 0) return 0;
    return Math.round((performance.now() - this.#idleSinceMs) * this.options.timeScale);
  }

  get status(): ReadyResponse {
    const { slots, context, modelRef } = this.options;
    const available = slots - this.running.size;
    if (this.#stage === "loading") {
      return { ready: false, state: "loading", progress_url: WORKER_ROUTES.loadingProgress.path };
    }
    if (this.#stage === "failed") {
      return { ready: false, state: "failed", error: FAILURE.toBody("fake") };
    }
    if (this.#stage === "draining") {
      return { ready: false, state: "draining", slots_total: slots, slots_available: 0 };
    }
    return {
      ready: true,
      state: available < slots ? "busy" : "idle",
      model_loaded: true,
      model_ref: modelRef,
      slots_total: slots,
      slots_available: available,
      idle_ms: this.idleMs,
      model: { ...FACTS, context, slots },
      memory: {
        weights_mb: 1,
        mapped_mb: 0,
        private_mb: this.options.privateMb,
        kv_mb: 1,
        compute_mb: 1,
        process_mb: 50,
      },
    };
  }

  follow(listener: (event: LoadingEvent) => void): () => void {
    this.#followers.add(listener);
    listener(this.#last);
    return () => this.#followers.delete(listener);
  }

  /** Stops accepting and leaves once nothing runs. */
  drain(): void {
    this.#stage = "draining";
    this.#leaveWhenDrained();
  }

  /** Takes a slot; the signal aborts on a cancel. */
  begin(requestId: string): AbortSignal {
    if (this.#stage !== "ready") {
      throw new RbeeError(
        this.#stage === "draining" ? "SHUTTING_DOWN" : "NOT_READY",
        "The fake worker is not ready.",
      );
    }
    const { slots } = this.options;
    if (this.running.size >= slots) {
      const details = { slots_total: slots, slots_busy: slots };
      throw new RbeeError("ALL_SLOTS_BUSY", `All ${slots} slots are busy.`, { details });
    }
    const cancel = new AbortController();
    this.running.set(requestId, cancel);
    return cancel.signal;
  }

  end(requestId: string): void {
    this.running.delete(requestId);
    if (this.running.size === 0) this.#idleSinceMs = performance.now();
    if (this.#stage === "draining") this.#leaveWhenDrained();
  }

  #leaveWhenDrained(): void {
    // The answer to the shutdown itself must still get out.
    if (this.running.size === 0) setTimeout(() => Deno.exit(0), 20);
  }

  #fail(): void {
    this.#stage = "failed";
    this.#tell({ stage: "error", error: FAILURE.toBody("fake") });
    setTimeout(() => Deno.exit(1), LINGER_MS);
  }

  #tell(event: LoadingEvent): void {
    this.#last = event;
    for (const follower of [...this.#followers]) follower(event);
  }
}

const FAILURE = new RbeeError("INVALID_MODEL", "The fake model is damaged on purpose.");
const FACTS = {
  architecture: "fake",
  description: "a fake model",
  parameters: 1,
  size_bytes: 1,
  layers: 8,
  vocabulary: WORDS.length,
  embedding_length: 1,
  context_train: 512,
  chat_template: false,
  recurrent: false,
};

/** The routes of a worker, some of them broken as the mode demands. */
export function createFakeWorkerApp(state: FakeState, options: { apiKey: string; log: Logger }): App {
  const { mode } = state.options;

  const loadingProgress: Handler = () => {
    let stop = () => {};
    const stream = eventStream((writer) => {
      stop = state.follow((event) => {
        writer.send(event);
        if (event.stage !== "loading_to_vram") writer.end();
      });
    }, { onCancel: () => stop() });
    return eventResponse(stream);
  };

  const shutdown: Handler = async ({ body }) => {
    const { if_idle_ms } = await body(ShutdownRequest);
    if (mode === "ignores-shutdown" || mode === "ignores-sigterm") await forever();
    const idleMs = state.idleMs;
    const accepted = if_idle_ms === undefined || (state.running.size === 0 && idleMs >= if_idle_ms);
    if (accepted && mode !== "stays-after-shutdown") state.drain();
    return Response.json({ accepted, idle_ms: idleMs });
  };

  const health = healthRoutes(WORKER_ROUTES.v1Health, { degraded: () => false, notReady: () => undefined })
    .map((route): Route => ({
      ...route,
      handle: (context) => {
        if (mode === "health-stalls") return forever();
        if (mode === "health-garbage") return Response.json({ fine: "thanks" });
        if (route.spec !== WORKER_ROUTES.v1Health) return route.handle(context);
        const { engine } = state;
        const status = (engine.step_ms ?? 0) > engine.limit_ms ? "degraded" : "alive";
        return Response.json({ status, version: VERSION, api_version: API_VERSION, engine });
      },
    }));
  const infer: Handler = async (context) => {
    const request = await context.body(InferenceRequest);
    return mode === "cannot-generate" ? await forever() : await answer(state, request);
  };
  let tests = 0;
  const selfTest: Handler = async ({ body }) => {
    const { if_idle_ms } = await body(SelfTestRequest);
    if (mode === "cannot-generate") await forever();
    const ran = state.running.size === 0 && state.idleMs >= if_idle_ms;
    if (ran) tests++;
    return Response.json(ran ? { ran, token_id: mode === "generates-nonsense" ? tests : 1 } : { ran });
  };
  const routes: Route[] = [
    ...health,
    { spec: WORKER_ROUTES.ready, handle: () => Response.json(state.status) },
    { spec: WORKER_ROUTES.loadingProgress, handle: loadingProgress },
    { spec: WORKER_ROUTES.inference, handle: infer },
    { spec: WORKER_ROUTES.execute, handle: infer },
    {
      spec: WORKER_ROUTES.cancel,
      handle: ({ params }) => {
        state.running.get(params.request_id)?.abort();
        return new Response(null, { status: 204 });
      },
    },
    {
      spec: WORKER_ROUTES.cancelAlias,
      handle: async ({ body }) => {
        const { request_id } = await body(CancelRequest);
        state.running.get(request_id)?.abort();
        return Response.json({ request_id }, { status: 202 });
      },
    },
    { spec: WORKER_ROUTES.shutdown, handle: shutdown },
    { spec: WORKER_ROUTES.selfTest, handle: selfTest },
    { spec: WORKER_ROUTES.metrics, handle: () => new Response("") },
  ];
  return createApp({
    ...options,
    routes: routes.map((route) => ({
      ...route,
      handle: (context) => state.frozen ? forever() : route.handle(context),
    })),
  });
}

async function answer(state: FakeState, request: InferenceRequest): Promise<Response> {
  const requestId = request.request_id ?? crypto.randomUUID();
  const headers = { "X-Request-Id": requestId };
  const canceled = state.begin(requestId);
  const words = storyOf(state, { max: request.max_tokens ?? 20, canceled });
  if (!request.stream) {
    const texts = await Array.fromAsync(words);
    state.end(requestId);
    const stats = statsOf(texts.length, { request, reason: canceled.aborted ? "canceled" : "length" });
    const token_ids = texts.map((_, index) => index % WORDS.length);
    return Response.json({ request_id: requestId, text: texts.join(""), token_ids, ...stats }, { headers });
  }
  const stream = eventStream(async (writer) => {
    let index = 0;
    for await (const token of words) {
      writer.send({ token, index, id: index % WORDS.length });
      index++;
    }
    state.end(requestId);
    const stats = statsOf(index, { request, reason: canceled.aborted ? "canceled" : "length" });
    writer.send({ done: true, ...stats });
    writer.end();
  }, { onCancel: () => state.running.get(requestId)?.abort() });
  return eventResponse(stream, headers);
}

async function* storyOf(
  state: FakeState,
  options: { max: number; canceled: AbortSignal },
): AsyncGenerator<string> {
  const { mode, tokenMs } = state.options;
  for (let index = 0; index < options.max; index++) {
    await new Promise((resolve) => setTimeout(resolve, tokenMs));
    if (options.canceled.aborted) return;
    if (index === TOKENS_BEFORE_TROUBLE && mode === "dies-mid-answer") Deno.kill(Deno.pid, "SIGKILL");
    if (index === TOKENS_BEFORE_TROUBLE && mode === "stalls-mid-answer") await forever();
    if (index === TOKENS_BEFORE_TROUBLE && mode === "engine-stuck") await state.stick();
    if (index === TOKENS_BEFORE_TROUBLE && mode === "eats-memory") await eatMemory();
    yield WORDS[index % WORDS.length];
  }
}

async function eatMemory(): Promise<void> {
  const eaten: Uint8Array[] = [];
  while (eaten.length * EATS.mb < EATS.mostMb) {
    eaten.push(new Uint8Array(EATS.mb * 1_000_000).fill(1));
    await new Promise((resolve) => setTimeout(resolve, EATS.everyMs));
  }
}

function statsOf(
  tokens: number,
  of: { request: InferenceRequest; reason: StopReason },
): InferenceStats {
  return {
    total_tokens: tokens,
    duration_ms: tokens,
    stop_reason: of.reason,
    prompt_tokens: 3,
    cached_tokens: 0,
    time_to_first_token_ms: 1,
    resumed_tokens: 0,
    draft_tokens: 0,
    draft_accepted_tokens: 0,
    tokens_per_second: 1000,
    seed: of.request.seed ?? 1,
  };
}
