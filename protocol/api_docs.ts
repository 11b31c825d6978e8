/** What every route takes and gives: the source of each daemon's `/openapi.json`. Loaded only when that is asked for. */
import * as z from "zod";
import { CountTokensRequest, MessagesRequest } from "./anthropic_schemas.ts";
import * as hive from "./hive_schemas.ts";
import {
  OllamaChatRequest,
  OllamaEmbedRequest,
  OllamaGenerateRequest,
  OllamaShowRequest,
} from "./ollama_schemas.ts";
import * as keys from "./key_schemas.ts";
import * as openai from "./openai_schemas.ts";
import { type ApiDescription, openApiDocument, type RouteDoc } from "./openapi.ts";
import * as queen from "./queen_schemas.ts";
import { RelayRequest } from "./relay_schemas.ts";
import { RequestsQuery, RequestsResponse } from "./request_schemas.ts";
import { ResponsesRequest } from "./responses_schemas.ts";
import {
  FOREIGN_ROUTES,
  FRONT_DOOR_ROUTES,
  HIVE_ROUTES,
  NODE_ROUTES,
  type OPEN_HEALTH_ROUTES,
  QUEEN_ROUTES,
  type RouteSpec,
  WORKER_ROUTES,
} from "./routes.ts";
import { SpawnRequest } from "./spawn_request.ts";
import * as requests from "./worker_requests.ts";
import * as worker from "./worker_schemas.ts";

type Docs<Routes> = { [Name in keyof Routes]: RouteDoc };

const METRICS: RouteDoc = { summary: "Metrics.", bytes: { answer: "text/plain" } };
const OPENAPI: RouteDoc = { summary: "This document.", answer: z.looseObject({ openapi: z.string() }) };
const Readiness = z.object({ ready: z.boolean(), reason: z.string().optional() });

const HEALTH: Docs<typeof OPEN_HEALTH_ROUTES> = {
  health: { summary: "Whether it is alive.", answer: worker.HealthResponse },
  live: { summary: "Whether it is alive.", answer: worker.HealthResponse },
  readiness: { summary: "Whether it can work; 503 when not.", answer: Readiness },
};

/** Their answers are told by those who own the interfaces. */
const AsTheirs = z.looseObject({});

const FOREIGN: Docs<typeof FOREIGN_ROUTES> = {
  models: { summary: "The models.", answer: AsTheirs },
  model: { summary: "One model.", answer: AsTheirs },
  chatCompletions: {
    summary: "OpenAI's chat completions.",
    body: openai.ChatCompletionRequest,
    answer: AsTheirs,
    events: AsTheirs,
  },
  completions: {
    summary: "OpenAI's completions.",
    body: openai.CompletionRequest,
    answer: AsTheirs,
    events: AsTheirs,
  },
  responses: {
    summary: "OpenAI's responses; none is kept.",
    body: ResponsesRequest,
    answer: AsTheirs,
    events: AsTheirs,
  },
  embeddings: { summary: "OpenAI's embeddings.", body: openai.EmbeddingsRequest, answer: AsTheirs },
  tokenEmbeddings: {
    summary: "Embeddings in llama-server's shape: also one for each token, where none are pooled.",
    body: openai.EmbeddingsRequest,
    answer: z.array(z.object({ index: z.int(), embedding: z.array(z.array(z.number())) })),
  },
  rerank: {
    summary: "Documents by how well they answer a query.",
    body: openai.RerankRequest,
    answer: AsTheirs,
  },
  tokenize: { summary: "Text to token ids.", body: openai.TokenizeRequest, answer: AsTheirs },
  detokenize: { summary: "Token ids to text.", body: openai.DetokenizeRequest, answer: AsTheirs },
  applyTemplate: {
    summary: "A conversation as the model's chat template renders it.",
    body: openai.ChatCompletionRequest,
    answer: z.object({ prompt: z.string() }),
  },
  messages: { summary: "Anthropic's messages.", body: MessagesRequest, answer: AsTheirs, events: AsTheirs },
  countTokens: {
    summary: "How many tokens Anthropic's messages have.",
    body: CountTokensRequest,
    answer: z.object({ input_tokens: z.int() }),
  },
  ollamaChat: { summary: "Ollama's chat; streams lines of JSON.", body: OllamaChatRequest, answer: AsTheirs },
  ollamaGenerate: {
    summary: "Ollama's generate; streams lines of JSON.",
    body: OllamaGenerateRequest,
    answer: AsTheirs,
  },
  ollamaEmbed: { summary: "Ollama's embeddings.", body: OllamaEmbedRequest, answer: AsTheirs },
  ollamaTags: { summary: "The models, in Ollama's shape.", answer: AsTheirs },
  ollamaShow: { summary: "One model, in Ollama's shape.", body: OllamaShowRequest, answer: AsTheirs },
  ollamaVersion: { summary: "rbee's version.", answer: z.object({ version: z.string() }) },
};

const WORKER: Docs<typeof WORKER_ROUTES> = {
  ...HEALTH,
  v1Health: { summary: "Whether it is alive.", answer: worker.HealthResponse },
  ready: {
    summary: "Whether the model is loaded, and how many slots are free.",
    query: z.object({ blocks: z.string().optional() }),
    answer: worker.ReadyResponse,
  },
  loadingProgress: { summary: "How far the load is.", events: worker.LoadingEvent },
  inference: {
    summary: "Generates text.",
    body: requests.InferenceRequest,
    answer: worker.InferenceResponse,
    events: worker.InferenceEvent,
  },
  execute: {
    summary: "The same under its older name.",
    body: requests.InferenceRequest,
    answer: worker.InferenceResponse,
    events: worker.InferenceEvent,
  },
  cancel: { summary: "Stops an answer; idempotent.", status: 204 },
  export: {
    summary: "A running answer, for another worker to go on with.",
    body: requests.ExportRequest,
    bytes: { answer: "application/octet-stream" },
  },
  resume: {
    summary: "Goes on with what another worker exported.",
    bytes: { body: "application/octet-stream" },
    events: worker.InferenceEvent,
  },
  relay: {
    summary: "Another route's answer, with marks from which it can be gone on with elsewhere.",
    body: RelayRequest,
    events: z.unknown(),
  },
  cancelAlias: {
    summary: "Stops an answer; idempotent.",
    body: requests.CancelRequest,
    answer: requests.CancelRequest,
    status: 202,
  },
  shutdown: {
    summary: "Takes no more requests, ends those that run, leaves.",
    body: requests.ShutdownRequest,
    answer: worker.ShutdownResponse,
  },
  selfTest: {
    summary: "Generates one token, if nothing else does.",
    body: requests.SelfTestRequest,
    answer: worker.SelfTestResponse,
  },
  metrics: METRICS,
  openapi: OPENAPI,
};

const HIVE: Docs<typeof HIVE_ROUTES> = {
  ...HEALTH,
  v1Health: { summary: "Whether it is alive.", answer: worker.HealthResponse },
  capabilities: { summary: "Backends, devices, memory, disk.", answer: hive.CapabilitiesResponse },
  download: {
    summary: "Fetches a model; 202 for a download, 200 where it is there.",
    body: hive.DownloadRequest,
    answer: hive.DownloadResponse,
    status: 202,
  },
  downloadProgress: {
    summary: "How far a download is.",
    query: z.object({ id: z.string() }),
    events: hive.DownloadEvent,
  },
  cancelDownload: {
    summary: "Stops a download that nobody else follows; what was fetched is kept.",
    answer: hive.CancelDownloadResponse,
  },
  models: { summary: "The catalog.", answer: hive.ModelsResponse },
  offer: {
    summary: "What another hive may take of a model.",
    query: hive.DownloadRequest,
    answer: hive.ModelOffer,
  },
  blob: { summary: "A file of a model, for another hive.", bytes: { answer: "application/octet-stream" } },
  verifyModel: { summary: "Hashes a model's files.", body: hive.VerifyRequest, events: hive.VerifyEvent },
  pruneModels: { summary: "Removes what nobody used.", body: hive.PruneRequest, answer: hive.PruneResponse },
  deleteModel: { summary: "Removes a model that is not in use.", status: 204 },
  spawn: {
    summary: "Starts a worker; 202 for a new one, 200 for one that was there.",
    body: SpawnRequest,
    answer: hive.SpawnResponse,
    status: 202,
  },
  ready: { summary: "A worker's own report.", body: hive.ReadyCallback, status: 204 },
  workers: { summary: "The workers.", answer: hive.WorkersResponse },
  worker: { summary: "One worker.", answer: hive.WorkerInfo },
  logs: {
    summary: "Lines of logs, as they come where `follow` is true.",
    query: hive.LogsQuery,
    answer: hive.LogsResponse,
    events: hive.LogLine,
  },
  events: { summary: "Everything that happens.", events: hive.HiveEvent },
  shutdownWorker: { summary: "Stops a worker.", status: 204 },
  metrics: METRICS,
  openapi: OPENAPI,
};

const QUEEN: Docs<typeof QUEEN_ROUTES> = {
  ...HEALTH,
  v1Health: { summary: "Whether it is alive.", answer: worker.HealthResponse },
  heartbeat: { summary: "A hive's report.", body: queen.Heartbeat, answer: queen.HeartbeatResponse },
  addNode: { summary: "Adds a machine, or changes it.", body: queen.AddNodeRequest, answer: queen.NodeInfo },
  nodes: { summary: "The machines.", answer: queen.NodesResponse },
  removeNode: { summary: "Forgets a machine.", body: queen.NodeRequest, status: 204 },
  installNode: {
    summary: "Puts the queen's own version of rbee on a machine over ssh; its hive is not started.",
    body: queen.NodeRequest,
    answer: queen.NodeInfo,
  },
  startNode: {
    summary:
      "Has a machine's hive run and report here, now and from now on; over ssh unless it does already.",
    body: queen.NodeRequest,
    answer: queen.NodeInfo,
  },
  stopNode: { summary: "Stops a machine's hive over ssh.", body: queen.NodeRequest, answer: queen.NodeInfo },
  cordonNode: {
    summary: "Sends nothing new to a machine; what runs there goes on.",
    body: queen.NodeRequest,
    answer: queen.NodeInfo,
  },
  uncordonNode: {
    summary: "Sends work to a machine again.",
    body: queen.NodeRequest,
    answer: queen.NodeInfo,
  },
  drainNode: {
    summary:
      "Sends nothing new to a machine, waits until its answers have ended or the time for that has, and stops its workers.",
    body: queen.DrainNodeRequest,
    answer: queen.NodeInfo,
  },
  labelNode: {
    summary: "Adds labels to a machine and takes others off.",
    body: queen.LabelNodeRequest,
    answer: queen.NodeInfo,
  },
  workers: { summary: "The workers of all machines.", answer: queen.ClusterWorkersResponse },
  submit: {
    summary: "Takes work in; with `stream` the answer is its events.",
    body: queen.TaskRequest,
    answer: queen.TaskReceipt,
    events: queen.TaskEvent,
    status: 202,
  },
  task: { summary: "How a task is.", answer: queen.TaskInfo },
  taskEvents: { summary: "A task's events, from `Last-Event-ID` on.", events: queen.TaskEvent },
  cancelTask: { summary: "Ends a task; idempotent.", status: 204 },
  explain: {
    summary: "What would happen to a request for a model, and why not elsewhere.",
    query: queen.ExplainQuery,
    answer: queen.ExplainResponse,
  },
  requests: {
    summary: "The requests that wait or run, without what they ask; a client's key sees its own.",
    query: RequestsQuery,
    answer: RequestsResponse,
  },
  cancelRequest: {
    summary: "Cancels a waiting or running request. Its client gets REQUEST_CANCELED.",
    status: 204,
  },
  clusterModels: {
    summary: "The models of all machines, and which of them lies where.",
    query: queen.ClusterModelsQuery,
    answer: queen.ClusterModelsResponse,
  },
  keys: { summary: "The keys, without their secrets.", answer: keys.KeysResponse },
  addKey: {
    summary: "Makes a key; this answer alone tells it.",
    body: keys.AddKeyRequest,
    answer: keys.NewKeyResponse,
    status: 201,
  },
  changeKey: {
    summary: "Changes what a key may have; what is absent stays, and `null` takes a limit off.",
    body: keys.ChangeKeyRequest,
    answer: keys.KeyInfo,
  },
  rotateKey: {
    summary: "Gives a key a new secret, which this answer alone tells; the old one is void at once.",
    answer: keys.NewKeyResponse,
  },
  removeKey: {
    summary: "Removes a key, and ends what runs or waits in its name with INVALID_API_KEY.",
    status: 204,
  },
  usage: {
    summary: "What keys have used, by day and model.",
    query: keys.UsageQuery,
    answer: keys.UsageResponse,
  },
  reloadConfig: {
    summary: "Reads the configuration again; a faulty one changes nothing.",
    answer: keys.ReloadResponse,
  },
  metrics: METRICS,
  openapi: OPENAPI,
};

/** As of the hive's own routes, but for the key of a worker: that is nobody's but its hive's and the queen's. */
const NODE: Docs<typeof NODE_ROUTES> = {
  ...HIVE,
  spawn: { ...HIVE.spawn, answer: hive.SpawnResponse.omit({ api_key: true }) },
};

/** The documents, by part. */
export const API_DOCUMENTS = {
  worker: () =>
    openApiDocument({
      title: "llm-worker-rbee",
      description: "One model in memory.",
      routes: [...together(WORKER_ROUTES, WORKER), ...together(FOREIGN_ROUTES, FOREIGN)],
    }),
  hive: () =>
    openApiDocument({
      title: "rbee-hive",
      description: "One machine: its models and workers.",
      routes: together(HIVE_ROUTES, HIVE),
    }),
  queen: () =>
    openApiDocument({
      title: "queen-rbee",
      description: "All machines of a cluster as one.",
      routes: [
        ...together(QUEEN_ROUTES, QUEEN),
        ...together(NODE_ROUTES, NODE),
        ...together(FRONT_DOOR_ROUTES, FOREIGN),
      ],
    }),
} as const;

function together<Routes extends Record<string, RouteSpec>>(
  specs: Routes,
  docs: Docs<Routes>,
): ApiDescription["routes"] {
  return Object.keys(specs).map((name) => [specs[name], docs[name]] as const);
}
