/** `workers …`: what runs where. */
import type { FlagsOf } from "../../home/flags.ts";
import { type Command, defineCommand } from "../cli.ts";
import { JSON_DOCUMENT, NODE_HELP, QUIET } from "./shared.ts";

const WORKERS_LIST_FLAGS = {
  node: { type: "text", value: "NAME", otherwise: "all nodes", help: `only this machine: ${NODE_HELP}` },
  json: JSON_DOCUMENT,
  quiet: QUIET,
} as const;
/** Values of `workers list`'s flags. */
export type WorkersListFlags = FlagsOf<typeof WORKERS_LIST_FLAGS>;

/** See the file's head. */
export const WORKERS_COMMANDS: readonly Command[] = [
  defineCommand({
    path: ["workers", "list"],
    summary: "show the workers of every machine that is known",
    details:
      "Asks this machine's hive and those under nodes in config.yaml. A machine that does not answer is named.",
    flags: WORKERS_LIST_FLAGS,
    examples: ["workers list", "workers list --node localhost --json"],
    load: () => import("../commands/workers_list.ts").then((module) => module.WORKERS_LIST),
  }),
];
