/** `pool …`: one machine and all that is on it. */
import type { FlagsOf } from "../../home/flags.ts";
import { type Command, defineCommand } from "../cli.ts";
import { onHost } from "../commands/on_host.ts";
import { BY_QUEEN, HOST, JSON_DOCUMENT, MODEL, MODEL_HELP, QUIET, WORKER } from "./shared.ts";

const POOL_FLAGS = { host: HOST, queen: BY_QUEEN, json: JSON_DOCUMENT, quiet: QUIET } as const;
/** Values of the flags of `pool health`. */
export type PoolHealthFlags = FlagsOf<typeof POOL_FLAGS>;
/** Values of the flags of `pool status`. */
export type PoolStatusFlags = FlagsOf<typeof POOL_FLAGS>;

const POOL_MODELS_LIST_FLAGS = {
  verbose: { type: "boolean", help: "show where the files are, too" },
  ...POOL_FLAGS,
} as const;

const POOL_MODEL_FLAGS = {
  model: { type: "text", value: "REF", required: true, help: MODEL_HELP },
  ...POOL_FLAGS,
} as const;

const WORKER_SPAWN_FLAGS = { model: MODEL, ...WORKER, ...POOL_FLAGS } as const;
/** Values of the flags of `pool worker spawn`. */
export type WorkerSpawnFlags = FlagsOf<typeof WORKER_SPAWN_FLAGS>;

const WORKER_STOP_FLAGS = {
  id: { type: "text", value: "ID", required: true, help: "which worker; the beginning of its id is enough" },
  ...POOL_FLAGS,
} as const;

/** See the file's head. */
export const POOL_COMMANDS: readonly Command[] = [
  defineCommand({
    path: ["pool", "health"],
    summary: "ask a machine's hive whether it is well",
    flags: POOL_FLAGS,
    examples: ["pool health --host localhost", "pool health --host 192.168.1.20:9200 --json"],
    load: () => import("../commands/pool_health.ts").then((module) => module.POOL_HEALTH),
  }),
  defineCommand({
    path: ["pool", "status"],
    summary: "show a machine's devices, memory, disk and workers",
    flags: POOL_FLAGS,
    examples: ["pool status --host localhost", "pool status --host mac --queen http://queen.lan:8080"],
    load: () => import("../commands/pool_status.ts").then((module) => module.POOL_STATUS),
  }),
  defineCommand({
    path: ["pool", "models", "download"],
    summary: "download a model to a machine",
    flags: POOL_MODEL_FLAGS,
    bare: "model",
    examples: ["pool models download hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF --host mac"],
    load: () => import("../commands/models_pull.ts").then((module) => onHost(module.MODELS_PULL)),
  }),
  defineCommand({
    path: ["pool", "models", "list"],
    summary: "show the models of a machine",
    flags: POOL_MODELS_LIST_FLAGS,
    examples: ["pool models list --host mac"],
    load: () => import("../commands/models_list.ts").then((module) => onHost(module.MODELS_LIST)),
  }),
  defineCommand({
    path: ["pool", "models", "remove"],
    summary: "remove a model from a machine",
    flags: POOL_MODEL_FLAGS,
    bare: "model",
    examples: ["pool models remove hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF --host mac"],
    load: () => import("../commands/models_rm.ts").then((module) => onHost(module.MODELS_RM)),
  }),
  defineCommand({
    path: ["pool", "worker", "spawn"],
    summary: "start a worker on a machine, so that the first question need not wait",
    details: "Downloads the model if it is not there yet. Prints the worker's id once it is ready.",
    flags: WORKER_SPAWN_FLAGS,
    bare: "model",
    examples: ["pool worker spawn builtin:stories --host localhost --pin"],
    load: () => import("../commands/worker_spawn.ts").then((module) => module.WORKER_SPAWN),
  }),
  defineCommand({
    path: ["pool", "worker", "list"],
    summary: "show the workers of a machine",
    flags: POOL_FLAGS,
    examples: ["pool worker list --host mac"],
    load: () => import("../commands/workers_list.ts").then((module) => onHost(module.WORKERS_LIST)),
  }),
  defineCommand({
    path: ["pool", "worker", "stop"],
    summary: "stop a worker of a machine; what it generates is finished first",
    flags: WORKER_STOP_FLAGS,
    bare: "id",
    examples: ["pool worker stop 3f9a --host mac"],
    load: () => import("../commands/worker_stop.ts").then((module) => onHost(module.WORKER_STOP)),
  }),
];
