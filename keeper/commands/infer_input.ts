/** From `infer`'s flags to what the worker and the hive are asked. */
import { basename } from "@std/path";
import { SpawnRequest } from "../../protocol/spawn_request.ts";
import { MAX_STOP_STRINGS } from "../../protocol/limits.ts";
import { parseModelRef } from "../../protocol/model_ref.ts";
import type { InferenceInput } from "../../protocol/worker_requests.ts";
import type { ModelFacts } from "../../protocol/worker_schemas.ts";
import type { InferFlags } from "../table/infer.ts";
import type { SamplingFlags, WorkerFlags } from "../table/shared.ts";
import { MAX_INPUT_BYTES } from "../limits.ts";
import type { Output } from "../output.ts";
import { UsageError } from "../cli.ts";
import { checkModelFlag } from "./model_flag.ts";

/** The parts of a request that come from outside the command line. */
export interface InferInput {
  /** As given or read, never empty. */
  prompt: string;
  /** Of `--json-schema`. */
  jsonSchema?: Record<string, unknown>;
}

/** Mistakes that the table of flags can't know of. */
export function checkInferFlags(flags: Partial<InferFlags>): string[] {
  const problems = checkModelFlag(flags);
  if (flags.prompt === "") problems.push("--prompt must not be empty.");
  if (flags.raw && flags.system !== undefined) {
    problems.push("--system needs the model's chat template, which --raw leaves out: use one of them.");
  }
  if ((flags.stop?.length ?? 0) > MAX_STOP_STRINGS) {
    problems.push(`--stop can be given ${MAX_STOP_STRINGS} times at most.`);
  }
  if (flags.stop?.includes("")) problems.push("--stop must not be empty.");
  return problems;
}

/**
 * Reads the prompt from stdin when it is `-`, and the JSON schema's file.
 *
 * @throws {UsageError} when one of them can't be used.
 */
export async function readInferInput(flags: InferFlags): Promise<InferInput> {
  const problems: string[] = [];
  const collect = (error: unknown): undefined => {
    if (!(error instanceof UsageError)) throw error;
    problems.push(...error.problems);
  };
  const jsonSchema = flags["json-schema"] === undefined
    ? undefined
    : await readJsonSchema(flags["json-schema"]).catch(collect);
  const prompt = flags.prompt === "-" ? await readPrompt(Deno.stdin.readable).catch(collect) : flags.prompt;
  const files = await Promise.all(flags.file.map((path) => readTextFile("--file", path).catch(collect)));
  if (problems.length > 0 || prompt === undefined) throw new UsageError(problems, ["infer"]);
  const attached = files.map((text, i) => flags.raw ? text : attachment(flags.file[i], text!));
  return { prompt: [...attached, prompt].join(""), jsonSchema };
}

/** A file's text as part of a message, so that the model can tell it from what it is asked. */
export function attachment(path: string, text: string): string {
  return `${basename(path)}:\n\`\`\`\n${text.replace(/\n$/, "")}\n\`\`\`\n\n`;
}

/** What is asked of the hive, defaults filled in, so that two wishes can be compared. */
export function spawnRequest(flags: WorkerFlags & { model?: string }, defaultModel: string): SpawnRequest {
  return SpawnRequest.parse({
    model_ref: parseModelRef(flags.model ?? defaultModel).text,
    backend: flags.backend,
    device: flags.device,
    slots: flags.slots,
    ctx_size: flags["ctx-size"],
    idle_timeout: flags["idle-timeout"],
    pin: flags.pin || undefined,
  });
}

/** What is asked of the worker. Values that were not given are left to its own defaults. */
export function requestFor(
  input: InferInput,
  from: { flags: InferFlags; model: ModelFacts; output: Output },
): InferenceInput {
  const { flags, model, output } = from;
  const options = { ...samplingOf(flags), json_schema: input.jsonSchema };
  if (!flags.raw && model.chat_template) {
    const system = flags.system === undefined ? [] : [{ role: "system" as const, content: flags.system }];
    return { ...options, messages: [...system, { role: "user", content: input.prompt }] };
  }
  if (flags.system === undefined) return { ...options, prompt: input.prompt };
  output.say("The model has no chat template: the system text is put before the prompt as it stands.");
  return { ...options, prompt: `${flags.system}\n\n${input.prompt}` };
}

/** How it is to be generated, as the worker calls it. */
export function samplingOf(flags: Partial<SamplingFlags>): GenerationInput {
  return {
    max_tokens: flags["max-tokens"],
    temperature: flags.temperature,
    top_p: flags["top-p"],
    top_k: flags["top-k"],
    min_p: flags["min-p"],
    seed: flags.seed,
    stop: flags.stop,
  };
}

type GenerationInput = Pick<
  InferenceInput,
  "max_tokens" | "temperature" | "top_p" | "top_k" | "min_p" | "seed" | "stop"
>;

/** All of a text stream, bounded; one line end at its end is not part of the prompt. */
export async function readPrompt(stream: ReadableStream<Uint8Array>): Promise<string> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size > MAX_INPUT_BYTES) {
      throw new UsageError([`--prompt -: stdin holds more than ${MAX_INPUT_BYTES} bytes.`], ["infer"]);
    }
    chunks.push(chunk.slice());
  }
  const text = decode(await new Blob(chunks).bytes(), "--prompt -: stdin").replace(/\r?\n$/, "");
  if (text === "") throw new UsageError(["--prompt -: stdin is empty."], ["infer"]);
  return text;
}

async function readJsonSchema(path: string): Promise<Record<string, unknown>> {
  const flag = "--json-schema";
  const text = await readTextFile(flag, path);
  let schema: unknown;
  try {
    schema = JSON.parse(text);
  } catch (error) {
    throw unusable(flag, path, `is no JSON: ${(error as Error).message}`);
  }
  if (typeof schema === "object" && schema !== null && !Array.isArray(schema)) {
    return schema as Record<string, unknown>;
  }
  throw unusable(flag, path, "must hold a JSON object");
}

/**
 * A file that a flag names, bounded.
 *
 * @throws {UsageError} when it can't be used.
 */
export async function readTextFile(flag: string, path: string): Promise<string> {
  let bytes: Uint8Array;
  try {
    if ((await Deno.stat(path)).size > MAX_INPUT_BYTES) {
      throw unusable(flag, path, `is larger than ${MAX_INPUT_BYTES} bytes`);
    }
    bytes = await Deno.readFile(path);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const absent = error instanceof Deno.errors.NotFound;
    throw unusable(flag, path, absent ? "there is no such file" : "cannot be read");
  }
  return decode(bytes, `${flag} ${path}`);
}

function unusable(flag: string, path: string, why: string): UsageError {
  return new UsageError([`${flag} ${path}: ${why}.`], ["infer"]);
}

function decode(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new UsageError([`${what} is no valid UTF-8.`], ["infer"]);
  }
}
