/** The command line of llama-server, as far as its tests use it, for our worker. */
import { parseArgs } from "@std/cli";
import { join } from "@std/path";
import { sharedModel } from "../helpers/test_models.ts";

/** The models that its tests name, and those that stand in for them here. */
const MODELS: Readonly<Record<string, string>> = {
  "ggml-org/test-model-stories260K": "stories260K-F32.gguf",
  // Both are BERTs with the same vocabulary and pooling of choice.
  "ggml-org/models bert-bge-small/ggml-model-f16.gguf": "glove-6b-100d-bow-40k-Q8_0.gguf",
};

/** What the original was trained for; the template of a tool takes more than the 512 tokens of our file. */
const LONG_CONTEXT = 8192;

/** What is to be served. */
export interface Asked {
  hosts: string[];
  port: number;
  apiKey?: string;
  /** Absent: it is not at hand. */
  model?: string;
  workerArgs: string[];
  alias: string;
  slots: number;
  /** Of all slots together. */
  context: number;
  /** Whether `/slots` may be asked. */
  tellsSlots: boolean;
  debug: boolean;
  /** Laid under every request for an answer. */
  defaults: {
    temperature?: number;
    seed?: number;
    n_predict: number;
    reasoning?: string;
    reasoning_format?: string;
  };
}

/** Reads it; files that have to be made lie in `folder`. */
export async function readFlags(args: readonly string[], folder: string): Promise<Asked> {
  const flags = parseArgs([...args], {
    string: [
      "hf-repo",
      "hf-file",
      "chat-template",
      "chat-template-file",
      "host",
      "api-key",
      "alias",
      "pooling",
      "fa",
    ],
    boolean: ["embedding", "reranking", "kv-unified", "slots", "no-slots", "verbose"],
  });
  const text = (name: string) => flags[name] === undefined ? undefined : String(flags[name]);
  const number = (name: string) => flags[name] === undefined ? undefined : Number(flags[name]);
  const isGiven = (name: string) => flags[name] === true;
  const slots = number("parallel") ?? 4;
  const isUnified = isGiven("kv-unified");
  const name = [text("hf-repo"), text("hf-file")].filter((part) => part).join(" ");
  const model = sharedModel(MODELS[name] ?? "absent");
  const embeds = isGiven("embedding") || isGiven("reranking");
  const context = number("ctx-size") ?? 512;
  const asked: Asked = {
    hosts: (text("host") ?? "127.0.0.1").split(","),
    port: number("port")!,
    apiKey: text("api-key"),
    workerArgs: [],
    alias: text("alias") ?? "model",
    slots,
    context,
    tellsSlots: isGiven("slots"),
    debug: isGiven("verbose"),
    defaults: {
      temperature: number("temp"),
      seed: number("seed"),
      n_predict: number("n-predict") ?? -1,
      reasoning: text("reasoning"),
      reasoning_format: text("reasoning-format"),
    },
  };
  if (model === undefined) return asked;
  asked.model = embeds ? model : await withLongContext(model, folder);
  const perSlot = isUnified ? context : Math.floor(context / slots);
  asked.workerArgs = [
    ...["--slots", String(slots)],
    ...["--ctx-size", String(embeds ? Math.min(context, 512) : perSlot)],
    ...isUnified ? ["--kv-unified"] : [],
    ...embeds ? ["--embeddings"] : [],
    ...text("pooling") === undefined ? [] : ["--pooling", text("pooling")!],
    ...text("fa") === undefined ? [] : ["--flash-attn", text("fa")!],
    ...await templateFlag(text("chat-template-file"), { text: text("chat-template"), folder }),
  ];
  return asked;
}

async function templateFlag(
  file: string | undefined,
  given: { text: string | undefined; folder: string },
): Promise<string[]> {
  if (file !== undefined) return ["--chat-template", file];
  const { text, folder } = given;
  if (text === undefined) return [];
  if (/^[a-z0-9-]+$/.test(text)) return ["--chat-template", text];
  const path = join(folder, "template.jinja");
  await Deno.writeTextFile(path, text);
  return ["--chat-template", path];
}

/** A copy that says to have been trained for more. */
async function withLongContext(model: string, folder: string): Promise<string> {
  const bytes = await Deno.readFile(model);
  const key = new TextEncoder().encode("llama.context_length");
  const at = bytes.findIndex((_, i) => key.every((byte, k) => bytes[i + k] === byte));
  // Behind the key stands the type, 32 bits, and the value.
  new DataView(bytes.buffer).setUint32(at + key.length + 4, LONG_CONTEXT, true);
  const path = join(folder, "model.gguf");
  await Deno.writeFile(path, bytes);
  return path;
}
