/** The calls a keeper, hive or queen makes to a worker. */
import {
  callRoute,
  callRouteEmpty,
  callRouteText,
  type ClientOptions,
  type OpenStream,
  openStream,
} from "./client.ts";
import {
  CANCEL_TIMEOUT_MS,
  FIRST_TOKEN_TIMEOUT_MS,
  HEALTH_TIMEOUT_MS,
  SELF_TEST_TIMEOUT_MS,
} from "./limits.ts";
import { WORKER_ROUTES } from "./routes.ts";
import type { InferenceInput } from "./worker_requests.ts";
import {
  HealthResponse,
  InferenceEvent,
  InferenceResponse,
  LoadingEvent,
  ReadyResponse,
  SelfTestResponse,
  ShutdownResponse,
} from "./worker_schemas.ts";

/** What every call takes. */
export interface WaitOptions {
  /** Ends the call. */
  signal?: AbortSignal;
  /** Overrides the call's own limit, in ms. */
  timeoutMs?: number;
}

/** A worker's HTTP interface with types. Every method throws what {@linkcode callRoute} throws. */
export class WorkerClient {
  readonly #client: ClientOptions;

  /** `apiKey` is the worker's own, from the spawn answer. */
  constructor(client: ClientOptions) {
    this.#client = client;
  }

  /** Whether it is alive. */
  health(options: WaitOptions = {}): Promise<HealthResponse> {
    return callRoute(this.#client, {
      route: WORKER_ROUTES.v1Health,
      schema: HealthResponse,
      timeoutMs: HEALTH_TIMEOUT_MS,
      ...options,
    });
  }

  /** Whether it can take a request, and how many; with `blocks` also what its slots hold. */
  ready(options: WaitOptions & { blocks?: boolean } = {}): Promise<ReadyResponse> {
    const { blocks, ...wait } = options;
    return callRoute(this.#client, {
      route: WORKER_ROUTES.ready,
      schema: ReadyResponse,
      query: { blocks: blocks ? "true" : undefined },
      timeoutMs: HEALTH_TIMEOUT_MS,
      ...wait,
    });
  }

  /** Follows the load; ends after `ready` or `error`. */
  loadingProgress(
    options: WaitOptions & { onActivity?: () => void } = {},
  ): Promise<OpenStream<LoadingEvent>> {
    return openStream(this.#client, {
      route: WORKER_ROUTES.loadingProgress,
      schema: LoadingEvent,
      ...options,
    });
  }

  /** Generates; the events end with a terminal one. The limit is that of the first token. */
  infer(
    request: InferenceInput,
    options: WaitOptions & { onActivity?: () => void; headers?: Record<string, string> } = {},
  ): Promise<OpenStream<InferenceEvent>> {
    return openStream(this.#client, {
      route: WORKER_ROUTES.inference,
      schema: InferenceEvent,
      body: { ...request, stream: true },
      timeoutMs: FIRST_TOKEN_TIMEOUT_MS,
      ...options,
    });
  }

  /** Generates and waits for the whole text. */
  inferWhole(request: InferenceInput, options: WaitOptions = {}): Promise<InferenceResponse> {
    return callRoute(this.#client, {
      route: WORKER_ROUTES.inference,
      schema: InferenceResponse,
      body: { ...request, stream: false },
      timeoutMs: FIRST_TOKEN_TIMEOUT_MS,
      ...options,
    });
  }

  /** Stops a request; idempotent. */
  cancel(requestId: string, options: WaitOptions = {}): Promise<void> {
    return callRouteEmpty(this.#client, {
      route: WORKER_ROUTES.cancel,
      params: { request_id: requestId },
      timeoutMs: CANCEL_TIMEOUT_MS,
      ...options,
    });
  }

  /** Its metrics, as Prometheus reads them. */
  metrics(options: WaitOptions = {}): Promise<string> {
    return callRouteText(this.#client, {
      route: WORKER_ROUTES.metrics,
      timeoutMs: HEALTH_TIMEOUT_MS,
      ...options,
    });
  }

  /** Asks it to drain and leave; with `ifIdleMs` only when it has been idle for that long. */
  shutdown(options: WaitOptions & { ifIdleMs?: number } = {}): Promise<ShutdownResponse> {
    const { ifIdleMs, ...wait } = options;
    return callRoute(this.#client, {
      route: WORKER_ROUTES.shutdown,
      schema: ShutdownResponse,
      body: ifIdleMs === undefined ? {} : { if_idle_ms: ifIdleMs },
      ...wait,
    });
  }

  /** Has it generate one token of a fixed prompt, unless something has run within `ifIdleMs`. */
  selfTest(options: WaitOptions & { ifIdleMs?: number } = {}): Promise<SelfTestResponse> {
    const { ifIdleMs, ...wait } = options;
    return callRoute(this.#client, {
      route: WORKER_ROUTES.selfTest,
      schema: SelfTestResponse,
      body: { if_idle_ms: ifIdleMs },
      timeoutMs: SELF_TEST_TIMEOUT_MS,
      ...wait,
    });
  }
}
