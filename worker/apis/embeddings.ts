/** `POST /v1/embeddings` and `POST /v1/rerank`. */
import type { Handler } from "../../daemon/serve.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { MAX_RANKED_CHARS } from "../../protocol/limits.ts";
import { EmbeddingsRequest, RerankRequest } from "../../protocol/openai_schemas.ts";
import type { Engine } from "../engine.ts";
import type { Worker } from "../worker.ts";
import { idsOf, inOrder, type Prompt, promptsOf } from "./prompts.ts";

/** The norm that embeddings have unless a request names another: length 1. */
const EUCLIDEAN = 2;
/** What the greatest value becomes with norm 0. */
const GREATEST = 32_760;

/** Embeds in the name of one worker. */
export function embeddings(worker: Worker): Handler {
  return async (context) => {
    const { engine } = worker;
    const request = await context.body(EmbeddingsRequest);
    if (engine.facts.pooling === "none") {
      throw new RbeeError(
        "INVALID_REQUEST",
        "This worker keeps an embedding for each token (--pooling none); here a text has one. Use /embeddings.",
      );
    }
    const { vectors, tokens } = await embedTexts(worker, {
      texts: promptsOf(request.input),
      signal: context.request.signal,
      norm: request.embd_normalize ?? EUCLIDEAN,
      dimensions: request.dimensions ?? undefined,
    });
    const encode = request.encoding_format === "base64" ? base64 : (vector: Float32Array) => [...vector];
    return Response.json({
      object: "list",
      model: worker.modelRef,
      data: vectors.map((vector, index) => ({ object: "embedding", index, embedding: encode(vector) })),
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    });
  };
}

/** The same in llama-server's shape, which has room for an embedding of each token; those are not normalised. */
export function tokenEmbeddings(worker: Worker): Handler {
  return async (context) => {
    const { engine } = worker;
    const request = await context.body(EmbeddingsRequest);
    const pooled = engine.facts.pooling !== "none";
    const { vectors } = await embedTexts(worker, {
      texts: promptsOf(request.input),
      signal: context.request.signal,
      norm: pooled ? request.embd_normalize ?? EUCLIDEAN : -1,
    });
    const { embedding_length: width } = engine.facts;
    const rows = (vector: Float32Array) =>
      pooled ? [[...vector]] : Array.from(
        { length: vector.length / width },
        (_, i) => [...vector.subarray(i * width, (i + 1) * width)],
      );
    return Response.json(vectors.map((vector, index) => ({ index, embedding: rows(vector) })));
  };
}

/** Ranks in the name of one worker. */
export function rerank(worker: Worker): Handler {
  return async (context) => {
    const { engine } = worker;
    const { query, documents, top_n } = await context.body(RerankRequest);
    requireRankable(query, documents);
    const { signal } = context.request;
    const pairs = await inOrder(documents, (document) => tokenizePair(engine, { query, document }, signal));
    const scores = await worker.embed(pairs, signal);
    const results = scores.map(([score], index) => ({ index, relevance_score: score }))
      .sort((a, b) => b.relevance_score - a.relevance_score)
      .slice(0, top_n ?? documents.length);
    const tokens = pairs.reduce((sum, pair) => sum + pair.length, 0);
    return Response.json({
      object: "list",
      model: worker.modelRef,
      results,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    });
  };
}

async function tokenizePair(
  engine: Engine,
  pair: { query: string; document: string },
  signal: AbortSignal,
): Promise<Int32Array> {
  const limit = engine.facts.context;
  const format = engine.pairFormat;
  if (format === undefined) {
    throw new RbeeError(
      "INVALID_REQUEST",
      "This worker does not rank. Start one that holds a ranking model with --embeddings --pooling rank.",
    );
  }
  const { query, document } = pair;
  if (format.template !== "") {
    const text = format.template.replaceAll(
      /\{(query|document)\}/g,
      (_, name) => name === "query" ? query : document,
    );
    return await engine.tokenize(text, { addSpecial: false, limit, signal });
  }
  const plain = (text: string) =>
    engine.tokenize(text, { addSpecial: false, parseSpecial: false, limit, signal });
  return Int32Array.from([
    ...format.before,
    ...await plain(query),
    ...format.between,
    ...await plain(document),
    ...format.after,
  ]);
}

/** The query is read again with each document, so a small body can ask for much. */
function requireRankable(query: string, documents: readonly string[]): void {
  const chars = documents.reduce((sum, document) => sum + query.length + document.length, 0);
  if (chars <= MAX_RANKED_CHARS) return;
  const message = `ask for ${chars} characters with the query before each; the limit is ${MAX_RANKED_CHARS}`;
  throw new RbeeError("INVALID_REQUEST", `The documents ${message}. Send fewer, or a shorter query.`, {
    details: { errors: [{ field: "documents", constraint: "too_big", message }] },
  });
}

/** Texts as vectors, with how many tokens they had. */
export async function embedTexts(
  worker: Worker,
  what: { texts: readonly Prompt[]; signal: AbortSignal; norm?: number; dimensions?: number },
): Promise<{ vectors: Float32Array[]; tokens: number }> {
  const { engine } = worker;
  const ids = await inOrder(what.texts, (text) => idsForEmbedding(text, engine, what.signal));
  const raw = await worker.embed(ids, what.signal);
  const width = raw[0].length;
  const { norm = EUCLIDEAN, dimensions = width } = what;
  if (dimensions > width) {
    throw new RbeeError(
      "INVALID_REQUEST",
      `This model's embeddings have ${width} dimensions, not ${dimensions}.`,
    );
  }
  return {
    vectors: raw.map((vector) => normalise(vector.subarray(0, dimensions), norm)),
    tokens: ids.reduce((sum, one) => sum + one.length, 0),
  };
}

async function idsForEmbedding(text: Prompt, engine: Engine, signal: AbortSignal): Promise<Int32Array> {
  const ids = await idsOf(text, engine, signal);
  if (ids.length > 0) return ids;
  throw new RbeeError("INVALID_REQUEST", "The input is empty: this model puts no tokens around a text.");
}

/** A vector of norm 1 (`norm` 1 and above: the p-norm), its greatest value brought to 32,760 (0), or as it is (-1). */
export function normalise(vector: Float32Array, norm: number): Float32Array {
  if (norm < 0) return vector;
  const size = norm === 0
    ? vector.reduce((greatest, value) => Math.max(greatest, Math.abs(value)), 0) / GREATEST
    : vector.reduce((sum, value) => sum + Math.abs(value) ** norm, 0) ** (1 / norm);
  return size === 0 ? vector : vector.map((value) => value / size);
}

/** 32-bit floats, little-endian, whatever the machine's own order. */
function base64(vector: Float32Array): string {
  const bytes = new DataView(new ArrayBuffer(vector.length * 4));
  vector.forEach((value, i) => bytes.setFloat32(i * 4, value, true));
  return new Uint8Array(bytes.buffer).toBase64();
}
