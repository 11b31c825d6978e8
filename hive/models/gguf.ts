/** What a model file says about itself: read from the header, nothing is loaded. */
import { RbeeError } from "../../protocol/errors.ts";
import { type GgufHeader, type GgufTensorInfo, type GgufValue, readGgufHeader } from "./gguf_header.ts";
import { InvalidGguf } from "./gguf_reader.ts";
import { MAX_DIMENSION, MAX_GGUF_TENSOR_COUNT, MAX_LAYERS } from "./limits.ts";
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
  /** Elements of one head's value; 0 when it is kept as part of the key (multi-head latent attention). */
  valueLength: number;
  /** Inner width of a layer's feed-forward net, the widest; 0 when not said. */
  feedForwardLength: number;
  /** Experts that each token goes through; 0 in a model without. */
  expertsUsed: number;
  /** Inner width of one expert. */
  expertFeedForwardLength: number;
  /** Tokens in the vocabulary; 0 when not said. */
  vocabularySize: number;
  /** Elements of the state that each layer without keys and values keeps per sequence. */
  recurrentStateLength: number;
  /** Width of what such a layer computes with. */
  recurrentWidth: number;
  /** The tensor table of each file. */
  tensors: readonly (readonly GgufTensorInfo[])[];
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
    let tensorCount = 0;
    for (at of splitPaths(path)) {
      const header = await readHeader(at, options.signal);
      tensorCount += header.tensors.length;
      if (tensorCount > MAX_GGUF_TENSOR_COUNT) {
        throw new InvalidGguf(`brings the model to ${tensorCount} tensors`);
      }
      // Only the first part's metadata counts: of a thousand parts not each one's has to be kept.
      headers.push(headers.length === 0 ? header : { ...header, metadata: new Map() });
    }
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
  if (headers.every((header) => header.tensors.length === 0)) throw new InvalidGguf("holds no tensors");
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
  const optional = { min: 0, fallback: 0 };
  const latent = get("attention.key_length_mla", optional) > 0 &&
    get("attention.value_length_mla", optional) > 0;
  const feedForwardLength = Math.max(...perLayer("feed_forward_length", [0]));
  const tokens = metadata.get("tokenizer.ggml.tokens");
  return {
    architecture: prefix,
    blockCount,
    contextLength: get("context_length", { min: 0, max: 2 ** 32 - 1 }),
    embeddingLength,
    headCount,
    headCountKv,
    keyLength: get("attention.key_length", { min: 1, fallback: headLength }),
    valueLength: latent ? 0 : get("attention.value_length", { min: 1, fallback: headLength }),
    feedForwardLength,
    expertsUsed: get("expert_used_count", optional),
    expertFeedForwardLength: get("expert_feed_forward_length", { min: 0, fallback: feedForwardLength }),
    vocabularySize: tokens?.kind === "skipped"
      ? tokens.count
      : get("vocab_size", { min: 0, fallback: 0, max: MAX_DIMENSION }),
    recurrentStateLength: recurrentStateLength(get, embeddingLength),
    recurrentWidth: Math.max(embeddingLength, get("ssm.inner_size", optional)),
    tensors: headers.map((header) => header.tensors),
    tensorBytes: headers.reduce(
      (sum, header) => sum + header.tensors.reduce((of, { bytes }) => of + bytes, 0),
      0,
    ),
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
