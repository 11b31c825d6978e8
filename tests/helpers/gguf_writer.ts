// Tiny (and not so tiny) random models of any LLaMA-like shape, which llama.cpp loads and runs.

import {
  GGML_TYPES,
  type GgmlType,
  ggufArray,
  type GgufParts,
  ggufScalar,
  type GgufTensor,
  type GgufValue,
  tensorBytes,
  writeRawGguf,
} from "./gguf_format.ts";
import { BEGIN_TOKEN_ID, END_TOKEN_ID, llamaVocab, UNKNOWN_TOKEN_ID } from "./gguf_vocab.ts";
import { WeightPool } from "./gguf_weights.ts";

/** The shape of a model. Its tokens are as random as its weights; what counts is that it loads and runs. */
export interface LlamaShape {
  readonly layers: number;
  /** Embedding length; a multiple of `heads`, and of 32 for the quantised types. */
  readonly embd: number;
  readonly heads: number;
  /** Default: `heads`. */
  readonly kvHeads?: number;
  /** Feed-forward length; with experts that of each. */
  readonly ff: number;
  /** Experts of every layer, and how many of them a token goes through. Default: none, one feed-forward net. */
  readonly experts?: { readonly count: number; readonly used: number };
  /** Tokens, at least 259 (special ones and bytes). */
  readonly vocab: number;
  /** Context the model claims to be trained for, in tokens. */
  readonly ctx: number;
  /** Type of every matrix; norms are always F32. */
  readonly type: GgmlType;
  /** The output matrix is the embedding. Default: false. */
  readonly tiedEmbeddings?: boolean;
  /**
   * Every token is followed by the one with the next id, whatever came before it, at the full cost of every layer: a
   * model whose text is known beforehand. Not with tied embeddings. Default: false.
   */
  readonly chain?: boolean;
  /** The same seed and shape give the same file, byte for byte. Default: 1. */
  readonly seed?: number;
  /** Jinja source; without it the model has no template of its own. */
  readonly chatTemplate?: string;
  /** `general.name`. Default: made of the shape. */
  readonly name?: string;
}

/** The shape of TinyLlama 1.1B; about 620 MB as Q4_0. */
export const TINY_LLAMA_1B: Omit<LlamaShape, "type"> = {
  layers: 22,
  embd: 2048,
  heads: 32,
  kvHeads: 4,
  ff: 5632,
  vocab: 32000,
  ctx: 2048,
};

/** The smallest useful model: about 200 kB as F32, loads in milliseconds. */
export const TINIEST_LLAMA: LlamaShape = {
  layers: 1,
  embd: 64,
  heads: 2,
  ff: 64,
  vocab: 320,
  ctx: 256,
  type: "F32",
};

/** `general.file_type` of llama.cpp for a model made mostly of this type. */
const FILE_TYPE_IDS: Record<GgmlType, number> = { F32: 0, F16: 1, Q4_0: 2, Q8_0: 7 };

/** Spread of the logits: wide enough that greedy and sampled answers differ, far from saturation. */
const LOGIT_DEVIATION = 3;

/** Blocks between the windows of two tensors, which must not start alike, or every layer would be the same. */
const WINDOW_DISTANCE = 7919;

/** Part of every cached file's name: raise it when the same shape gives other bytes than before. */
const FORMAT_GENERATION = 1;

/**
 * Writes a random model to `path`, replacing what is there. Streams: a few megabytes of memory whatever the
 * size, and about as fast as the disk.
 *
 * @throws {RangeError} when no model can have this shape.
 */
export async function writeLlamaGguf(path: string, shape: LlamaShape): Promise<void> {
  await writeRawGguf(path, llamaGgufParts(shape));
}

/**
 * Path of a file of this shape in `dir`, written if it is not there yet. It appears under its name only when
 * complete, so that two callers at once, or one that is killed, do no harm.
 */
export async function cachedLlamaGguf(dir: string, shape: LlamaShape): Promise<string> {
  const path = `${dir}/${await cacheName(shape)}`;
  try {
    await Deno.stat(path);
    return path;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  await Deno.mkdir(dir, { recursive: true });
  const partial = await Deno.makeTempFile({ dir, suffix: ".partial" });
  try {
    await writeLlamaGguf(partial, shape);
    await Deno.rename(partial, path);
  } catch (error) {
    await Deno.remove(partial).catch(() => {});
    throw error;
  }
  return path;
}

async function cacheName(shape: LlamaShape): Promise<string> {
  const canonical = JSON.stringify(Object.entries(shape).sort(([a], [b]) => a < b ? -1 : 1));
  const digest = await crypto.subtle.digest(
    "SHA-256",
    new TextEncoder().encode(`${FORMAT_GENERATION}${canonical}`),
  );
  return `${shapeName(shape)}-${new Uint8Array(digest).toHex().slice(0, 12)}.gguf`;
}

function shapeName(shape: LlamaShape): string {
  return `random-llama-${shape.layers}x${shape.embd}-${shape.type}`;
}

/** The same model as parts, for those who want to damage it. */
export function llamaGgufParts(shape: LlamaShape): GgufParts {
  checkShape(shape);
  return { metadata: llamaMetadata(shape), tensors: llamaTensors(shape) };
}

function checkShape(shape: LlamaShape): void {
  const { embd, heads, kvHeads = heads } = shape;
  if (embd % heads !== 0 || (embd / heads) % 2 !== 0) {
    throw new RangeError(`Cannot split an embedding of ${embd} over ${heads} heads of even size`);
  }
  if (heads % kvHeads !== 0) {
    throw new RangeError(`Cannot share ${kvHeads} key-value heads evenly among ${heads} heads`);
  }
  if (shape.chain && shape.tiedEmbeddings) {
    throw new RangeError("Cannot chain tokens with tied embeddings");
  }
}

function llamaMetadata(shape: LlamaShape): [string, GgufValue][] {
  const vocab = llamaVocab(shape.vocab);
  const u32 = (value: number) => ggufScalar("u32", value);
  const metadata: [string, GgufValue][] = [
    ["general.architecture", ggufScalar("str", "llama")],
    ["general.type", ggufScalar("str", "model")],
    ["general.name", ggufScalar("str", shape.name ?? shapeName(shape))],
    ["general.file_type", u32(FILE_TYPE_IDS[shape.type])],
    ["general.quantization_version", u32(2)],
    ["llama.context_length", u32(shape.ctx)],
    ["llama.embedding_length", u32(shape.embd)],
    ["llama.block_count", u32(shape.layers)],
    ["llama.feed_forward_length", u32(shape.ff)],
    ["llama.attention.head_count", u32(shape.heads)],
    ["llama.attention.head_count_kv", u32(shape.kvHeads ?? shape.heads)],
    ["llama.attention.layer_norm_rms_epsilon", ggufScalar("f32", 1e-5)],
    ["llama.rope.dimension_count", u32(shape.embd / shape.heads)],
    ["llama.rope.freq_base", ggufScalar("f32", 10000)],
    ["llama.vocab_size", u32(shape.vocab)],
    ["tokenizer.ggml.model", ggufScalar("str", "llama")],
    ["tokenizer.ggml.pre", ggufScalar("str", "default")],
    ["tokenizer.ggml.tokens", ggufArray("str", vocab.tokens)],
    ["tokenizer.ggml.scores", ggufArray("f32", vocab.scores)],
    ["tokenizer.ggml.token_type", ggufArray("i32", vocab.types)],
    ["tokenizer.ggml.unknown_token_id", u32(UNKNOWN_TOKEN_ID)],
    ["tokenizer.ggml.bos_token_id", u32(BEGIN_TOKEN_ID)],
    ["tokenizer.ggml.eos_token_id", u32(END_TOKEN_ID)],
    ["tokenizer.ggml.add_bos_token", ggufScalar("bool", true)],
    ["tokenizer.ggml.add_eos_token", ggufScalar("bool", false)],
  ];
  if (shape.experts !== undefined) {
    metadata.push(
      ["llama.expert_count", u32(shape.experts.count)],
      ["llama.expert_used_count", u32(shape.experts.used)],
    );
  }
  if (shape.chatTemplate !== undefined) {
    metadata.push(["tokenizer.chat_template", ggufScalar("str", shape.chatTemplate)]);
  }
  return metadata;
}

function llamaTensors(shape: LlamaShape): GgufTensor[] {
  const { layers, embd, heads, kvHeads = heads, ff, vocab, type, seed = 1 } = shape;
  const { tiedEmbeddings = false, chain = false, experts } = shape;
  const kvEmbd = embd / heads * kvHeads;
  const pools = new Map<number, WeightPool>();
  let tensorNumber = 1;

  const matrix = (
    name: string,
    dims: readonly [row: number, ...rows: number[]],
    { deviation = 1 / Math.sqrt(dims[0]), start = tensorNumber * WINDOW_DISTANCE } = {},
  ): GgufTensor => {
    tensorNumber++;
    let pool = pools.get(deviation);
    if (pool === undefined) pools.set(deviation, pool = new WeightPool(type, { deviation, seed }));
    const byteLength = tensorBytes(type, dims);
    return { name, dims, type, byteLength, data: () => pool.window(start, byteLength) };
  };
  const norm = (name: string): GgufTensor => {
    const ones = new Uint8Array(new Float32Array(embd).fill(1).buffer);
    return { name, dims: [embd], type: "F32", byteLength: ones.length, data: () => [ones] };
  };

  const logitsDeviation = LOGIT_DEVIATION / Math.sqrt(embd);
  // Pools of one seed differ in scale only: a row earlier, each token's output row is its predecessor's embedding.
  const chained = { start: WINDOW_DISTANCE - tensorBytes(type, [embd, 1]) / GGML_TYPES[type].blockBytes };
  // What a layer adds to its input: nothing, where only the last token is to count.
  const added = chain ? { deviation: 0 } : {};
  const tensors = [
    matrix("token_embd.weight", [embd, vocab], { deviation: tiedEmbeddings ? logitsDeviation : 1 }),
    norm("output_norm.weight"),
  ];
  if (!tiedEmbeddings) {
    tensors.push(
      matrix("output.weight", [embd, vocab], { deviation: logitsDeviation, ...(chain ? chained : {}) }),
    );
  }
  for (let layer = 0; layer < layers; layer++) {
    tensors.push(
      norm(`blk.${layer}.attn_norm.weight`),
      matrix(`blk.${layer}.attn_q.weight`, [embd, embd]),
      matrix(`blk.${layer}.attn_k.weight`, [embd, kvEmbd]),
      matrix(`blk.${layer}.attn_v.weight`, [embd, kvEmbd]),
      matrix(`blk.${layer}.attn_output.weight`, [embd, embd], added),
      norm(`blk.${layer}.ffn_norm.weight`),
    );
    if (experts === undefined) {
      tensors.push(
        matrix(`blk.${layer}.ffn_gate.weight`, [embd, ff]),
        matrix(`blk.${layer}.ffn_up.weight`, [embd, ff]),
        matrix(`blk.${layer}.ffn_down.weight`, [ff, embd], added),
      );
    } else {
      tensors.push(
        matrix(`blk.${layer}.ffn_gate_inp.weight`, [embd, experts.count]),
        matrix(`blk.${layer}.ffn_gate_exps.weight`, [embd, ff, experts.count]),
        matrix(`blk.${layer}.ffn_up_exps.weight`, [embd, ff, experts.count]),
        matrix(`blk.${layer}.ffn_down_exps.weight`, [ff, embd, experts.count], added),
      );
    }
  }
  return tensors;
}
