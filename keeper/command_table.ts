/** Every command there is: parsing, help, completions and near misses all read this one table. */
import type { Command } from "./cli.ts";
import { CHAT_COMMANDS } from "./table/chat.ts";
import { INFER_COMMANDS } from "./table/infer.ts";
import { KEYS_COMMANDS } from "./table/keys.ts";
import { MODELS_COMMANDS } from "./table/models.ts";
import { NODES_COMMANDS } from "./table/nodes.ts";
import { POOL_COMMANDS } from "./table/pool.ts";
import { REQUESTS_COMMANDS } from "./table/requests.ts";
import { SYSTEM_COMMANDS } from "./table/system.ts";
import { WORKERS_COMMANDS } from "./table/workers.ts";

/** What the program is called. */
export const PROGRAM = "rbee-keeper";

/** Its description in one line. */
export const PROGRAM_SUMMARY = "run language models on this machine and on others";

/** All commands, in the order the help shows them. */
export const COMMANDS: readonly Command[] = [
  ...INFER_COMMANDS,
  ...CHAT_COMMANDS,
  ...MODELS_COMMANDS,
  ...POOL_COMMANDS,
  ...WORKERS_COMMANDS,
  ...REQUESTS_COMMANDS,
  ...NODES_COMMANDS,
  ...KEYS_COMMANDS,
  ...SYSTEM_COMMANDS,
];
