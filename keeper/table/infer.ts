/** `infer`: what it is asked for. */
import type { FlagsOf } from "../../home/flags.ts";
import { type Command, defineCommand } from "../cli.ts";
import { DEFAULT_BUSY_RETRIES, MAX_BUSY_RETRIES } from "../limits.ts";
import { MODEL, NODE, QUEEN, QUIET, SAMPLING, WORKER } from "./shared.ts";

/** Flags of `infer`. */
export const INFER_FLAGS = {
  prompt: { type: "text", value: "TEXT|-", required: true, help: "what to say; - reads it from stdin" },
  file: {
    type: "text",
    value: "FILE",
    repeatable: true,
    help: "put this file's text before the prompt; may be given several times",
  },
  system: { type: "text", value: "TEXT", help: "what the model is told beforehand" },
  model: MODEL,
  node: NODE,
  queen: QUEEN,
  ...SAMPLING,
  "json-schema": { type: "text", value: "FILE", help: "the answer will be JSON that fits this schema" },
  raw: { type: "boolean", help: "continue the prompt as it stands, without the model's chat template" },
  ...WORKER,
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

/** See the file's head. */
export const INFER_COMMANDS: readonly Command[] = [
  defineCommand({
    path: ["infer"],
    soughtAs: ["run", "generate", "complete"],
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
    load: () => import("../commands/infer.ts").then((module) => module.INFER),
  }),
];
