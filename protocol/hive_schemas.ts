/** Bodies and events of `rbee-hive` (SPEC §6). Requests reject unknown fields; answers are read leniently. */
import * as z from "zod";
import { ErrorBodySchema } from "./errors.ts";
import { ModelRefText } from "./model_ref.ts";
import { BackendName } from "./spawn_request.ts";
import { Sandbox } from "./worker_schemas.ts";

/** Something a model can run on. Memory in MB of 1,000,000 bytes. */
export const Device = z.object({
  backend: BackendName,
  /** What `--device` takes, counted within the backend. */
  index: z.int(),
  name: z.string(),
  description: z.string(),
  memory_total_mb: z.number(),
  memory_free_mb: z.number(),
});
/** See {@linkcode Device}. */
export type Device = z.infer<typeof Device>;

/** What a machine's kernel has to confine workers with. */
export const SandboxSupport = z.object({
  /** Version of landlock's interface; 0: there is none, or it is switched off. */
  landlock_abi: z.int(),
  seccomp: z.boolean(),
});
/** See {@linkcode SandboxSupport}. */
export type SandboxSupport = z.infer<typeof SandboxSupport>;

/** What the last load of a model with these options was expected to take, and took. */
export const PastLoad = z.object({
  model_ref: z.string(),
  backend: BackendName,
  slots: z.int(),
  ctx_size: z.int(),
  predicted_mb: z.number(),
  actual_mb: z.number(),
  last_unix: z.int(),
});
/** See {@linkcode PastLoad}. */
export type PastLoad = z.infer<typeof PastLoad>;

/** `GET /v1/capabilities`. */
export const CapabilitiesResponse = z.object({
  backends: z.array(BackendName),
  devices: z.array(Device),
  /** `reserve_mb` of it stays free for other programs. */
  memory: z.object({ total_mb: z.number(), free_mb: z.number(), reserve_mb: z.number().default(0) }),
  /** Logical cores; load averages over 1, 5 and 15 minutes, zeros where the system has none. */
  cpu: z.object({ cores: z.int(), load_average: z.tuple([z.number(), z.number(), z.number()]) }).optional(),
  disk: z.object({ models_dir: z.string(), total_mb: z.number(), free_mb: z.number() }),
  /** Absent from older hives. */
  sandbox: SandboxSupport.optional(),
  limits: z.object({
    worker_ports: z.tuple([z.int(), z.int()]),
    idle_timeout_seconds: z.number(),
    max_slots: z.int(),
    /**
     * Memory of workers: what each may take beyond its plan, whether the hive watches it, and whether the kernel limits
     * it as well; if not, why.
     */
    worker_memory: z.object({
      margin_mb: z.number(),
      watched: z.boolean(),
      by_kernel: z.boolean(),
      why_not: z.string().optional(),
    }).optional(),
  }),
  /** The latest first. */
  loads: z.array(PastLoad).default([]),
  versions: z.object({ rbee: z.string(), api: z.string(), deno: z.string(), llama_cpp: z.string() }),
});
/** See {@linkcode CapabilitiesResponse}. */
export type CapabilitiesResponse = z.infer<typeof CapabilitiesResponse>;

/** `POST /v1/models/download`. */
export const DownloadRequest = z.strictObject({ model_ref: ModelRefText });
/** Its answer: 200 with `cached` and a path, or 202 with the id of a running download. */
export const DownloadResponse = z.union([
  z.object({ download_id: z.literal("cached"), local_path: z.string() }),
  z.object({ download_id: z.string() }),
]);
/** See {@linkcode DownloadResponse}. */
export type DownloadResponse = z.infer<typeof DownloadResponse>;

/** `DELETE /v1/models/download/:id`. */
export const CancelDownloadResponse = z.object({
  /** False: more than one follow it, and it goes on for the others. */
  canceled: z.boolean(),
});
/** See {@linkcode CancelDownloadResponse}. */
export type CancelDownloadResponse = z.infer<typeof CancelDownloadResponse>;

/** Events of `GET /v1/models/download/progress`; `[DONE]` after `complete` or `error`. */
export const DownloadEvent = z.discriminatedUnion("stage", [
  z.object({
    stage: z.literal("downloading"),
    bytes_downloaded: z.number(),
    bytes_total: z.number(),
    /** MB/s, smoothed. */
    speed_mbps: z.number(),
    /** Absent while the speed is not known. */
    eta_seconds: z.number().optional(),
  }),
  z.object({
    stage: z.literal("retrying"),
    attempt: z.int(),
    max_attempts: z.int(),
    delay_ms: z.number(),
    reason: z.string(),
  }),
  z.object({ stage: z.literal("verifying") }),
  z.object({ stage: z.literal("complete"), local_path: z.string() }),
  z.object({ stage: z.literal("error"), error: ErrorBodySchema }),
]);
/** See {@linkcode DownloadEvent}. */
export type DownloadEvent = z.infer<typeof DownloadEvent>;

const MAX_OFFERED_FILES = 1_000;
const MAX_OFFERED_PATH_CHARS = 512;

/** A row of the catalog. */
export const CatalogModel = z.object({
  id: z.string(),
  provider: z.enum(["hf", "file", "builtin"]),
  reference: z.string(),
  revision: z.string().nullable(),
  local_path: z.string(),
  size_bytes: z.number(),
  sha256: z.string().nullable(),
  downloaded_at_unix: z.int(),
  /** Paths of the repository's multimodal projectors, which are not fetched. */
  companions: z.array(z.string()).default([]),
  /** When a worker last began or ended with it; null: never. */
  last_used_at_unix: z.int().nullable().default(null),
  /** When its files last had the digests they should; null: not asked for since they came. */
  verified_at_unix: z.int().nullable().default(null),
});
/** See {@linkcode CatalogModel}. */
export type CatalogModel = z.infer<typeof CatalogModel>;

/** A row of the catalog, and how its files are at this moment. */
export const ListedModel = CatalogModel.extend({
  /** Whether a worker has them. */
  in_use: z.boolean(),
  /** Why they can't be looked at; absent: they can. */
  unreachable: z.string().optional(),
});
/** See {@linkcode ListedModel}. */
export type ListedModel = z.infer<typeof ListedModel>;

/** `GET /v1/models`. */
export const ModelsResponse = z.object({ models: z.array(ListedModel) });

/** `POST /v1/models/verify`. */
export const VerifyRequest = z.strictObject({ model_ref: ModelRefText });
/** Events of its answer; `[DONE]` after `verified` or `error`. */
export const VerifyEvent = z.discriminatedUnion("stage", [
  z.object({ stage: z.literal("verifying"), bytes_done: z.number(), bytes_total: z.number() }),
  z.object({
    stage: z.literal("verified"),
    /** Of a model that is one file; else null. */
    sha256: z.string().nullable(),
    files: z.array(z.object({
      path: z.string(),
      size_bytes: z.number(),
      algorithm: z.enum(["sha256", "git-sha1"]),
      digest: z.string(),
      /** There was nothing to compare with yet: this digest is what the next time compares with. */
      recorded: z.boolean(),
    })),
  }),
  z.object({ stage: z.literal("error"), error: ErrorBodySchema }),
]);
/** See {@linkcode VerifyEvent}. */
export type VerifyEvent = z.infer<typeof VerifyEvent>;

const MAX_KEEP_GB = 1_000_000;

/** `POST /v1/models/prune`: removes hub models, least recently used first, until the rest fit. */
export const PruneRequest = z.strictObject({
  /** What hub models may take together, in GB of 1,000,000,000 bytes. */
  keep_gb: z.number().min(0).max(MAX_KEEP_GB),
  /** Only say what would be removed. */
  dry_run: z.boolean().default(false),
});
/** A checked request. */
export type PruneRequest = z.infer<typeof PruneRequest>;
/** A request as a caller writes it. */
export type PruneInput = z.input<typeof PruneRequest>;
/** Its answer. */
export const PruneResponse = z.object({
  /** In the order of removal. */
  removed: z.array(z.object({
    reference: z.string(),
    /** Other references to the same files: they went along. */
    also: z.array(z.string()),
    size_bytes: z.number(),
    last_used_at_unix: z.int().nullable(),
  })),
  /** Hub models that are left. */
  kept_bytes: z.number(),
  /** Of the removed models. */
  freed_bytes: z.number(),
  /** Of the downloads that were removed unfinished; on the disk, not as planned. */
  partial_bytes: z.number(),
});
/** See {@linkcode PruneResponse}. */
export type PruneResponse = z.infer<typeof PruneResponse>;

/** `GET /v1/models/offer?model_ref=`: what a hive tells another one of a model that it has. */
export const ModelOffer = z.object({
  repo: z.string().max(256),
  revision: z.string().max(256),
  commit: z.string().regex(/^[0-9a-f]{40}$/),
  files: z.array(z.object({
    path: z.string().max(MAX_OFFERED_PATH_CHARS),
    size: z.int().min(1),
    digest: z.object({
      algorithm: z.enum(["sha256", "git-sha1"]),
      hex: z.string().regex(/^[0-9a-f]{40}([0-9a-f]{24})?$/),
    }),
  })).min(1).max(MAX_OFFERED_FILES),
  companions: z.array(z.string().max(MAX_OFFERED_PATH_CHARS)).max(MAX_OFFERED_FILES).default([]),
});
/** See {@linkcode ModelOffer}. */
export type ModelOffer = z.infer<typeof ModelOffer>;

/** 202 for a new worker, 200 with `reused: true` for one that was there. */
export const SpawnResponse = z.object({
  worker_id: z.string(),
  url: z.string(),
  state: z.string(),
  /** The worker's own key. */
  api_key: z.string(),
  backend: BackendName,
  device: z.int(),
  reused: z.boolean(),
  /** Idle workers that left to make room for this one. */
  evicted: z.array(z.object({
    worker_id: z.string(),
    model_ref: z.string(),
    frees_mb: z.number(),
    idle_seconds: z.number(),
  })).default([]),
});
/** See {@linkcode SpawnResponse}. */
export type SpawnResponse = z.infer<typeof SpawnResponse>;

/** `POST /v1/workers/ready`, the worker's callback; its bearer is the one-time token the hive gave it. */
export const ReadyCallback = z.strictObject({
  worker_id: z.string().min(1).max(64),
  url: z.url({ protocol: /^http$/ }),
  model_ref: z.string(),
  backend: BackendName,
  device: z.int(),
  pid: z.int(),
});
/** See {@linkcode ReadyCallback}. */
export type ReadyCallback = z.infer<typeof ReadyCallback>;

/** The states of a worker as its hive sees it. */
export const WorkerState = z.enum(["starting", "loading", "idle", "busy", "draining", "failed", "gone"]);
/** See {@linkcode WorkerState}. */
export type WorkerState = z.infer<typeof WorkerState>;

/** A worker as its hive lists it. */
export const WorkerInfo = z.object({
  worker_id: z.string(),
  url: z.string(),
  model_ref: z.string(),
  backend: BackendName,
  device: z.int(),
  state: WorkerState,
  slots_total: z.int(),
  slots_available: z.int(),
  pid: z.int(),
  started_unix: z.int(),
  last_activity_unix: z.int(),
  last_health_unix: z.int(),
  /** Never evicted. */
  pinned: z.boolean().optional(),
  /** Seconds without a request until it goes; 0 = never. */
  idle_timeout_seconds: z.number().optional(),
  /**
   * What it was expected to take; what it takes as last known, null until it is loaded; and the RAM of its own, that no
   * file stands behind, that it may hold.
   */
  memory: z.object({
    predicted_mb: z.number(),
    actual_mb: z.number().nullable(),
    limit_mb: z.number().optional(),
  }).optional(),
  /** How its process is confined; absent until it is loaded. */
  sandbox: Sandbox.optional(),
  /** Why it failed; only in state `failed`. */
  error: ErrorBodySchema.optional(),
});
/** See {@linkcode WorkerInfo}. */
export type WorkerInfo = z.infer<typeof WorkerInfo>;

/** `GET /v1/workers/list`. */
export const WorkersResponse = z.object({ workers: z.array(WorkerInfo) });

/** Events of `GET /v1/events`. First comes the present state of each worker, then all that happens. */
export const HiveEvent = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("worker"),
    worker_id: z.string(),
    model_ref: z.string(),
    what: z.enum(["started", "adopted", "state", "loaded", "measured", "leaving", "exited"]),
    state: WorkerState,
    /** Why it leaves or left. */
    reason: z.string().optional(),
    exit_code: z.int().nullable().optional(),
    signal: z.string().nullable().optional(),
    load_ms: z.number().optional(),
    /** Memory that it takes. */
    actual_mb: z.number().optional(),
  }),
  z.object({
    kind: z.literal("download"),
    download_id: z.string(),
    model_ref: z.string(),
    event: DownloadEvent,
  }),
  z.object({
    kind: z.literal("memory"),
    total_mb: z.number(),
    free_mb: z.number(),
    reserve_mb: z.number(),
  }),
]);
/** See {@linkcode HiveEvent}. */
export type HiveEvent = z.infer<typeof HiveEvent>;

/** Severities of log lines, worst first. */
export const LogLevelName = z.enum(["error", "warn", "info", "debug"]);

/** A line of a log. */
export const LogLine = z.object({
  /** ISO 8601. When the line was read, if it does not tell. */
  time: z.string(),
  /** Who wrote it. */
  source: z.enum(["hive", "worker"]),
  /** The worker that wrote it, or of which the hive speaks. */
  worker_id: z.string().optional(),
  /** Absent for text that is no log line: what a library printed, or last words. */
  level: LogLevelName.optional(),
  message: z.string(),
  /** What is told beside the message. */
  fields: z.record(z.string(), z.unknown()),
});
/** See {@linkcode LogLine}. */
export type LogLine = z.infer<typeof LogLine>;

const MAX_WORKER_ID_CHARS = 64;
const MAX_LOG_TAIL = 10_000;

const LogTime = z.union([
  z.iso.datetime({ offset: true }).transform((text) => Date.parse(text)),
  z.string().regex(/^\d{1,12}(\.\d{1,9})?$/).transform((text) => Number(text) * 1000),
], { error: "expected a time like 2030-01-31T12:00:00Z, or seconds since 1970" });

/** Query of `GET /v1/logs`. Parsed, `since` is milliseconds since 1970. */
export const LogsQuery = z.strictObject({
  /** Lines that come are told as well, as events; `follow` alone means `true`. */
  follow: z.enum(["", "true", "false"], { error: "expected true or false" })
    .transform((text) => text !== "false").default(false),
  worker_id: z.string().min(1).max(MAX_WORKER_ID_CHARS).optional(),
  since: LogTime.optional(),
  /** Only the last of those lines that there are. */
  tail: z.string().regex(/^\d{1,5}$/, { error: "expected a whole number" }).transform(Number)
    .pipe(z.int().max(MAX_LOG_TAIL)).optional(),
});

/** `GET /v1/logs` without `follow`; with it each event is a {@linkcode LogLine}. */
export const LogsResponse = z.object({ lines: z.array(LogLine) });
