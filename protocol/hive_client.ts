/** The calls a keeper, queen or worker makes to a hive. */
import {
  callRoute,
  callRouteEmpty,
  type ClientOptions,
  type OpenStream,
  openStream,
  type RetryPlan,
} from "./client.ts";
import {
  CancelDownloadResponse,
  CapabilitiesResponse,
  DownloadEvent,
  DownloadResponse,
  HiveEvent,
  LogLine,
  LogsResponse,
  ModelsResponse,
  type PruneInput,
  PruneResponse,
  type ReadyCallback,
  SpawnResponse,
  VerifyEvent,
  WorkerInfo,
  WorkersResponse,
} from "./hive_schemas.ts";
import type * as z from "zod";
import { HIVE_ROUTES, NODE_ROUTES, routePath, type RouteSpec } from "./routes.ts";
import type { WaitOptions } from "./worker_client.ts";
import { HealthResponse } from "./worker_schemas.ts";
import type { SpawnInput } from "./spawn_request.ts";

/** Time for files to be removed: large ones take some file systems a while. */
const REMOVAL_TIMEOUT_MS = 120_000;

/** Which lines of its logs a hive is asked for. */
export interface LogsWanted {
  /** Only those of and about this worker. */
  workerId?: string;
  /** Only those from this time on: ISO 8601, or seconds since 1970. */
  since?: string;
  /** Only the last of those that there are. */
  tail?: number;
}

/** A hive's HTTP interface with types. Every method throws what {@linkcode callRoute} throws. */
export class HiveClient {
  readonly #client: ClientOptions;
  readonly #routes: NodeRoutes;

  /**
   * `apiKey` is the node's key. With `node` the hive of that machine is called by way of a queen, whose address and key
   * are meant then. What {@linkcode NODE_ROUTES} lacks can't be called so; a spawn is the queen's own
   * ({@linkcode QueenClient.spawn}).
   */
  constructor(client: ClientOptions, node?: string) {
    this.#client = client;
    this.#routes = node === undefined ? HIVE_ROUTES : routesOf(node);
  }

  /** Alive, and which version. */
  health(options: WaitOptions & { retry?: RetryPlan } = {}): Promise<HealthResponse> {
    return callRoute(this.#client, { route: this.#routes.v1Health, schema: HealthResponse, ...options });
  }

  /** Backends, devices, memory. */
  capabilities(options: WaitOptions = {}): Promise<CapabilitiesResponse> {
    return callRoute(this.#client, {
      route: this.#routes.capabilities,
      schema: CapabilitiesResponse,
      ...options,
    });
  }

  /** Starts a download, joins a running one, or says where the file is. */
  download(modelRef: string, options: WaitOptions = {}): Promise<DownloadResponse> {
    return callRoute(this.#client, {
      route: this.#routes.download,
      schema: DownloadResponse,
      body: { model_ref: modelRef },
      ...options,
    });
  }

  /** Follows a download; ends after `complete` or `error`. */
  downloadProgress(
    id: string,
    options: WaitOptions & { onActivity?: () => void } = {},
  ): Promise<OpenStream<DownloadEvent>> {
    return openStream(this.#client, {
      route: this.#routes.downloadProgress,
      schema: DownloadEvent,
      query: { id },
      ...options,
    });
  }

  /** Stops a download that nobody else follows; what was fetched is kept. */
  cancelDownload(id: string, options: WaitOptions = {}): Promise<z.infer<typeof CancelDownloadResponse>> {
    return callRoute(this.#client, {
      route: this.#routes.cancelDownload,
      schema: CancelDownloadResponse,
      params: { id },
      ...options,
    });
  }

  /** The catalog. */
  models(options: WaitOptions = {}): Promise<z.infer<typeof ModelsResponse>> {
    return callRoute(this.#client, { route: this.#routes.models, schema: ModelsResponse, ...options });
  }

  /** Forgets a model; removes its files if they came from a hub. */
  removeModel(modelRef: string, options: WaitOptions = {}): Promise<void> {
    return callRouteEmpty(this.#client, {
      route: this.#routes.deleteModel,
      params: { ref: modelRef },
      timeoutMs: REMOVAL_TIMEOUT_MS,
      ...options,
    });
  }

  /** Reads a model's files again and compares their digests; ends after `verified` or `error`. */
  verifyModel(
    modelRef: string,
    options: WaitOptions & { onActivity?: () => void } = {},
  ): Promise<OpenStream<VerifyEvent>> {
    return openStream(this.#client, {
      route: this.#routes.verifyModel,
      schema: VerifyEvent,
      body: { model_ref: modelRef },
      ...options,
    });
  }

  /** Removes hub models, least recently used first, until the rest fit. */
  pruneModels(request: PruneInput, options: WaitOptions = {}): Promise<PruneResponse> {
    return callRoute(this.#client, {
      route: this.#routes.pruneModels,
      schema: PruneResponse,
      body: request,
      timeoutMs: REMOVAL_TIMEOUT_MS,
      ...options,
    });
  }

  /** Starts a worker or returns one that fits. */
  spawn(request: SpawnInput, options: WaitOptions = {}): Promise<SpawnResponse> {
    return callRoute(this.#client, {
      route: HIVE_ROUTES.spawn,
      schema: SpawnResponse,
      body: request,
      ...options,
    });
  }

  /** A worker's callback: its HTTP port is bound. */
  workerReady(callback: ReadyCallback, options: WaitOptions & { retry?: RetryPlan } = {}): Promise<void> {
    return callRouteEmpty(this.#client, { route: HIVE_ROUTES.ready, body: callback, ...options });
  }

  /** All workers of the node. */
  workers(options: WaitOptions = {}): Promise<z.infer<typeof WorkersResponse>> {
    return callRoute(this.#client, { route: this.#routes.workers, schema: WorkersResponse, ...options });
  }

  /** Lines of the hive's log and of its workers', in the order of their time. */
  async logs(wanted: LogsWanted = {}, options: WaitOptions = {}): Promise<LogLine[]> {
    const query = logsQuery(wanted);
    const call = { route: this.#routes.logs, schema: LogsResponse, query, ...options };
    return (await callRoute(this.#client, call)).lines;
  }

  /** The same, and then those that come; ends a little after the wanted worker is gone, else with the connection. */
  followLogs(
    wanted: LogsWanted = {},
    options: WaitOptions & { onActivity?: () => void } = {},
  ): Promise<OpenStream<LogLine>> {
    const query = { ...logsQuery(wanted), follow: "true" };
    return openStream(this.#client, { route: this.#routes.logs, schema: LogLine, query, ...options });
  }

  /** Everything that happens there; ends with the connection. */
  events(options: WaitOptions & { onActivity?: () => void } = {}): Promise<OpenStream<HiveEvent>> {
    return openStream(this.#client, { route: HIVE_ROUTES.events, schema: HiveEvent, ...options });
  }

  /** One worker. */
  worker(id: string, options: WaitOptions = {}): Promise<WorkerInfo> {
    return callRoute(this.#client, {
      route: this.#routes.worker,
      schema: WorkerInfo,
      params: { id },
      ...options,
    });
  }

  /** Stops a worker and waits until it is gone. */
  shutdownWorker(id: string, options: WaitOptions = {}): Promise<void> {
    return callRouteEmpty(this.#client, {
      route: this.#routes.shutdownWorker,
      params: { id },
      body: {},
      timeoutMs: 60_000,
      ...options,
    });
  }
}

function logsQuery({ workerId, since, tail }: LogsWanted): Record<string, string | undefined> {
  return { worker_id: workerId, since, tail: tail?.toString() };
}

type NodeRoutes = Readonly<Record<keyof typeof NODE_ROUTES, RouteSpec>>;

/** A queen's routes for one of its machines. */
function routesOf(node: string): NodeRoutes {
  const segment = routePath({ method: "GET", path: "/:node" }, { node });
  const routes = Object.entries(NODE_ROUTES).map(([name, { path, ...route }]): [string, RouteSpec] => [
    name,
    { ...route, path: path.replace("/:node", segment) },
  ]);
  return Object.fromEntries(routes) as NodeRoutes;
}
