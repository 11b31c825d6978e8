/** The calls a hive or keeper makes to a queen. */
import {
  callRoute,
  callRouteEmpty,
  type ClientOptions,
  type OpenStream,
  openStream,
  type RetryPlan,
} from "./client.ts";
import type * as z from "zod";
import {
  type AddKeyInput,
  type ChangeKeyRequest,
  KeyInfo,
  KeysResponse,
  NewKeyResponse,
  ReloadResponse,
  UsageResponse,
  type UsageRow,
} from "./key_schemas.ts";
import { FIRST_TOKEN_TIMEOUT_MS } from "./limits.ts";
import {
  type AddNodeRequest,
  type ClusterModel,
  ClusterModelsResponse,
  ClusterWorkersResponse,
  type DrainNodeRequest,
  ExplainResponse,
  type HeartbeatInput,
  HeartbeatResponse,
  type LabelNodeRequest,
  NodeInfo,
  NodesResponse,
  TaskEvent,
  TaskInfo,
  type TaskInput,
  TaskReceipt,
} from "./queen_schemas.ts";
import { SpawnResponse } from "./hive_schemas.ts";
import { RequestsResponse } from "./request_schemas.ts";
import { NODE_ROUTES, QUEEN_ROUTES } from "./routes.ts";
import type { SpawnInput } from "./spawn_request.ts";
import type { WaitOptions } from "./worker_client.ts";
import { HealthResponse } from "./worker_schemas.ts";

/** A worker that a queen had started. */
const SpawnedThere = SpawnResponse.omit({ api_key: true });
/** See {@linkcode QueenClient.spawn}. */
export type SpawnedThere = z.infer<typeof SpawnedThere>;

/** A queen's HTTP interface with types. Every method throws what {@linkcode callRoute} throws. */
export class QueenClient {
  readonly #client: ClientOptions;

  /** `apiKey` is the queen's, or one that it gives to clients. */
  constructor(client: ClientOptions) {
    this.#client = client;
  }

  /** Alive, and which version. */
  health(options: WaitOptions & { retry?: RetryPlan } = {}): Promise<HealthResponse> {
    return callRoute(this.#client, { route: QUEEN_ROUTES.v1Health, schema: HealthResponse, ...options });
  }

  /** A hive's report. */
  heartbeat(report: HeartbeatInput, options: WaitOptions = {}): Promise<z.infer<typeof HeartbeatResponse>> {
    return callRoute(this.#client, {
      route: QUEEN_ROUTES.heartbeat,
      schema: HeartbeatResponse,
      body: report,
      ...options,
    });
  }

  /** Takes work in. */
  submit(task: TaskInput, options: WaitOptions = {}): Promise<TaskReceipt> {
    return callRoute(this.#client, {
      route: QUEEN_ROUTES.submit,
      schema: TaskReceipt,
      body: { ...task, stream: false },
      ...options,
    });
  }

  /** Takes work in and tells how it goes. The limit is that of the headers, which come at once. */
  run(
    task: TaskInput,
    options: WaitOptions & { onActivity?: () => void } = {},
  ): Promise<OpenStream<TaskEvent>> {
    return openStream(this.#client, {
      route: QUEEN_ROUTES.submit,
      schema: TaskEvent,
      body: { ...task, stream: true },
      timeoutMs: FIRST_TOKEN_TIMEOUT_MS,
      ...options,
    });
  }

  /** How a task is. */
  task(id: string, options: WaitOptions = {}): Promise<TaskInfo> {
    return callRoute(this.#client, {
      route: QUEEN_ROUTES.task,
      schema: TaskInfo,
      params: { id },
      ...options,
    });
  }

  /** Tells how a task goes, from the event after `lastEventId` on; absent: from the first. */
  taskEvents(
    id: string,
    options: WaitOptions & { onActivity?: () => void; lastEventId?: number } = {},
  ): Promise<OpenStream<TaskEvent>> {
    const { lastEventId, ...wait } = options;
    return openStream(this.#client, {
      route: QUEEN_ROUTES.taskEvents,
      schema: TaskEvent,
      params: { id },
      headers: lastEventId === undefined ? {} : { "Last-Event-ID": String(lastEventId) },
      ...wait,
    });
  }

  /** Ends a task; idempotent. */
  cancelTask(id: string, options: WaitOptions = {}): Promise<void> {
    return callRouteEmpty(this.#client, { route: QUEEN_ROUTES.cancelTask, params: { id }, ...options });
  }

  /** What would happen to a request for a model, and why not elsewhere. */
  explain(
    wish: { model: string; node?: string; backend?: string },
    options: WaitOptions = {},
  ): Promise<ExplainResponse> {
    return callRoute(this.#client, {
      route: QUEEN_ROUTES.explain,
      schema: ExplainResponse,
      query: wish,
      ...options,
    });
  }

  /** One page of the requests that wait or run; those whose ids begin with `id`, behind `after`. */
  requests(
    of: { id?: string; after?: string; limit?: number } = {},
    options: WaitOptions = {},
  ): Promise<RequestsResponse> {
    const query = { ...of, limit: of.limit?.toString() };
    return callRoute(this.#client, {
      ...{ route: QUEEN_ROUTES.requests, schema: RequestsResponse, query },
      ...options,
    });
  }

  /** Ends one of them. */
  cancelRequest(id: string, options: WaitOptions = {}): Promise<void> {
    return callRouteEmpty(this.#client, { route: QUEEN_ROUTES.cancelRequest, params: { id }, ...options });
  }

  /** All models, or one, and which machines have them. */
  async models(of: { model_ref?: string } = {}, options: WaitOptions = {}): Promise<ClusterModel[]> {
    const route = QUEEN_ROUTES.clusterModels;
    const call = { route, schema: ClusterModelsResponse, query: of, ...options };
    return (await callRoute(this.#client, call)).models;
  }

  /** Has a machine start a worker, or says which one it has; whose key stays there. */
  spawn(node: string, request: SpawnInput, options: WaitOptions = {}): Promise<SpawnedThere> {
    return callRoute(this.#client, {
      ...{ route: NODE_ROUTES.spawn, params: { node }, schema: SpawnedThere, body: request },
      ...options,
    });
  }

  /** All machines. */
  async nodes(options: WaitOptions = {}): Promise<NodeInfo[]> {
    return (await callRoute(this.#client, {
      route: QUEEN_ROUTES.nodes,
      schema: NodesResponse,
      ...options,
    })).nodes;
  }

  /** Adds a machine, or changes what is known of it. */
  addNode(node: z.input<typeof AddNodeRequest>, options: WaitOptions = {}): Promise<NodeInfo> {
    return callRoute(this.#client, {
      route: QUEEN_ROUTES.addNode,
      schema: NodeInfo,
      body: node,
      ...options,
    });
  }

  /** Forgets a machine. */
  removeNode(name: string, options: WaitOptions = {}): Promise<void> {
    return callRouteEmpty(this.#client, {
      route: QUEEN_ROUTES.removeNode,
      body: { node_name: name },
      ...options,
    });
  }

  /**
   * Installs rbee on a machine, starts its hive, or stops it, over ssh from where the queen is, which takes up to
   * minutes; or says whether anything new may go there.
   */
  onNode(
    act: "installNode" | "startNode" | "stopNode" | "cordonNode" | "uncordonNode",
    name: string,
    options: WaitOptions = {},
  ): Promise<NodeInfo> {
    return callRoute(this.#client, {
      route: QUEEN_ROUTES[act],
      schema: NodeInfo,
      body: { node_name: name },
      ...options,
    });
  }

  /** Empties a machine; waits up to `timeout` seconds for its answers, and for its workers to be gone. */
  drainNode(
    drain: z.input<typeof DrainNodeRequest>,
    options: WaitOptions = {},
  ): Promise<NodeInfo> {
    return callRoute(this.#client, {
      route: QUEEN_ROUTES.drainNode,
      schema: NodeInfo,
      body: drain,
      ...options,
    });
  }

  /** All keys, without their secrets. */
  async keys(options: WaitOptions = {}): Promise<KeyInfo[]> {
    return (await callRoute(this.#client, { route: QUEEN_ROUTES.keys, schema: KeysResponse, ...options }))
      .keys;
  }

  /** Makes a key. */
  addKey(key: AddKeyInput, options: WaitOptions = {}): Promise<NewKeyResponse> {
    return callRoute(this.#client, {
      ...{ route: QUEEN_ROUTES.addKey, schema: NewKeyResponse, body: key },
      ...options,
    });
  }

  /** Adds labels to a machine and takes others off. */
  labelNode(
    labels: z.input<typeof LabelNodeRequest>,
    options: WaitOptions = {},
  ): Promise<NodeInfo> {
    return callRoute(this.#client, {
      route: QUEEN_ROUTES.labelNode,
      schema: NodeInfo,
      body: labels,
      ...options,
    });
  }

  /** Changes what a key may have. */
  changeKey(name: string, change: ChangeKeyRequest, options: WaitOptions = {}): Promise<KeyInfo> {
    return callRoute(this.#client, {
      ...{ route: QUEEN_ROUTES.changeKey, schema: KeyInfo, params: { name }, body: change },
      ...options,
    });
  }

  /** Gives a key a new secret. */
  rotateKey(name: string, options: WaitOptions = {}): Promise<NewKeyResponse> {
    return callRoute(this.#client, {
      ...{ route: QUEEN_ROUTES.rotateKey, schema: NewKeyResponse, params: { name } },
      ...options,
    });
  }

  /** Removes a key. */
  removeKey(name: string, options: WaitOptions = {}): Promise<void> {
    return callRouteEmpty(this.#client, { route: QUEEN_ROUTES.removeKey, params: { name }, ...options });
  }

  /** What keys have used. */
  async usage(
    of: { key?: string; from?: string; to?: string } = {},
    options: WaitOptions = {},
  ): Promise<UsageRow[]> {
    const route = QUEEN_ROUTES.usage;
    return (await callRoute(this.#client, { route, schema: UsageResponse, query: of, ...options })).usage;
  }

  /** Has it read its configuration again. */
  reloadConfig(options: WaitOptions = {}): Promise<ReloadResponse> {
    return callRoute(this.#client, {
      ...{ route: QUEEN_ROUTES.reloadConfig, schema: ReloadResponse },
      ...options,
    });
  }

  /** All workers. */
  async workers(options: WaitOptions = {}): Promise<z.infer<typeof ClusterWorkersResponse>["workers"]> {
    return (await callRoute(this.#client, {
      route: QUEEN_ROUTES.workers,
      schema: ClusterWorkersResponse,
      ...options,
    })).workers;
  }
}
