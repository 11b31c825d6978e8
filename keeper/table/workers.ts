/** `workers …`: what runs where. */
import type { FlagsOf } from "../../home/flags.ts";
import { type Command, defineCommand } from "../cli.ts";
import { JSON_DOCUMENT, QUEEN, QUIET, SOME_NODE } from "./shared.ts";

const WORKERS_LIST_FLAGS = { node: SOME_NODE, json: JSON_DOCUMENT, quiet: QUIET } as const;
/** Values of the flags of `workers health`. */
export type WorkersListFlags = FlagsOf<typeof WORKERS_LIST_FLAGS>;

const WORKERS_SHUTDOWN_FLAGS = {
  queen: { ...QUEEN, help: "look for it on all machines that this queen knows" },
  id: { type: "text", value: "ID", required: true, help: "which worker; the beginning of its id is enough" },
  ...WORKERS_LIST_FLAGS,
} as const;
/** Values of the flags of `workers shutdown`. */
export type WorkersShutdownFlags = FlagsOf<typeof WORKERS_SHUTDOWN_FLAGS>;

const WORKERS_OF_ALL_FLAGS = {
  queen: { ...QUEEN, help: "show the workers of all machines that this queen knows" },
  ...WORKERS_LIST_FLAGS,
} as const;
/** Values of the flags of `workers list`. */
export type WorkersOfAllFlags = FlagsOf<typeof WORKERS_OF_ALL_FLAGS>;

/** See the file's head. */
export const WORKERS_COMMANDS: readonly Command[] = [
  defineCommand({
    path: ["workers", "list"],
    soughtAs: ["ps"],
    summary: "show the workers of every machine that is known",
    details:
      "Asks the queen, if one is configured and no --node is named; else this machine's hive and those under nodes in " +
      "config.yaml. A machine that does not answer is named.",
    flags: WORKERS_OF_ALL_FLAGS,
    examples: ["workers list", "workers list --node localhost --json"],
    load: () => import("../commands/workers_list.ts").then((module) => module.WORKERS_LIST),
  }),
  defineCommand({
    path: ["workers", "health"],
    summary: "show how the workers are, when they were last used, and what failed",
    details: "Exit code 1 when one has failed.",
    flags: WORKERS_LIST_FLAGS,
    examples: ["workers health", "workers health --node mac"],
    load: () => import("../commands/workers_list.ts").then((module) => module.WORKERS_HEALTH),
  }),
  defineCommand({
    path: ["workers", "shutdown"],
    summary: "stop a worker; what it generates is finished first",
    details:
      "Asks the queen, if one is configured and no --node is named, which finds the machine by itself.",
    flags: WORKERS_SHUTDOWN_FLAGS,
    bare: "id",
    examples: ["workers shutdown 3f9a", "workers shutdown --id 3f9a --node mac"],
    load: () => import("../commands/worker_stop.ts").then((module) => module.WORKER_STOP),
  }),
];
