/** Every route of every part, named once: servers hang handlers on them, clients call them. */
import type { Dialect } from "./dialects.ts";
import { RbeeError } from "./errors.ts";
import { printable } from "./printable.ts";
import { type Right, RIGHTS } from "./rights.ts";

/** How a caller proves itself: with a key, with a one-time token, or not at all. */
export type RouteAuth = "key" | "token" | "none";

/** One route. `path` may hold `:name` parameters. */
export interface RouteSpec {
  /** HTTP method. */
  readonly method: "GET" | "POST" | "DELETE";
  /** Path, `URLPattern` syntax. */
  readonly path: string;
  /** Default `key`. */
  readonly auth?: RouteAuth;
  /** Rights of which a key must have one, where the daemon knows other keys than its own; absent: the owner's alone. */
  readonly rights?: readonly Right[];
  /** What a body may be: its bytes, and how many values; default is the control limit. */
  readonly body?: "prompt" | "tokens" | "control" | "state" | "relay";
  /** Whose clients call it: decides the shape of errors. Default `rbee`. */
  readonly dialect?: Dialect;
}

/** What a daemon answers, to read by machines; every one tells it. */
export const OPENAPI_ROUTE = { method: "GET", path: "/openapi.json" } as const satisfies RouteSpec;

/** Routes that every daemon answers without a key. */
export const OPEN_HEALTH_ROUTES = {
  health: { method: "GET", path: "/health", auth: "none" },
  live: { method: "GET", path: "/health/live", auth: "none" },
  readiness: { method: "GET", path: "/health/ready", auth: "none" },
} as const satisfies Record<string, RouteSpec>;

/** `llm-worker-rbee`, SPEC §5. */
export const WORKER_ROUTES = {
  ...OPEN_HEALTH_ROUTES,
  v1Health: { method: "GET", path: "/v1/health" },
  ready: { method: "GET", path: "/v1/ready" },
  loadingProgress: { method: "GET", path: "/v1/loading/progress" },
  inference: { method: "POST", path: "/v1/inference", body: "prompt" },
  execute: { method: "POST", path: "/execute", body: "prompt" },
  cancel: { method: "DELETE", path: "/v1/inference/:request_id" },
  export: { method: "POST", path: "/v1/inference/:request_id/export" },
  resume: { method: "POST", path: "/v1/inference/resume", body: "state" },
  relay: { method: "POST", path: "/v1/relay", body: "relay" },
  cancelAlias: { method: "POST", path: "/cancel" },
  shutdown: { method: "POST", path: "/v1/admin/shutdown" },
  selfTest: { method: "POST", path: "/v1/admin/self-test" },
  metrics: { method: "GET", path: "/metrics" },
  openapi: OPENAPI_ROUTE,
} as const satisfies Record<string, RouteSpec>;

/** What clients of OpenAI, llama-server, Anthropic and Ollama call, on every daemon that answers them. */
export const FOREIGN_ROUTES = {
  models: { method: "GET", path: "/v1/models", dialect: "openai" },
  model: { method: "GET", path: "/v1/models/:id", dialect: "openai" },
  chatCompletions: { method: "POST", path: "/v1/chat/completions", body: "prompt", dialect: "openai" },
  completions: { method: "POST", path: "/v1/completions", body: "tokens", dialect: "openai" },
  responses: { method: "POST", path: "/v1/responses", body: "prompt", dialect: "openai" },
  embeddings: { method: "POST", path: "/v1/embeddings", body: "tokens", dialect: "openai" },
  tokenEmbeddings: { method: "POST", path: "/embeddings", body: "tokens", dialect: "openai" },
  rerank: { method: "POST", path: "/v1/rerank", body: "prompt", dialect: "openai" },
  tokenize: { method: "POST", path: "/tokenize", body: "prompt", dialect: "openai" },
  detokenize: { method: "POST", path: "/detokenize", body: "tokens", dialect: "openai" },
  applyTemplate: { method: "POST", path: "/apply-template", body: "prompt", dialect: "openai" },
  messages: { method: "POST", path: "/v1/messages", body: "prompt", dialect: "anthropic" },
  countTokens: { method: "POST", path: "/v1/messages/count_tokens", body: "prompt", dialect: "anthropic" },
  ollamaChat: { method: "POST", path: "/api/chat", body: "prompt", dialect: "ollama" },
  ollamaGenerate: { method: "POST", path: "/api/generate", body: "prompt", dialect: "ollama" },
  ollamaEmbed: { method: "POST", path: "/api/embed", body: "prompt", dialect: "ollama" },
  ollamaTags: { method: "GET", path: "/api/tags", dialect: "ollama" },
  ollamaShow: { method: "POST", path: "/api/show", dialect: "ollama" },
  ollamaVersion: { method: "GET", path: "/api/version", dialect: "ollama" },
} as const satisfies Record<string, RouteSpec>;

/** `rbee-hive`, SPEC §6. */
export const HIVE_ROUTES = {
  ...OPEN_HEALTH_ROUTES,
  v1Health: { method: "GET", path: "/v1/health" },
  capabilities: { method: "GET", path: "/v1/capabilities" },
  download: { method: "POST", path: "/v1/models/download" },
  downloadProgress: { method: "GET", path: "/v1/models/download/progress" },
  cancelDownload: { method: "DELETE", path: "/v1/models/download/:id" },
  models: { method: "GET", path: "/v1/models" },
  offer: { method: "GET", path: "/v1/models/offer" },
  blob: { method: "GET", path: "/v1/models/blobs/:digest" },
  verifyModel: { method: "POST", path: "/v1/models/verify" },
  pruneModels: { method: "POST", path: "/v1/models/prune" },
  deleteModel: { method: "DELETE", path: "/v1/models/:ref" },
  spawn: { method: "POST", path: "/v1/workers/spawn" },
  ready: { method: "POST", path: "/v1/workers/ready", auth: "token" },
  workers: { method: "GET", path: "/v1/workers/list" },
  worker: { method: "GET", path: "/v1/workers/:id" },
  logs: { method: "GET", path: "/v1/logs" },
  events: { method: "GET", path: "/v1/events" },
  shutdownWorker: { method: "POST", path: "/v1/workers/:id/shutdown" },
  metrics: { method: "GET", path: "/metrics" },
  openapi: OPENAPI_ROUTE,
} as const satisfies Record<string, RouteSpec>;

const OPERATORS: readonly Right[] = ["operator"];
const HIVES: readonly Right[] = ["hive"];
const CLIENTS: readonly Right[] = ["client"];
/** What tells nothing of what others do. */
const ASKERS: readonly Right[] = ["operator", "client"];

/** `queen-rbee`, SPEC §9; beside these {@linkcode FRONT_DOOR_ROUTES} and {@linkcode NODE_ROUTES}. */
export const QUEEN_ROUTES = {
  ...OPEN_HEALTH_ROUTES,
  v1Health: { method: "GET", path: "/v1/health", rights: RIGHTS },
  heartbeat: { method: "POST", path: "/v2/hives/heartbeat", body: "tokens", rights: HIVES },
  addNode: { method: "POST", path: "/v2/registry/beehives/add", rights: OPERATORS },
  nodes: { method: "GET", path: "/v2/registry/beehives/list", rights: OPERATORS },
  removeNode: { method: "POST", path: "/v2/registry/beehives/remove", rights: OPERATORS },
  installNode: { method: "POST", path: "/v2/registry/beehives/install", rights: OPERATORS },
  startNode: { method: "POST", path: "/v2/registry/beehives/start", rights: OPERATORS },
  stopNode: { method: "POST", path: "/v2/registry/beehives/stop", rights: OPERATORS },
  cordonNode: { method: "POST", path: "/v2/registry/beehives/cordon", rights: OPERATORS },
  uncordonNode: { method: "POST", path: "/v2/registry/beehives/uncordon", rights: OPERATORS },
  drainNode: { method: "POST", path: "/v2/registry/beehives/drain", rights: OPERATORS },
  labelNode: { method: "POST", path: "/v2/registry/beehives/label", rights: OPERATORS },
  workers: { method: "GET", path: "/v2/workers", rights: OPERATORS },
  submit: { method: "POST", path: "/v2/tasks", body: "prompt", rights: CLIENTS },
  task: { method: "GET", path: "/v2/tasks/:id", rights: CLIENTS },
  taskEvents: { method: "GET", path: "/v2/tasks/:id/events", rights: CLIENTS },
  cancelTask: { method: "DELETE", path: "/v2/tasks/:id", rights: CLIENTS },
  explain: { method: "GET", path: "/v2/explain", rights: ASKERS },
  requests: { method: "GET", path: "/v2/requests", rights: ASKERS },
  cancelRequest: { method: "DELETE", path: "/v2/requests/:id", rights: ASKERS },
  clusterModels: { method: "GET", path: "/v2/models", rights: OPERATORS },
  keys: { method: "GET", path: "/v2/keys" },
  addKey: { method: "POST", path: "/v2/keys" },
  changeKey: { method: "POST", path: "/v2/keys/:name" },
  rotateKey: { method: "POST", path: "/v2/keys/:name/rotate" },
  removeKey: { method: "DELETE", path: "/v2/keys/:name" },
  usage: { method: "GET", path: "/v2/usage" },
  reloadConfig: { method: "POST", path: "/v2/config/reload" },
  metrics: { method: "GET", path: "/metrics", rights: OPERATORS },
  openapi: OPENAPI_ROUTE,
} as const satisfies Record<string, RouteSpec>;

const onNode = <Route extends RouteSpec>(route: Route) => ({
  ...route,
  path: route.path.replace(/^\/v1/, "/v2/nodes/:node"),
  rights: OPERATORS,
});

/** What a queen has the hive of one machine do, each under the name of the hive's own route. */
export const NODE_ROUTES = {
  v1Health: onNode(HIVE_ROUTES.v1Health),
  capabilities: onNode(HIVE_ROUTES.capabilities),
  download: onNode(HIVE_ROUTES.download),
  downloadProgress: onNode(HIVE_ROUTES.downloadProgress),
  cancelDownload: onNode(HIVE_ROUTES.cancelDownload),
  models: onNode(HIVE_ROUTES.models),
  verifyModel: onNode(HIVE_ROUTES.verifyModel),
  pruneModels: onNode(HIVE_ROUTES.pruneModels),
  deleteModel: onNode(HIVE_ROUTES.deleteModel),
  spawn: onNode(HIVE_ROUTES.spawn),
  workers: onNode(HIVE_ROUTES.workers),
  worker: onNode(HIVE_ROUTES.worker),
  logs: onNode(HIVE_ROUTES.logs),
  shutdownWorker: onNode(HIVE_ROUTES.shutdownWorker),
} as const satisfies Record<string, RouteSpec>;

const client = <Route extends RouteSpec>(route: Route) => ({ ...route, rights: CLIENTS });
const asker = <Route extends RouteSpec>(route: Route) => ({ ...route, rights: ASKERS });

/** What clients of others call on a queen: the same as on a worker, for every model of the cluster. */
export const FRONT_DOOR_ROUTES = {
  models: asker(FOREIGN_ROUTES.models),
  model: asker(FOREIGN_ROUTES.model),
  chatCompletions: client(FOREIGN_ROUTES.chatCompletions),
  completions: client(FOREIGN_ROUTES.completions),
  responses: client(FOREIGN_ROUTES.responses),
  messages: client(FOREIGN_ROUTES.messages),
  embeddings: client(FOREIGN_ROUTES.embeddings),
  tokenEmbeddings: client(FOREIGN_ROUTES.tokenEmbeddings),
  rerank: client(FOREIGN_ROUTES.rerank),
  tokenize: client(FOREIGN_ROUTES.tokenize),
  detokenize: client(FOREIGN_ROUTES.detokenize),
  applyTemplate: client(FOREIGN_ROUTES.applyTemplate),
  countTokens: client(FOREIGN_ROUTES.countTokens),
} as const satisfies Record<string, RouteSpec>;

/**
 * A route's path with its parameters filled in and escaped.
 *
 * @throws {RbeeError} `INVALID_REQUEST` for a value that no escape keeps inside its segment: nothing, `.` or `..`
 * (also as `%2E`, an URL parser would climb), or half a character.
 */
export function routePath(route: RouteSpec, params: Record<string, string> = {}): string {
  return route.path.replace(/:([a-z_]+)/g, (_, name: string) => {
    const value = params[name] ?? "";
    if (["", ".", ".."].includes(value) || !value.isWellFormed()) {
      throw new RbeeError("INVALID_REQUEST", `${name} may not be "${printable(value)}".`);
    }
    return encodeURIComponent(value);
  });
}
