/** `infer`: what it is asked for. */
import type { FlagsOf } from "../../home/flags.ts";
import { type Command, defineCommand } from "../cli.ts";
import { DEFAULT_BUSY_RETRIES, MAX_BUSY_RETRIES } from "../limits.ts";
import { MODEL_HELP, NODE_HELP, QUIET } from "./shared.ts";

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

/** See the file's head. */
export const INFER_COMMANDS: readonly Command[] = [
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
    load: () => import("../commands/infer.ts").then((module) => module.INFER),
  }),
];
