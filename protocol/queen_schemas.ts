/** Bodies and events of `queen-rbee` (SPEC §9). Requests reject unknown fields; answers are read leniently. */
import * as z from "zod";
import { ErrorBodySchema } from "./errors.ts";
import { Device, WorkerState } from "./hive_schemas.ts";
import { InstallPath } from "./install_path.ts";
import { ModelRefText } from "./model_ref.ts";
import { NodeName } from "./node_name.ts";
import { Priority } from "./priority.ts";
import { BackendName } from "./spawn_request.ts";
import { askedOnce, AskedText } from "./worker_requests.ts";
import { InferenceStats, TokenEvent } from "./worker_schemas.ts";

const MAX_WORKERS = 256;
const MAX_DEVICES = 64;
const MAX_MODELS = 10_000;
const MAX_BLOCK_CHARS = 4 * 1024 * 1024;
/** Most characters of why a worker failed. */
export const MAX_FAILURE_CHARS = 1_024;
const Mb = z.number().min(0).max(1e12);

/** A worker, as its hive reports it. */
export const ReportedWorker = z.strictObject({
  worker_id: z.string().min(1).max(64),
  url: z.string().max(512),
  /** The worker's own key. */
  api_key: z.string().max(4096),
  model_ref: z.string().max(512),
  backend: BackendName,
  device: z.int().min(0),
  state: WorkerState,
  slots_total: z.int().min(0),
  slots_available: z.int().min(0),
  pinned: z.boolean(),
  memory_mb: Mb,
  last_activity_unix: z.int(),
  /** Tokens of one slot, once it is loaded. */
  context: z.int().optional(),
  /** Whether it makes embeddings and nothing else, once it is loaded. */
  embeds: z.boolean().optional(),
  /** What its slots hold, see `prefix_blocks.ts`. Absent: as it was last reported. */
  blocks: z.string().max(MAX_BLOCK_CHARS).optional(),
  /** Why it failed; only in state `failed`. */
  failure: z.string().max(MAX_FAILURE_CHARS).optional(),
});
/** See {@linkcode ReportedWorker}. */
export type ReportedWorker = z.infer<typeof ReportedWorker>;

/** `POST /v2/hives/heartbeat`. What is absent is as it was in the last one that was taken. */
export const Heartbeat = z.strictObject({
  node_name: NodeName,
  /** Another one when the hive was started anew. */
  instance: z.string().min(1).max(64),
  hive_url: z.url({ protocol: /^https?$/ }).max(512),
  /** The hive's own key: the queen calls it. */
  api_key: z.string().max(4096),
  version: z.string().max(64),
  memory: z.strictObject({ total_mb: Mb, free_mb: Mb, reserve_mb: Mb }),
  /** Processor cores, and the load average over a minute. */
  cpu: z.strictObject({ cores: z.int().min(1).max(65_536), load: z.number().min(0) }).optional(),
  workers: z.array(ReportedWorker).max(MAX_WORKERS),
  devices: z.array(Device).max(MAX_DEVICES).optional(),
  models: z.array(z.strictObject({ model_ref: z.string().max(512), size_bytes: z.number().min(0) }))
    .max(MAX_MODELS).optional(),
  /** It leaves: nothing more will come. */
  leaving: z.boolean().default(false),
});
/** A checked report. */
export type Heartbeat = z.infer<typeof Heartbeat>;
/** A report as a hive writes it. */
export type HeartbeatInput = z.input<typeof Heartbeat>;
/** Its answer. `complete: false`: something was absent that this queen never had; report all. */
export const HeartbeatResponse = z.object({ complete: z.boolean() });

const MAX_JOB_SECONDS = 1_800;

/** `POST /v2/tasks`. */
export const TaskRequest = askedOnce(AskedText.extend({
  model: ModelRefText,
  /** Only there. */
  node: NodeName.optional(),
  backend: BackendName.optional(),
  device: z.int().min(0).max(255).optional(),
  /** Default: interactive, or the most urgent that its key may have. */
  priority: Priority.optional(),
  /** Requests of one session are sent where the last one went, while it can be. */
  session_id: z.string().regex(/^[A-Za-z0-9._:-]{1,128}$/, "must be 1 to 128 letters, digits or . _ : -")
    .optional(),
  /** Seconds from now until it must have ended; default: the queen's own limit. */
  timeout: z.number().min(0.001).max(MAX_JOB_SECONDS).optional(),
  /** Answers with the events instead of a receipt. */
  stream: z.boolean().default(false),
}));
/** A checked request. */
export type TaskRequest = z.infer<typeof TaskRequest>;
/** A request as a caller writes it. */
export type TaskInput = z.input<typeof TaskRequest>;

/** Where a task is in its life; the last three are ends. */
export const TaskStatus = z.enum(["queued", "running", "done", "failed", "canceled"]);
/** See {@linkcode TaskStatus}. */
export type TaskStatus = z.infer<typeof TaskStatus>;

/** Its answer. */
export const TaskReceipt = z.object({
  job_id: z.string(),
  status: TaskStatus,
  /** From 0; absent when it does not wait. */
  queue_position: z.int().optional(),
  eta_ms: z.number().optional(),
  events_url: z.string(),
});
/** See {@linkcode TaskReceipt}. */
export type TaskReceipt = z.infer<typeof TaskReceipt>;

/** `GET /v2/tasks/{id}`. */
export const TaskInfo = z.object({
  job_id: z.string(),
  status: TaskStatus,
  model: z.string(),
  priority: Priority,
  created_unix: z.number(),
  ended_unix: z.number().nullable(),
  /** Tokens that were generated so far. */
  tokens: z.int(),
  stats: InferenceStats.optional(),
  error: ErrorBodySchema.optional(),
});
/** See {@linkcode TaskInfo}. */
export type TaskInfo = z.infer<typeof TaskInfo>;

/** Progress of a load that a task waits for. */
export const LoadNews = z.object({
  node: z.string(),
  stage: z.enum(["downloading", "verifying", "retrying", "starting", "loading"]),
  bytes_downloaded: z.number().optional(),
  bytes_total: z.number().optional(),
  speed_mbps: z.number().optional(),
  eta_seconds: z.number().optional(),
  layers_loaded: z.int().optional(),
  layers_total: z.int().optional(),
});
/** See {@linkcode LoadNews}. */
export type LoadNews = z.infer<typeof LoadNews>;

/** The event's number, as its `id:` line has it: counted from 1. */
const Seq = z.int().optional();

/**
 * Events of a task. Those with an `id:` line can be asked for again with `Last-Event-ID`, in the same order and without
 * gaps; `queued` and `loading` are news of the moment and have none. `[DONE]` follows `end` and `error`.
 */
export const TaskEvent = z.discriminatedUnion("type", [
  z.object({ type: z.literal("queued"), position: z.int(), eta_ms: z.number().optional(), why: z.string() }),
  z.object({ type: z.literal("loading"), load: LoadNews }),
  /** It runs, or goes on, there. */
  z.object({
    type: z.literal("started"),
    worker_id: z.string(),
    node: z.string(),
    tokens: z.int(),
    seq: Seq,
  }),
  TokenEvent.extend({ type: z.literal("token"), seq: Seq }),
  z.object({ type: z.literal("end"), stats: InferenceStats, seq: Seq }),
  z.object({ type: z.literal("error"), error: ErrorBodySchema, seq: Seq }),
]);
/** See {@linkcode TaskEvent}. */
export type TaskEvent = z.infer<typeof TaskEvent>;

/** `POST /v2/registry/beehives/add`. */
export const AddNodeRequest = z.strictObject({
  node_name: NodeName,
  /** Where its hive answers, if it does already. */
  hive_url: z.url({ protocol: /^https?$/, error: "expected http://HOST:PORT" }).max(512).optional(),
  ssh_host: z.string().regex(/^[A-Za-z0-9[][A-Za-z0-9._:[\]-]{0,254}$/, "not a host name").optional(),
  ssh_port: z.int().min(1).max(65_535).default(22),
  ssh_user: z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/, "not a user name").optional(),
  /** Below the user's home folder unless absolute. */
  install_path: InstallPath.optional(),
});
/** A checked request. */
export type AddNodeRequest = z.infer<typeof AddNodeRequest>;
/** `POST /v2/registry/beehives/{remove,install,start,stop,cordon,uncordon}`. */
export const NodeRequest = z.strictObject({ node_name: NodeName });

/** Most seconds that a drain waits for answers, and how many when it does not say. */
const MAX_DRAIN_SECONDS = 3_600;
const DEFAULT_DRAIN_SECONDS = 300;

/** `POST /v2/registry/beehives/drain`. */
export const DrainNodeRequest = NodeRequest.extend({
  /** Seconds for its answers to end by themselves. */
  timeout: z.number().min(0).max(MAX_DRAIN_SECONDS).default(DEFAULT_DRAIN_SECONDS),
});

const MAX_LABELS = 64;
const Label = z.string().regex(
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
  "must be 1 to 64 letters, digits or . _ -",
);

/** `POST /v2/registry/beehives/label`. */
export const LabelNodeRequest = NodeRequest.extend({
  add: z.array(Label).max(MAX_LABELS).default([]),
  remove: z.array(Label).max(MAX_LABELS).default([]),
});
/** See {@linkcode LabelNodeRequest}. */
export type LabelNodeRequest = z.infer<typeof LabelNodeRequest>;

/** A machine of the cluster. */
export const NodeInfo = z.object({
  node_name: z.string(),
  ssh_host: z.string().nullable(),
  ssh_port: z.int(),
  ssh_user: z.string().nullable(),
  install_path: z.string().nullable(),
  hive_url: z.string().nullable(),
  last_connected_unix: z.int().nullable(),
  last_error: z.string().nullable(),
  status: z.enum(["unknown", "reachable", "unreachable"]),
  /** Whether its hive is heard of: lately, not for some heartbeats, not for many; null: never. */
  presence: z.enum(["up", "stale", "down"]).nullable(),
  backends: z.array(z.string()),
  devices: z.array(z.string()),
  workers: z.int(),
  /** Since when its presence is what it is; null: it was never heard of. */
  since_unix: z.int().nullable().default(null),
  /** Of its hive, as last reported. */
  version: z.string().nullable().default(null),
  /** RAM, as last reported. */
  memory: z.object({ total_mb: z.number(), free_mb: z.number(), reserve_mb: z.number() }).nullable()
    .default(null),
  /** Processor cores, and the load average over a minute, as last reported. */
  cpu: z.object({ cores: z.int(), load: z.number() }).nullable().default(null),
  slots_total: z.int().default(0),
  slots_busy: z.int().default(0),
  /** Loads that this queen has under way there. */
  loads: z.int().default(0),
  /** Nothing new goes there. */
  cordoned: z.boolean().default(false),
  labels: z.array(z.string()).default([]),
  /** What the queen brings about there by itself: that its hive runs, and a version of rbee that it installed. */
  wanted: z.object({ running: z.boolean(), version: z.string().nullable() })
    .default({ running: false, version: null }),
});
/** See {@linkcode NodeInfo}. */
export type NodeInfo = z.infer<typeof NodeInfo>;
/** `GET /v2/registry/beehives/list`. */
export const NodesResponse = z.object({ nodes: z.array(NodeInfo) });

/** A worker of the cluster, as the queen sees it. */
export const ClusterWorker = z.object({
  worker_id: z.string(),
  node: z.string(),
  url: z.string(),
  model_ref: z.string(),
  backend: BackendName,
  device: z.int(),
  state: z.enum(["loading", "ready", "leaving"]),
  slots_total: z.int(),
  slots_busy: z.int(),
  presence: z.enum(["up", "stale", "down"]),
});
/** `GET /v2/workers`. */
export const ClusterWorkersResponse = z.object({ workers: z.array(ClusterWorker) });

/** Query of `GET /v2/models`. */
export const ClusterModelsQuery = z.strictObject({
  /** Only this one. */
  model_ref: ModelRefText.optional(),
});
/** A model of the cluster, and the machines that have it. */
export const ClusterModel = z.object({
  model_ref: z.string(),
  /** Null: no machine has its files. */
  size_bytes: z.number().nullable(),
  nodes: z.array(z.object({
    node: z.string(),
    presence: z.enum(["up", "stale", "down"]),
    on_disk: z.boolean(),
    /** Of its workers there. */
    worker_ids: z.array(z.string()),
  })),
});
/** See {@linkcode ClusterModel}. */
export type ClusterModel = z.infer<typeof ClusterModel>;
/** `GET /v2/models`. */
export const ClusterModelsResponse = z.object({ models: z.array(ClusterModel) });

/** Query of `GET /v2/explain`. */
export const ExplainQuery = z.strictObject({
  model: ModelRefText,
  node: NodeName.optional(),
  backend: BackendName.optional(),
});
/** Its answer: what would happen to such a request now, and why not elsewhere. */
export const ExplainResponse = z.object({
  decision: z.enum(["run", "load", "wait", "never"]),
  why: z.string(),
  /** Where it would run or be loaded. */
  node: z.string().optional(),
  nodes: z.array(z.object({
    node: z.string(),
    verdict: z.enum(["serves", "busy", "loading", "fits", "fits after eviction", "no"]),
    why: z.string(),
    /** What would make it fit. */
    remedy: z.string().optional(),
  })),
});
/** See {@linkcode ExplainResponse}. */
export type ExplainResponse = z.infer<typeof ExplainResponse>;
