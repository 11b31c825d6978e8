/** Ollama's `GET /api/tags` and `/api/version`, `POST /api/show` and `/api/embed`. */
import type { Handler } from "../../daemon/serve.ts";
import { OllamaEmbedRequest, OllamaShowRequest } from "../../protocol/ollama_schemas.ts";
import { VERSION } from "../../protocol/version.ts";
import type { Worker } from "../worker.ts";
import { embedTexts } from "./embeddings.ts";
import { inOrder } from "./prompts.ts";

/** Its clients compare with versions of Ollama; this says whose it is. */
export function ollamaVersion(): Response {
  return Response.json({ version: VERSION });
}

/** The list of one. */
export function ollamaTags(worker: Worker): Handler {
  const modified_at = new Date().toISOString();
  return async () => {
    const { facts } = worker.engine;
    return Response.json({
      models: [{
        name: worker.modelRef,
        model: worker.modelRef,
        modified_at,
        size: facts.size_bytes,
        digest: await worker.fingerprint(),
        details: detailsOf(worker),
      }],
    });
  };
}

/** What is known of the model; it is the one here, whatever it is called. */
export function ollamaShow(worker: Worker): Handler {
  return async ({ body }) => {
    await body(OllamaShowRequest);
    const { facts } = worker.engine;
    const { architecture } = facts;
    return Response.json({
      modelfile: "",
      parameters: "",
      template: "",
      details: detailsOf(worker),
      model_info: {
        "general.architecture": architecture,
        "general.parameter_count": facts.parameters,
        [`${architecture}.context_length`]: facts.context_train,
        [`${architecture}.embedding_length`]: facts.embedding_length,
        [`${architecture}.block_count`]: facts.layers,
      },
      capabilities: facts.pooling === undefined ? ["completion", "tools"] : ["embedding"],
    });
  };
}

/** Embeds in the name of one worker. */
export function ollamaEmbed(worker: Worker): Handler {
  return async ({ body, request }) => {
    const { input, truncate, dimensions } = await body(OllamaEmbedRequest);
    const { engine } = worker;
    const startedMs = performance.now();
    const limit = engine.facts.context;
    const { signal } = request;
    const texts = await inOrder([input].flat(), async (text) => {
      if (!truncate) return text;
      const ids = await engine.tokenize(text, { signal });
      return ids.length > limit ? [...ids.subarray(0, limit)] : text;
    });
    const { vectors, tokens } = await embedTexts(worker, {
      texts,
      signal,
      dimensions: dimensions ?? undefined,
    });
    return Response.json({
      model: worker.modelRef,
      embeddings: vectors.map((vector) => [...vector]),
      total_duration: Math.round((performance.now() - startedMs) * 1e6),
      load_duration: 0,
      prompt_eval_count: tokens,
    });
  };
}

function detailsOf(worker: Worker) {
  const { facts } = worker.engine;
  return {
    parent_model: "",
    format: "gguf",
    family: facts.architecture,
    families: [facts.architecture],
    parameter_size: sizeName(facts.parameters),
    quantization_level: facts.description.split(" ").at(-1) ?? "",
  };
}

function sizeName(parameters: number): string {
  const units: [number, string][] = [[1e9, "B"], [1e6, "M"], [1e3, "K"]];
  const [unit, letter] = units.find(([size]) => parameters >= size) ?? [1, ""];
  return `${(parameters / unit).toFixed(1)}${letter}`;
}
