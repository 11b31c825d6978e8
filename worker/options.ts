/** The worker's command line and the secrets it gets by environment. */
import { type FlagTable, readFlags } from "../home/flags.ts";
import { BackendName, MAX_CTX_SIZE, MAX_SLOTS } from "../protocol/spawn_request.ts";
import { CACHE_TYPES, type CacheType } from "./engine_options.ts";

const FLASH_ATTENTION = ["auto", "on", "off"] as const;
const SANDBOXES = ["auto", "off"] as const;
const POOLINGS = ["auto", "none", "mean", "cls", "last", "rank"] as const;

const FLAGS = {
  model: { type: "text", value: "PATH", help: "The GGUF file to load." },
  "model-ref": {
    type: "text",
    value: "REF",
    help: "What the model is called in answers; default: its file.",
  },
  backend: { type: "text", choices: BackendName.options, default: "cpu", help: "What to compute on." },
  device: { type: "integer", value: "N", min: 0, max: 255, default: 0, help: "Which device of the backend." },
  host: { type: "text", value: "HOST", default: "127.0.0.1", help: "Address to listen on." },
  port: {
    type: "text",
    value: "N|FIRST-LAST",
    default: "8001-8999",
    help: "Port, or the range to find a free one in.",
  },
  advertise: { type: "text", value: "HOST", help: "Host name in the URL told to the hive; default: --host." },
  "worker-id": { type: "text", value: "ID", default: "worker", help: "Name in the log and at the hive." },
  "callback-url": { type: "text", value: "URL", help: "Where to report that the port is bound." },
  "orphan-timeout": {
    type: "integer",
    value: "SECONDS",
    min: 0,
    max: 31_536_000,
    default: 0,
    help: "Leave when the hive has not asked for its health for so long; 0: never.",
  },
  slots: {
    type: "integer",
    value: "N",
    min: 1,
    max: MAX_SLOTS,
    default: 4,
    help: "Answers generated at once.",
  },
  "ctx-size": {
    type: "integer",
    value: "N",
    min: 16,
    max: MAX_CTX_SIZE,
    help:
      "Tokens per slot, prompt and answer together; default: what the model was trained for, at most 4096.",
  },
  threads: { type: "integer", value: "N", min: 1, max: 512, help: "Default: the machine's physical cores." },
  "cache-type": {
    type: "text",
    choices: CACHE_TYPES,
    default: "auto",
    help: "Type of the KV cache; auto: f16, or f32 where that is faster; q8_0 takes half of f16's memory.",
  },
  "flash-attn": {
    type: "text",
    choices: FLASH_ATTENTION,
    default: "auto",
    help: "Flash attention; auto: where it is faster.",
  },
  "kv-unified": {
    type: "boolean",
    help: "One KV cache for all slots: an answer may use what the others leave.",
  },
  embeddings: {
    type: "boolean",
    help: "Make embeddings instead of answers; a model that can make nothing else always does.",
  },
  pooling: {
    type: "text",
    choices: POOLINGS,
    default: "auto",
    help: "What an embedding is made of; auto: as the model says.",
  },
  "chat-template": {
    type: "text",
    value: "NAME|FILE",
    help: "Chat template instead of the model's own: a Jinja file, or a name as chatml or llama3.",
  },
  "draft-model": {
    type: "text",
    value: "PATH",
    help: "A small model with the same vocabulary that guesses ahead.",
  },
  sandbox: {
    type: "text",
    choices: SANDBOXES,
    default: "auto",
    help: "Confine the process once the model is loaded, as far as the kernel can; off: don't.",
  },
  "api-key": { type: "text", value: "KEY", help: "For use by hand; better: RBEE_WORKER_API_KEY." },
  detect: { type: "boolean", help: "Print backends and devices as JSON and leave." },
  help: { type: "boolean", help: "Print this." },
  version: { type: "boolean", help: "Print the version." },
} as const satisfies FlagTable;

/** Inclusive; one port is a range of one, 0 is any free port. */
export type PortRange = readonly [first: number, last: number];

/** What a worker was asked to be. */
export interface WorkerOptions {
  model: string;
  modelRef: string;
  backend: BackendName;
  device: number;
  host: string;
  ports: PortRange;
  advertise: string;
  workerId: string;
  slots: number;
  /** 0: the model's own. */
  ctxSize: number;
  /** 0: physical cores. */
  threads: number;
  cacheType: CacheType;
  flashAttention: "auto" | "on" | "off";
  kvUnified: boolean;
  draftModel?: string;
  embeddings: boolean;
  pooling: (typeof POOLINGS)[number];
  /** A name, or the path of a file. */
  chatTemplate?: string;
  /** Whether the process is confined once the model is loaded. */
  sandbox: (typeof SANDBOXES)[number];
  /** Absent: the person's local key, as every daemon. */
  apiKey?: string;
  /** 0: it stays, whether there is a hive or not. */
  orphanTimeoutSeconds: number;
  /** Only under a hive. */
  callback?: { url: string; token: string };
}

/** What the command line asks for. */
export type WorkerInvocation =
  | { kind: "help"; text: string }
  | { kind: "version" }
  | { kind: "detect" }
  | { kind: "usage"; problems: string[] }
  | { kind: "run"; options: WorkerOptions };

/** Reads the command line; every mistake is named at once. */
export function parseWorkerArgs(
  args: readonly string[],
  env: { get(name: string): string | undefined },
): WorkerInvocation {
  const { flags, problems } = readFlags(args, FLAGS);
  if (flags.help) return { kind: "help", text: helpText() };
  if (flags.version) return { kind: "version" };
  if (flags.detect && problems.length === 0) return { kind: "detect" };
  const ports = parsePorts(flags.port ?? "");
  if (flags.port !== undefined && ports === undefined) {
    problems.push(`--port takes a port or FIRST-LAST within 0 to 65535, not "${flags.port.slice(0, 80)}".`);
  }
  if (flags.model === undefined) problems.push("--model is required.");
  const callbackUrl = flags["callback-url"];
  const token = env.get("RBEE_CALLBACK_TOKEN");
  if (callbackUrl !== undefined && !URL.canParse(callbackUrl)) {
    problems.push("--callback-url takes an http URL.");
  }
  if (callbackUrl !== undefined && token === undefined) {
    problems.push("--callback-url needs RBEE_CALLBACK_TOKEN.");
  }
  if (problems.length > 0 || ports === undefined || flags.model === undefined) {
    return { kind: "usage", problems };
  }
  return {
    kind: "run",
    options: {
      model: flags.model,
      modelRef: flags["model-ref"] ?? `file:${flags.model}`,
      backend: BackendName.parse(flags.backend),
      device: flags.device,
      host: flags.host,
      ports,
      advertise: flags.advertise ?? flags.host,
      workerId: flags["worker-id"],
      orphanTimeoutSeconds: flags["orphan-timeout"],
      slots: flags.slots,
      ctxSize: flags["ctx-size"] ?? 0,
      threads: flags.threads ?? 0,
      cacheType: CACHE_TYPES.find((type) => type === flags["cache-type"]) ?? "auto",
      flashAttention: FLASH_ATTENTION.find((mode) => mode === flags["flash-attn"]) ?? "auto",
      kvUnified: flags["kv-unified"] ?? false,
      draftModel: flags["draft-model"],
      embeddings: flags.embeddings ?? false,
      pooling: POOLINGS.find((pooling) => pooling === flags.pooling) ?? "auto",
      chatTemplate: flags["chat-template"],
      sandbox: SANDBOXES.find((mode) => mode === flags.sandbox) ?? "auto",
      apiKey: flags["api-key"] ?? env.get("RBEE_WORKER_API_KEY"),
      callback: callbackUrl !== undefined && token !== undefined ? { url: callbackUrl, token } : undefined,
    },
  };
}

function parsePorts(text: string): PortRange | undefined {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  if (match === null) return undefined;
  const first = Number(match[1]);
  const last = Number(match[2] ?? match[1]);
  return first <= last && last <= 65535 ? [first, last] : undefined;
}

function helpText(): string {
  const lines = Object.entries<FlagTable[string]>(FLAGS).map(([name, flag]) => {
    const left = `  --${name}${flag.value ? ` ${flag.value}` : ""}${
      flag.choices ? ` ${flag.choices.join("|")}` : ""
    }`;
    return `${left.padEnd(32)} ${flag.help}${flag.default === undefined ? "" : ` (${flag.default})`}`;
  });
  return [
    "llm-worker-rbee: one model in memory, over HTTP.",
    "",
    "  llm-worker-rbee --model PATH [--port N]",
    "",
    ...lines,
    "",
    "The key comes from RBEE_WORKER_API_KEY, --api-key, or api_key in the rbee home, created when absent.",
  ].join("\n");
}
