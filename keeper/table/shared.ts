/** Flags that many commands have. */
import type { FlagsOf, FlagTable } from "../../home/flags.ts";

/** Says less. */
export const QUIET = { type: "boolean", help: "say nothing but results and errors" } as const;

/** One document instead of text. */
export const JSON_DOCUMENT = { type: "boolean", help: "print one JSON document" } as const;

/** What names a machine. */
export const NODE_HELP = "a name under nodes in config.yaml, localhost, or HOST:PORT";

const WHEN_ABSENT = "keeper.node of config.yaml, else localhost";

/** The machine to work on, where one is always meant. */
export const NODE = {
  type: "text",
  value: "NAME",
  environment: "RBEE_NODE",
  otherwise: WHEN_ABSENT,
  help: `which machine: ${NODE_HELP}`,
} as const;

/** The same, where only some are meant. */
export const SOME_NODE = {
  type: "text",
  value: "NAME",
  otherwise: "all nodes",
  help: `only this machine: ${NODE_HELP}`,
} as const;

/** The machine as `pool` calls it. */
export const HOST = {
  type: "text",
  value: "NODE",
  required: true,
  help: `which machine: ${NODE_HELP}`,
} as const;

/** Through whom. */
export const QUEEN = {
  type: "text",
  value: "URL",
  environment: "RBEE_QUEEN",
  otherwise: "keeper.queen of config.yaml, else straight to the node",
  help: "go through this queen: it knows where the model is, or where it fits",
} as const;

/** The same where a machine is always meant: only when it is asked for. */
export const BY_QUEEN = {
  type: "text",
  value: "URL",
  otherwise: "straight to the machine",
  help: "have this queen do it; the machine is then called as it is there",
} as const;

/** What names a model. */
export const MODEL_HELP = "hf:OWNER/REPO[:QUANT_OR_FILE][@REVISION], file:/PATH.gguf or builtin:stories";

/** The model to run, where one is always meant. */
export const MODEL = {
  type: "text",
  value: "REF",
  environment: "RBEE_MODEL",
  otherwise: "keeper.model of config.yaml, else builtin:stories",
  help: MODEL_HELP,
} as const;

/** How answers are generated. Bounds are those of the worker's own schema. */
export const SAMPLING = {
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
} as const satisfies FlagTable;

/** What a worker is to be like. Bounds are those of the hive's own schema. */
export const WORKER = {
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
} as const satisfies FlagTable;
/** Their values. */
export type WorkerFlags = FlagsOf<typeof WORKER>;
/** Values of {@linkcode SAMPLING}. */
export type SamplingFlags = FlagsOf<typeof SAMPLING>;
