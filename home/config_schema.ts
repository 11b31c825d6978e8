/** The shape of `config.yaml` (SPEC §2), with every default in one place. */
import * as z from "zod";
import { BackendName, SpawnRequest } from "../protocol/spawn_request.ts";
import { InstallPath } from "../protocol/install_path.ts";
import { boundToNode, KEY_FIELDS, KeyName, ModelPattern } from "../protocol/key_schemas.ts";
import { ModelRefText } from "../protocol/model_ref.ts";
import {
  DEFAULT_HIVE_PORT,
  DEFAULT_QUEEN_PORT,
  LOAD_TIMEOUT_MS,
  TOKEN_GAP_TIMEOUT_MS,
} from "../protocol/limits.ts";
import { NodeName } from "../protocol/node_name.ts";

/** An address to listen on. */
export interface ListenAddress {
  /** A name or an address; IPv6 without brackets. */
  hostname: string;
  /** 0 = any free port. */
  port: number;
}

const LISTEN = /^(\[[0-9a-fA-F:.]+\]|[^:\s]+):(\d{1,5})$/;

const LISTEN_EXPECTED = "expected HOST:PORT, for example 127.0.0.1:9200";

/** `HOST:PORT`, IPv6 in brackets. */
export const ListenText = z.string(LISTEN_EXPECTED).transform((text, context): ListenAddress => {
  const match = LISTEN.exec(text);
  if (match === null || Number(match[2]) > 65535) {
    context.addIssue({ code: "custom", message: LISTEN_EXPECTED });
    return z.NEVER;
  }
  return { hostname: match[1].replace(/^\[|\]$/g, ""), port: Number(match[2]) };
});

const PortRange = z.union([
  z.tuple([z.int().min(0), z.int().min(0)]),
  z.string().regex(/^\d{1,5}-\d{1,5}$/).transform((text) => text.split("-").map(Number) as [number, number]),
], { error: "expected FIRST-LAST, for example 8001-8999" })
  .refine(([, last]) => last <= 65535, { error: "ports end at 65535", abort: true })
  .refine(([first, last]) => first <= last, "the first port must not be above the last");

/** A number, also as the text that the environment or a flag gives. */
function numeric(expected: string) {
  return z.union([z.number(), z.string().regex(/^\d+(\.\d+)?$/).transform(Number)], { error: expected });
}

const Seconds = numeric("expected a number of seconds").pipe(z.number().min(0).max(31_536_000));

/** Nothing that ssh(1) could take for an option, nor a shell for anything but a word. */
const SSH = /^(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9_[][A-Za-z0-9._:[\]-]*$/;

/** One machine that can be named with `--node`. */
export const NodeConfig = z.strictObject({
  url: z.url({ protocol: /^https?$/, error: "expected http://HOST:PORT" }),
  api_key_file: z.string().optional(),
  /** USER@HOST or USER@HOST:PORT, for `nodes install`, `start` and `stop`. */
  ssh: z.string().regex(SSH, "expected USER@HOST or USER@HOST:PORT").optional(),
  /** Where rbee is installed there, below the user's home folder unless absolute. */
  install_path: InstallPath.optional(),
});
/** See {@linkcode NodeConfig}. */
export type NodeConfig = z.infer<typeof NodeConfig>;

const MAX_PRELOADS = 32;
const MAX_QUEEN_KEYS = 10_000;
const MAX_COMMON_PREFIXES = 100;
const MAX_COMMON_PREFIX_CHARS = 262_144;

const HttpUrl = z.url({ protocol: /^https?$/, error: "expected http://HOST:PORT" });

/** How a queen treats a model. */
const QueenModel = z.strictObject({
  /** Loaded at all times, and never gone for being idle. */
  keep_loaded: z.boolean().default(false),
  /** Workers that there are at least, on as many nodes. */
  min_replicas: z.int().min(0).max(1_000).default(0),
});

/** A client of a queen. */
const QueenKey = boundToNode(z.strictObject({
  name: KeyName,
  /** SHA-256 of the key, in hexadecimal. */
  hash: z.string().regex(/^[0-9a-f]{64}$/, "expected the SHA-256 of the key: 64 hexadecimal digits"),
  ...KEY_FIELDS,
}));
/** See {@linkcode QueenKey}. */
export type QueenKey = z.infer<typeof QueenKey>;

/** A worker that is started with the hive: a model reference, or a spawn request. */
const PreloadConfig = z.union([ModelRefText.transform((model_ref) => ({ model_ref })), SpawnRequest], {
  error: "expected a model reference, or {model_ref, backend, device, slots, ctx_size, idle_timeout, pin}",
}).transform((wish) => SpawnRequest.parse({ pin: true, ...wish }));

const LOG_LEVELS = ["error", "warn", "info", "debug"] as const;

/** The whole file. */
export const ConfigSchema = z.strictObject({
  api_key: z.string().min(1).optional(),
  api_key_file: z.string().min(1).optional(),
  nodes: z.record(NodeName, NodeConfig)
    .prefault({}),
  hub: z.strictObject({
    endpoint: z.url({ protocol: /^https?$/, error: "expected an http(s) URL" }).default(
      "https://huggingface.co",
    ),
    token_file: z.string().optional(),
    /** MB/s over all downloads together; absent: no cap. */
    max_bandwidth: numeric("expected a number of MB/s").pipe(z.number().positive()).optional(),
  }).prefault({}),
  hive: z.strictObject({
    listen: ListenText.prefault(`127.0.0.1:${DEFAULT_HIVE_PORT}`),
    /** Host name under which other machines reach this one; absent: the listening address. */
    advertise: z.string().min(1).optional(),
    /** Absent: the standard Hugging Face cache. */
    models_dir: z.string().min(1).optional(),
    worker_ports: PortRange.default([8001, 8999]),
    /** Seconds; 0 = never. */
    idle_timeout: Seconds.default(300),
    /** Seconds until a started worker must have called back. */
    callback_timeout: Seconds.default(30),
    /** Seconds until a model must be loaded. */
    load_timeout: Seconds.default(LOAD_TIMEOUT_MS / 1000),
    /** Seconds between health checks of a worker. */
    health_interval: Seconds.default(30),
    /** RAM that stays free for other programs: idle workers leave when it is touched. */
    reserve_mb: numeric("expected a number of MB").pipe(z.number().min(0).max(1_000_000_000)).default(512),
    /** RAM that a worker may take beyond its plan before it is killed. */
    worker_memory_margin_mb: numeric("expected a number of MB").pipe(z.number().min(64).max(1_000_000))
      .default(256),
    /** Whether workers are confined, as far as the kernel can; `off` leaves a hostile model's code this user's rights. */
    worker_sandbox: z.enum(["auto", "off"]).default("auto"),
    /** Workers that are started with the hive. They are pinned and never idle out unless they say otherwise. */
    preload: z.array(PreloadConfig).max(MAX_PRELOADS).default([]),
    /** Backends this hive may use; absent: all there are. */
    backends: z.array(BackendName).min(1).optional(),
    /** What this machine is called in its cluster; absent: its host name. */
    name: NodeName.optional(),
    /** The queen that this hive reports to; absent: none. */
    queen: HttpUrl.optional(),
    /** The queen's key; absent: the same as this hive's. */
    queen_key_file: z.string().min(1).optional(),
    tls_cert: z.string().optional(),
    tls_key: z.string().optional(),
  }).prefault({}),
  keeper: z.strictObject({
    /** What `--model` is when it is not given. */
    model: ModelRefText.default("builtin:stories"),
    /** What `--node` is when it is not given. */
    node: z.string().min(1).default("localhost"),
    /** Seconds between two tokens after which an answer is given up and what came is saved. */
    token_timeout: Seconds.pipe(z.number().min(1)).default(TOKEN_GAP_TIMEOUT_MS / 1000),
    /** The queen that `infer` and `chat` go through; absent: straight to hives. */
    queen: HttpUrl.optional(),
    /** The queen's key, or one that it gives to clients; absent: this machine's. */
    queen_key_file: z.string().min(1).optional(),
  }).prefault({}),
  queen: z.strictObject({
    listen: ListenText.prefault(`127.0.0.1:${DEFAULT_QUEEN_PORT}`),
    /** Host name under which other machines reach this one; absent: the listening address. */
    advertise: z.string().min(1).optional(),
    /** Requests that may wait. */
    queue_limit: numeric("expected a number").pipe(z.int().min(1).max(100_000)).default(100),
    /** Largest body of a client's request, in MB; the owner's own may be 16 MiB. */
    client_body_mb: numeric("expected a number of MB").pipe(z.number().min(0.001).max(16)).default(4),
    /** Seconds that a request may take when it does not say. */
    job_timeout: Seconds.pipe(z.number().min(1).max(1_800)).default(300),
    /** Seconds that requests for a model wait before a second worker is started for it; 0 = never. */
    replicate_after: Seconds.default(10),
    /** What is kept loaded, by model reference. */
    models: z.record(ModelRefText, QueenModel).prefault({}),
    /** Whom else than the owner of the queen's key is answered; beside these, keys that were added with `keys add`. */
    keys: z.array(QueenKey).max(MAX_QUEEN_KEYS).default([]).refine(
      (keys) => new Set(keys.map(({ name }) => name)).size === keys.length,
      "two keys have the same name",
    ),
    /** What prompts of all keys begin with, as each of them may know: caches of it are shared by all. */
    common_prefixes: z.array(z.strictObject({
      /** The text of a prompt, or of the first message of a conversation, mostly the system's. */
      text: z.string().min(1).max(MAX_COMMON_PREFIX_CHARS).refine((text) => text.isWellFormed(), {
        error: "holds half a character",
      }),
      /** Absent: all. */
      models: z.array(ModelPattern).min(1).max(100).optional(),
    })).max(MAX_COMMON_PREFIXES).default([]),
  }).prefault({}),
  log: z.strictObject({
    level: z.enum(LOG_LEVELS).default("info"),
    format: z.enum(["auto", "json", "text", "journal"]).default("auto"),
  }).prefault({}),
});
/** A checked configuration, defaults filled in. */
export type Config = z.infer<typeof ConfigSchema>;

/** Which environment variable sets which key, beside `config.yaml`. */
export const ENVIRONMENT_KEYS: Readonly<Record<string, readonly [string, ...string[]]>> = {
  RBEE_API_KEY_FILE: ["api_key_file"],
  RBEE_API_KEY: ["api_key"],
  HF_ENDPOINT: ["hub", "endpoint"],
  RBEE_HUB_MAX_BANDWIDTH: ["hub", "max_bandwidth"],
  RBEE_HIVE_LISTEN: ["hive", "listen"],
  RBEE_HIVE_ADVERTISE: ["hive", "advertise"],
  RBEE_HIVE_MODELS_DIR: ["hive", "models_dir"],
  RBEE_HIVE_WORKER_PORTS: ["hive", "worker_ports"],
  RBEE_HIVE_IDLE_TIMEOUT: ["hive", "idle_timeout"],
  RBEE_HIVE_CALLBACK_TIMEOUT: ["hive", "callback_timeout"],
  RBEE_HIVE_LOAD_TIMEOUT: ["hive", "load_timeout"],
  RBEE_HIVE_HEALTH_INTERVAL: ["hive", "health_interval"],
  RBEE_HIVE_RESERVE_MB: ["hive", "reserve_mb"],
  RBEE_HIVE_WORKER_MEMORY_MARGIN_MB: ["hive", "worker_memory_margin_mb"],
  RBEE_HIVE_NAME: ["hive", "name"],
  RBEE_HIVE_QUEEN: ["hive", "queen"],
  RBEE_HIVE_QUEEN_KEY_FILE: ["hive", "queen_key_file"],
  RBEE_QUEEN_LISTEN: ["queen", "listen"],
  RBEE_QUEEN_ADVERTISE: ["queen", "advertise"],
  RBEE_QUEEN_QUEUE_LIMIT: ["queen", "queue_limit"],
  RBEE_QUEEN_CLIENT_BODY_MB: ["queen", "client_body_mb"],
  RBEE_QUEEN: ["keeper", "queen"],
  RBEE_QUEEN_KEY_FILE: ["keeper", "queen_key_file"],
  RBEE_MODEL: ["keeper", "model"],
  RBEE_NODE: ["keeper", "node"],
  RBEE_LOG_LEVEL: ["log", "level"],
  RBEE_LOG_FORMAT: ["log", "format"],
};
