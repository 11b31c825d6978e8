/** Every command there is: parsing, help and near misses all read this one table. */
import type { FlagsOf } from "../home/flags.ts";
import { type Command, defineCommand } from "./cli.ts";
import { DEFAULT_BUSY_RETRIES, MAX_BUSY_RETRIES } from "./limits.ts";

/** What the program is called. */
export const PROGRAM = "rbee-keeper";

/** Its description in one line. */
export const PROGRAM_SUMMARY = "run language models on this machine and on others";

const QUIET = { type: "boolean", help: "say nothing but results and errors" } as const;

const NODE_HELP = "a name under nodes in config.yaml, localhost, or HOST:PORT";

const MODEL_HELP = "hf:OWNER/REPO[:QUANT_OR_FILE][@REVISION], file:/PATH.gguf or builtin:stories";

/** Flags of `infer`. Their bounds are those of the worker's own schema. */
export const INFER_FLAGS = {
  prompt: { type: "text", value: "TEXT|-", required: true, help: "what to say; - reads it from stdin" },
  system: { type: "text", value: "TEXT", help: "what the model is told beforehand" },
  model: {
    type: "text",
    value: "REF",
    default: "builtin:stories",
    help: MODEL_HELP,
  },
  node: { type: "text", value: "NAME", default: "localhost", help: `where to run it: ${NODE_HELP}` },
  "max-tokens": {
    type: "integer",
    value: "N",
    min: 1,
    max: 1_048_576,
    otherwise: "512, or what the context leaves",
    help: "most tokens to generate",
  },
  temperature: {
    type: "number",
    value: "T",
    min: 0,
    max: 2,
    otherwise: "0.7",
    help: "0 always takes the likeliest token, higher is wilder",
  },
  "top-p": {
    type: "number",
    value: "P",
    min: 0,
    max: 1,
    otherwise: "0.95",
    help: "only the likeliest tokens that make up this share",
  },
  "top-k": {
    type: "integer",
    value: "K",
    min: 0,
    max: 1_000_000,
    otherwise: "40",
    help: "only the K likeliest tokens; 0 is all of them",
  },
  "min-p": {
    type: "number",
    value: "P",
    min: 0,
    max: 1,
    otherwise: "0.05",
    help: "only tokens at least this likely, measured by the likeliest",
  },
  seed: {
    type: "integer",
    value: "N",
    min: 0,
    max: 0xffff_fffe,
    otherwise: "chosen",
    help: "the same seed and prompt give the same answer",
  },
  stop: {
    type: "text",
    value: "TEXT",
    repeatable: true,
    help: "end the answer before this text; may be given several times",
  },
  "json-schema": { type: "text", value: "FILE", help: "the answer will be JSON that fits this schema" },
  raw: { type: "boolean", help: "continue the prompt as it stands, without the model's chat template" },
  backend: {
    type: "text",
    value: "NAME",
    choices: ["auto", "cpu", "cuda", "metal", "vulkan"],
    otherwise: "auto, the best there is",
    help: "what to run the model on",
  },
  device: {
    type: "integer",
    value: "N",
    min: 0,
    max: 255,
    otherwise: "0",
    help: "which device of that backend",
  },
  slots: {
    type: "integer",
    value: "N",
    min: 1,
    max: 64,
    otherwise: "4",
    help: "how many answers a new worker can give at once",
  },
  "ctx-size": {
    type: "integer",
    value: "N",
    min: 16,
    max: 1_048_576,
    otherwise: "the model's own, at most 4096",
    help: "tokens that prompt and answer may have together",
  },
  "idle-timeout": {
    type: "number",
    value: "SECONDS",
    min: 0,
    max: 31_536_000,
    otherwise: "the hive's own, 300",
    help: "how long the worker stays without a request; 0 is for ever",
  },
  pin: {
    type: "boolean",
    help: "keep the worker: it never leaves to make room, nor by itself unless --idle-timeout says so",
  },
  timeout: {
    type: "number",
    value: "SECONDS",
    min: 0.1,
    max: 86_400,
    otherwise: "none",
    help: "give up after this time, downloads and loading included",
  },
  retry: {
    type: "integer",
    value: "N",
    min: 0,
    max: MAX_BUSY_RETRIES,
    default: DEFAULT_BUSY_RETRIES,
    help: "how often to try again while all slots are busy, after 1, 2, 4 ... seconds",
  },
  json: { type: "boolean", help: "print the stream's events, one JSON object per line" },
  quiet: QUIET,
  timings: { type: "boolean", help: "say where the time went" },
} as const;
/** Their values. */
export type InferFlags = FlagsOf<typeof INFER_FLAGS>;

const POOL_HEALTH_FLAGS = {
  host: { type: "text", value: "NODE", required: true, help: `which machine: ${NODE_HELP}` },
  json: { type: "boolean", help: "print one JSON document" },
  quiet: QUIET,
} as const;
/** Values of `pool health`'s flags. */
export type PoolHealthFlags = FlagsOf<typeof POOL_HEALTH_FLAGS>;

const WORKERS_LIST_FLAGS = {
  node: { type: "text", value: "NAME", otherwise: "all nodes", help: `only this machine: ${NODE_HELP}` },
  json: { type: "boolean", help: "print one JSON document" },
  quiet: QUIET,
} as const;
/** Values of `workers list`'s flags. */
export type WorkersListFlags = FlagsOf<typeof WORKERS_LIST_FLAGS>;

const MODELS_FLAGS = {
  node: { type: "text", value: "NAME", default: "localhost", help: `on which machine: ${NODE_HELP}` },
  json: { type: "boolean", help: "print one JSON document" },
  quiet: QUIET,
} as const;

const MODELS_LIST_FLAGS = {
  verbose: { type: "boolean", help: "show where the files are, too" },
  ...MODELS_FLAGS,
} as const;
/** Values of `models list`'s flags. */
export type ModelsListFlags = FlagsOf<typeof MODELS_LIST_FLAGS>;

const ONE_MODEL_FLAGS = {
  model: { type: "text", value: "REF", required: true, help: MODEL_HELP },
  ...MODELS_FLAGS,
} as const;
/** Values of the flags of `models pull` and `models rm`. */
export type OneModelFlags = FlagsOf<typeof ONE_MODEL_FLAGS>;

const MODELS_VERIFY_FLAGS = {
  model: { type: "text", value: "REF", otherwise: "all models there are", help: MODEL_HELP },
  ...MODELS_FLAGS,
} as const;
/** Values of `models verify`'s flags. */
export type ModelsVerifyFlags = FlagsOf<typeof MODELS_VERIFY_FLAGS>;

const MODELS_PRUNE_FLAGS = {
  "keep-gb": {
    type: "number",
    value: "N",
    required: true,
    min: 0,
    max: 1_000_000,
    help: "how much downloaded models may take together, in GB",
  },
  "dry-run": { type: "boolean", help: "only say what would be removed" },
  ...MODELS_FLAGS,
} as const;
/** Values of `models prune`'s flags. */
export type ModelsPruneFlags = FlagsOf<typeof MODELS_PRUNE_FLAGS>;

/** All commands, in the order the help shows them. */
export const COMMANDS: readonly Command[] = [
  defineCommand({
    path: ["infer"],
    summary: "send a prompt to a model and print the answer as it comes",
    details:
      "Downloads the model if it is not there yet and starts what is needed; a worker that already holds the " +
      "model answers at once. The answer goes to stdout, everything else to stderr.",
    flags: INFER_FLAGS,
    examples: [
      'infer --prompt "write a short story"',
      "infer --model hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q8_0 --prompt - < question.txt",
      'infer --prompt "Once upon a time" --raw --max-tokens 20 --temperature 0',
    ],
    load: () => import("./commands/infer.ts").then((module) => module.INFER),
  }),
  defineCommand({
    path: ["models", "list"],
    summary: "show the models of a machine, their size and last use",
    flags: MODELS_LIST_FLAGS,
    examples: ["models list", "models list --node mac --json"],
    load: () => import("./commands/models_list.ts").then((module) => module.MODELS_LIST),
  }),
  defineCommand({
    path: ["models", "pull"],
    summary: "download a model, so that it is there when it is wanted",
    details: "Prints the path of its file. A download that was broken off goes on where it was.",
    flags: ONE_MODEL_FLAGS,
    bare: "model",
    examples: ["models pull hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q8_0"],
    load: () => import("./commands/models_pull.ts").then((module) => module.MODELS_PULL),
  }),
  defineCommand({
    path: ["models", "rm"],
    summary: "remove a model that no worker has loaded",
    details: "Files that were not downloaded stay where they are: the machine only forgets them.",
    flags: ONE_MODEL_FLAGS,
    bare: "model",
    examples: ["models rm hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q8_0"],
    load: () => import("./commands/models_rm.ts").then((module) => module.MODELS_RM),
  }),
  defineCommand({
    path: ["models", "verify"],
    summary: "read models again and compare their checksums",
    details:
      "Of a file that was not downloaded the first time records the checksum that later ones compare with.",
    flags: MODELS_VERIFY_FLAGS,
    bare: "model",
    examples: ["models verify", "models verify builtin:stories --json"],
    load: () => import("./commands/models_verify.ts").then((module) => module.MODELS_VERIFY),
  }),
  defineCommand({
    path: ["models", "prune"],
    summary: "remove downloaded models that were not used for longest",
    details:
      "As many as it takes for the rest to fit, and what downloads left unfinished. Nothing that a worker has " +
      "loaded, and no file that was not downloaded.",
    flags: MODELS_PRUNE_FLAGS,
    examples: ["models prune --keep-gb 20 --dry-run", "models prune --keep-gb 20"],
    load: () => import("./commands/models_prune.ts").then((module) => module.MODELS_PRUNE),
  }),
  defineCommand({
    path: ["pool", "health"],
    summary: "ask a machine's hive whether it is well",
    flags: POOL_HEALTH_FLAGS,
    examples: ["pool health --host localhost", "pool health --host 192.168.1.20:9200 --json"],
    load: () => import("./commands/pool_health.ts").then((module) => module.POOL_HEALTH),
  }),
  defineCommand({
    path: ["workers", "list"],
    summary: "show the workers of every machine that is known",
    details:
      "Asks this machine's hive and those under nodes in config.yaml. A machine that does not answer is named.",
    flags: WORKERS_LIST_FLAGS,
    examples: ["workers list", "workers list --node localhost --json"],
    load: () => import("./commands/workers_list.ts").then((module) => module.WORKERS_LIST),
  }),
];
