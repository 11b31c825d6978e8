/** `chat`: what it is asked for. */
import type { FlagsOf } from "../../home/flags.ts";
import { type Command, defineCommand } from "../cli.ts";
import { DEFAULT_BUSY_RETRIES, MAX_BUSY_RETRIES } from "../limits.ts";
import { MODEL, NODE, QUEEN, QUIET, SAMPLING, WORKER } from "./shared.ts";

const CHAT_FLAGS = {
  model: MODEL,
  node: NODE,
  queen: QUEEN,
  system: { type: "text", value: "TEXT", help: "what the model is told beforehand" },
  load: { type: "text", value: "FILE", help: "go on with a conversation that /save wrote" },
  ...SAMPLING,
  ...WORKER,
  retry: {
    type: "integer",
    value: "N",
    min: 0,
    max: MAX_BUSY_RETRIES,
    default: DEFAULT_BUSY_RETRIES,
    help: "how often to try again while all slots are busy",
  },
  stats: { type: "boolean", help: "say after each answer how fast it was" },
  quiet: QUIET,
} as const;
/** Values of the flags of `chat`. */
export type ChatFlags = FlagsOf<typeof CHAT_FLAGS>;

/** See the file's head. */
export const CHAT_COMMANDS: readonly Command[] = [
  defineCommand({
    path: ["chat"],
    summary: "talk to a model",
    details:
      'A line is sent as it is; a \\ at its end, or """ around several, makes more lines one message. /help lists the ' +
      "commands. Ctrl+C stops the answer, Ctrl+D leaves. Without a terminal each line of stdin is a message.",
    flags: CHAT_FLAGS,
    examples: ["chat", 'chat --model hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF --system "You are brief."'],
    load: () => import("../commands/chat.ts").then((module) => module.CHAT),
  }),
];
