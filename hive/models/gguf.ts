/** What a model file says about itself, and the memory it will take: read from the header, nothing is loaded. */
import { RbeeError } from "../../protocol/errors.ts";
import { type GgufHeader, type GgufValue, readGgufHeader } from "./gguf_header.ts";
import { InvalidGguf } from "./gguf_reader.ts";
import { MAX_DIMENSION, MAX_LAYERS } from "./limits.ts";
import { splitPaths } from "./split_name.ts";

/** Facts of a model, over all its parts. Names follow the GGUF keys. */
export interface GgufFacts {
  /** `general.architecture`. */
  architecture: string;
  /** Layers. */
  blockCount: number;
  /** Tokens it was trained for. */
  contextLength: number;
  /** Width. */
  embeddingLength: number;
  /** Attention heads by layer; 0 where a layer has no attention. */
  headCount: readonly number[];
  /** Key-value heads by layer; 0 where a layer keeps no keys and values. */
  headCountKv: readonly number[];
  /** Elements of one head's key. */
  keyLength: number;
  /** Elements of one head's value. */
  valueLength: number;
  /** Tokens in the vocabulary; 0 when not said. */
  vocabularySize: number;
  /** Elements of the state that each layer without keys and values keeps per sequence. */
  recurrentStateLength: number;
  /** Bytes of all tensors. */
  tensorBytes: number;
  /** Bytes of all files. */
  fileBytes: number;
}

/**
 * Reads the facts of the model at `path`; for a split model `path` is any part and all parts are read.
 *
 * @throws {RbeeError} `INVALID_MODEL` when a file is missing, no GGUF, cut short or odd. The signal's reason when
 * aborted.
 */
export async function readGgufFacts(
  path: string,
  options: { signal?: AbortSignal } = {},
): Promise<GgufFacts> {
  let at = path;
  try {
    const headers: GgufHeader[] = [];
    for (at of splitPaths(path)) headers.push(await readHeader(at, options.signal));
    at = path;
    return factsOf(headers);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof InvalidGguf) throw invalidModel(at, error.message);
    if (error instanceof Deno.errors.NotFound) throw invalidModel(at, "does not exist");
    if (error instanceof Deno.errors.PermissionDenied) throw invalidModel(at, "may not be read by rbee");
    throw error;
  }
}

async function readHeader(path: string, signal: AbortSignal | undefined): Promise<GgufHeader> {
  using file = await Deno.open(path);
  if (!(await file.stat()).isFile) throw new InvalidGguf("is no regular file");
  return await readGgufHeader(file, signal);
}

function invalidModel(path: string, why: string): RbeeError {
  return new RbeeError("INVALID_MODEL", `The file ${path} ${why}. Fetch it again or use another model.`, {
    details: { path },
  });
}

function factsOf(headers: readonly GgufHeader[]): GgufFacts {
  const { metadata } = headers[0];
  const splitCount = numberOf(metadata, "split.count", { min: 0, fallback: 0 });
  if (splitCount > 1 && splitCount !== headers.length) {
    throw new InvalidGguf(`is one of ${splitCount} parts, but its name does not end in -00001-of-0000N.gguf`);
  }
  if (headers.every((header) => header.tensorCount === 0)) throw new InvalidGguf("holds no tensors");
  const architecture = metadata.get("general.architecture");
  if (architecture?.kind !== "text" || architecture.value === "") {
    throw new InvalidGguf("does not say its architecture");
  }
  const prefix = architecture.value;
  const get = (name: string, range: Range) => numberOf(metadata, `${prefix}.${name}`, range);

  const blockCount = get("block_count", { min: 1, max: MAX_LAYERS });
  const embeddingLength = get("embedding_length", { min: 1 });
  const perLayer = (name: string, fallback: readonly number[]) =>
    numbersOf(metadata, `${prefix}.${name}`, { count: blockCount, fallback });
  const headCount = perLayer("attention.head_count", Array(blockCount).fill(0));
  const headCountKv = perLayer("attention.head_count_kv", headCount);
  const headLength = Math.ceil(embeddingLength / Math.max(1, ...headCount));
  const tokens = metadata.get("tokenizer.ggml.tokens");
  return {
    architecture: prefix,
    blockCount,
    contextLength: get("context_length", { min: 0, max: 2 ** 32 - 1 }),
    embeddingLength,
    headCount,
    headCountKv,
    keyLength: get("attention.key_length", { min: 1, fallback: headLength }),
    valueLength: get("attention.value_length", { min: 1, fallback: headLength }),
    vocabularySize: tokens?.kind === "skipped"
      ? tokens.count
      : get("vocab_size", { min: 0, fallback: 0, max: MAX_DIMENSION }),
    recurrentStateLength: recurrentStateLength(get, embeddingLength),
    tensorBytes: headers.reduce((sum, header) => sum + header.tensorBytes, 0),
    fileBytes: headers.reduce((sum, header) => sum + header.fileBytes, 0),
  };
}

/** Source: `n_embd_r` and `n_embd_s` of llama.cpp's llama-hparams.cpp, for RWKV and for Mamba. */
function recurrentStateLength(get: (name: string, range: Range) => number, embeddingLength: number): number {
  const optional = { min: 0, fallback: 0 };
  const headSize = get("wkv.head_size", optional);
  if (headSize > 0) {
    return get("token_shift_count", { min: 0, fallback: 2 }) * embeddingLength + embeddingLength * headSize;
  }
  const state = get("ssm.state_size", optional);
  const inner = get("ssm.inner_size", optional);
  const rows = Math.max(0, get("ssm.conv_kernel", optional) - 1);
  return rows * (inner + 2 * get("ssm.group_count", optional) * state) + state * inner;
}

interface Range {
  min: number;
  /** Default: {@linkcode MAX_DIMENSION}. */
  max?: number;
  /** For an absent key; without it, the key must be there. */
  fallback?: number;
}

function numberOf(metadata: ReadonlyMap<string, GgufValue>, key: string, range: Range): number {
  const found = metadata.get(key);
  if (found === undefined && range.fallback !== undefined) return range.fallback;
  if (found === undefined) throw new InvalidGguf(`does not say its ${key}`);
  return inRange(found.kind === "number" ? found.value : NaN, { ...range, key });
}

/** One number for all layers, or a list of one for each. */
function numbersOf(
  metadata: ReadonlyMap<string, GgufValue>,
  key: string,
  options: { count: number; fallback: readonly number[] },
): readonly number[] {
  const found = metadata.get(key);
  if (found === undefined) return options.fallback;
  if (found.kind !== "numbers") return Array(options.count).fill(numberOf(metadata, key, { min: 0 }));
  if (found.value.length !== options.count) {
    throw new InvalidGguf(`has ${found.value.length} values of ${key} for ${options.count} layers`);
  }
  return found.value.map((value) => inRange(value, { key, min: 0 }));
}

function inRange(value: number, options: Range & { key: string }): number {
  const { min, max = MAX_DIMENSION } = options;
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new InvalidGguf(`has an absurd ${options.key}`);
  }
  return value;
}

/** Where the memory of a loaded model goes. MB of 1,000,000 bytes, rounded up. */
export interface MemoryEstimate {
  /** The tensors. */
  weights_mb: number;
  /** Keys, values and recurrent states of all slots. */
  kv_mb: number;
  /** Buffers of one step. */
  compute_mb: number;
  /** The sum, or 1.2 × file size if that is more. */
  required_mb: number;
}

/** Least share of the file's size that a model needs (SPEC §6). */
const MIN_FILE_FACTOR = 1.2;
/** llama.cpp's default physical batch. */
const BATCH_TOKENS = 512;
/** llama.cpp rounds the context of a sequence up to this. */
const CONTEXT_STEP_TOKENS = 256;
const F16_BYTES = 2;
const F32_BYTES = 4;
const MB = 1_000_000;

/**
 * Memory for `slots` sequences of `ctxSize` tokens: F16 keys and values for each layer that has them, an F32 state
 * for each that has not, and for the step what llama.cpp reserves at its widest: logits and one layer's activations
 * of a whole batch, and the attention mask.
 */
export function estimateMemory(
  facts: GgufFacts,
  options: { ctxSize: number; slots: number },
): MemoryEstimate {
  const { slots } = options;
  const ctxTokens = Math.ceil(options.ctxSize / CONTEXT_STEP_TOKENS) * CONTEXT_STEP_TOKENS;
  const kvHeads = facts.headCountKv.reduce((sum, heads) => sum + heads, 0);
  const recurrentLayers = facts.headCountKv.filter((heads) => heads === 0).length;
  const kvBytes = ctxTokens * slots * kvHeads * (facts.keyLength + facts.valueLength) * F16_BYTES +
    slots * recurrentLayers * facts.recurrentStateLength * F32_BYTES;
  const batchTokens = Math.min(BATCH_TOKENS, ctxTokens * slots);
  const computeBytes = batchTokens * F32_BYTES *
    (facts.vocabularySize + 2 * facts.embeddingLength + ctxTokens * slots);
  const sumBytes = facts.tensorBytes + kvBytes + computeBytes;
  return {
    weights_mb: Math.ceil(facts.tensorBytes / MB),
    kv_mb: Math.ceil(kvBytes / MB),
    compute_mb: Math.ceil(computeBytes / MB),
    required_mb: Math.ceil(Math.max(sumBytes, MIN_FILE_FACTOR * facts.fileBytes) / MB),
  };
}
