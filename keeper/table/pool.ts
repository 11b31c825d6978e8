/** `pool …`: one machine and all that is on it. */
import type { FlagsOf } from "../../home/flags.ts";
import { type Command, defineCommand } from "../cli.ts";
import { JSON_DOCUMENT, NODE_HELP, QUIET } from "./shared.ts";

const POOL_HEALTH_FLAGS = {
  host: { type: "text", value: "NODE", required: true, help: `which machine: ${NODE_HELP}` },
  json: JSON_DOCUMENT,
  quiet: QUIET,
} as const;
/** Values of `pool health`'s flags. */
export type PoolHealthFlags = FlagsOf<typeof POOL_HEALTH_FLAGS>;

/** See the file's head. */
export const POOL_COMMANDS: readonly Command[] = [
  defineCommand({
    path: ["pool", "health"],
    summary: "ask a machine's hive whether it is well",
    flags: POOL_HEALTH_FLAGS,
    examples: ["pool health --host localhost", "pool health --host 192.168.1.20:9200 --json"],
    load: () => import("../commands/pool_health.ts").then((module) => module.POOL_HEALTH),
  }),
];
