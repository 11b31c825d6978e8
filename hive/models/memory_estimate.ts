/**
 * The memory that a worker will take, from the facts of its model: nothing is loaded. It mirrors how the worker makes
 * its context (worker/native/src/context.cpp) and what llama.cpp then allocates.
 */
import type { GgufFacts } from "./gguf.ts";
import { TENSOR_TYPES } from "./gguf_types.ts";
import { type Packing, weightBytes } from "./weight_buffers.ts";

/** Ids of the types that keys and values can have, by ggml's name. */
const CACHE_TYPE_IDS = {
  f32: 0,
  f16: 1,
  bf16: 30,
  q8_0: 8,
  q5_1: 7,
  q5_0: 6,
  q4_1: 3,
  q4_0: 2,
  iq4_nl: 20,
} as const;

/** How a worker is to be started. Everything but the first two is as the worker's flag of that name. */
export interface MemoryOptions {
  /** Tokens per slot. */
  ctxSize: number;
  /** Requests at the same time. */
  slots: number;
  /** Default: `cpu`. */
  backend?: string;
  /** Default: `auto`. */
  cacheType?: "auto" | keyof typeof CACHE_TYPE_IDS;
  /** Default: `auto`. */
  flashAttention?: "auto" | "on" | "off";
  /** Default: false. */
  kvUnified?: boolean;
  /**
   * Which weights the CPU's kernels keep in a layout of their own. llama.cpp reports those twice: as part of the mapped
   * file and as copies. Default: `none`, every tensor once.
   */
  packing?: Packing;
  /** MB that earlier loads of the model took beyond (or below) their estimate. Default: 0. */
  correctionMb?: number;
}

/** Where the memory of a loaded model goes. MB of 1,000,000 bytes, rounded up. */
export interface MemoryEstimate {
  /** The tensors. */
  weights_mb: number;
  /** Keys, values and recurrent states of all slots. */
  kv_mb: number;
  /** Buffers of one step. */
  compute_mb: number;
  /** The sum, weights counted once, before any correction. */
  expected_mb: number;
  /**
   * What has to be free: the sum with its correction, or 1.2 × file size if that is more. Weights count once here, whatever their packing:
   * pages of the file that were copied can be given up.
   */
  required_mb: number;
}

/** Least share of the file's size that a model needs (SPEC §6). */
const MIN_FILE_FACTOR = 1.2;
/** llama.cpp rounds the context of a sequence up to this. */
const CONTEXT_STEP_TOKENS = 256;
/** Heads up to this size get an F32 cache and no flash attention on the CPU: `small_head_size` of context.cpp. */
const SMALL_HEAD_LENGTH = 32;
/** `step_limits_` of context.cpp: rows of a step. */
const STEP_ROWS = { cpu: { alone: 128, shared: 64 }, gpu: { alone: 512, shared: 128 } };
/** `spare_rows` of context.cpp. */
const SPARE_ROWS = 32;
/** `max_draft_tokens` of step_plan.h, and what `output_rows` of context.cpp rounds up to. */
const OUTPUT_ROWS = { guesses: 15, step: 32 };
const F16_BYTES = 2;
const F32_BYTES = 4;
/** Positions and places in the cache of each row. */
const INPUT_BYTES_PER_ROW = 24;
const MB = 1_000_000;

/** {@linkcode memoryBytes} for people and for preflight. */
export function estimateMemory(facts: GgufFacts, options: MemoryOptions): MemoryEstimate {
  const { weights, kv, compute } = memoryBytes(facts, options);
  const expected = facts.tensorBytes + kv + compute;
  const corrected = expected + (options.correctionMb ?? 0) * MB;
  const required = Math.max(corrected, MIN_FILE_FACTOR * facts.fileBytes);
  return {
    weights_mb: Math.ceil(weights / MB),
    kv_mb: Math.ceil(kv / MB),
    compute_mb: Math.ceil(compute / MB),
    expected_mb: Math.ceil(expected / MB),
    required_mb: Math.ceil(required / MB),
  };
}

/** What llama.cpp will report of a worker, in bytes, the compute buffers approximately. */
export function memoryBytes(
  facts: GgufFacts,
  options: MemoryOptions,
): { weights: number; kv: number; compute: number } {
  const context = contextOf(facts, options);
  return {
    weights: weightBytes(facts.tensors, { packing: options.packing ?? "none", onGpu: context.onGpu }),
    kv: kvBytes(facts, context),
    compute: computeBytes(facts, context),
  };
}

interface Context {
  onGpu: boolean;
  slots: number;
  /** Tokens that one row of a step can attend to. */
  cells: number;
  /** Tokens of all slots. */
  allCells: number;
  cacheTypeId: number;
  flash: boolean;
  /** Tokens of the widest step. */
  rows: number;
  /** Of these, how many get logits. */
  outputRows: number;
}

function contextOf(facts: GgufFacts, options: MemoryOptions): Context {
  const { slots, cacheType = "auto", flashAttention = "auto" } = options;
  const onGpu = (options.backend ?? "cpu") !== "cpu";
  const headLength = facts.headCount[0] > 0 ? Math.floor(facts.embeddingLength / facts.headCount[0]) : 0;
  const smallHeads = !onGpu && headLength > 0 && headLength <= SMALL_HEAD_LENGTH;
  const cacheTypeId = CACHE_TYPE_IDS[cacheType === "auto" ? smallHeads ? "f32" : "f16" : cacheType];
  const packed = TENSOR_TYPES.get(cacheTypeId)!.blockElements > 1;

  const wanted = options.ctxSize * slots;
  const unified = options.kvUnified ?? false;
  const padded = roundUp(wanted, CONTEXT_STEP_TOKENS);
  const cells = unified ? padded : roundUp(Math.floor(padded / slots), CONTEXT_STEP_TOKENS);
  const { alone, shared } = onGpu ? STEP_ROWS.gpu : STEP_ROWS.cpu;
  const rows = Math.min(Math.max(alone, shared, slots + SPARE_ROWS), wanted);
  return {
    onGpu,
    slots,
    cells,
    allCells: unified ? cells : cells * slots,
    cacheTypeId,
    flash: flashAttention === "on" || packed || (flashAttention === "auto" && !smallHeads),
    // As many for each sequence.
    rows: roundUp(rows, slots),
    outputRows: Math.min(rows, roundUp(slots + OUTPUT_ROWS.guesses, OUTPUT_ROWS.step)),
  };
}

/** Source: `llama_kv_cache` and `llama_memory_recurrent`, one tensor of keys and one of values for each layer. */
function kvBytes(facts: GgufFacts, context: Context): number {
  const { blockElements, blockBytes } = TENSOR_TYPES.get(context.cacheTypeId)!;
  const heads = facts.headCountKv.reduce((sum, count) => sum + count, 0);
  const elements = context.allCells * heads * (facts.keyLength + facts.valueLength);
  const recurrentLayers = facts.headCountKv.filter((count) => count === 0).length;
  return elements / blockElements * blockBytes +
    context.slots * recurrentLayers * facts.recurrentStateLength * F32_BYTES;
}

/**
 * The most that lives at once while a step is computed. ggml reuses the memory of what is not needed any more, so this
 * is the attention mask and the widest of a layer's parts, or the logits. The numbers of tensors that live in each part
 * follow from the graph (llama-graph.cpp) and ggml-alloc's way of placing them; they were found by measuring grids of
 * shapes with the engine on the CPU. Gaps between tensors are not counted: most shapes come out exact, some a tenth off.
 */
function computeBytes(facts: GgufFacts, context: Context): number {
  const { rows, cells, flash, outputRows } = context;
  const width = rows * facts.embeddingLength;
  const heads = Math.max(...facts.headCount);
  const queries = rows * heads * facts.keyLength;
  const kvHeads = Math.max(...facts.headCountKv);
  const keys = rows * kvHeads * facts.keyLength;
  // After the last layer's attention only the rows that get logits go on.
  const onward = facts.blockCount > 1 ? rows : outputRows;
  const hidden = onward *
    Math.max(facts.feedForwardLength, facts.expertsUsed * facts.expertFeedForwardLength);
  const expertOutputs = onward * facts.expertsUsed * facts.embeddingLength;

  const maskBytes = kvHeads > 0 ? rows * cells * (flash ? F16_BYTES : F32_BYTES) : 0;
  // Flash attention takes halves: an F32 cache is converted as a whole. Without it, all scores are there at once.
  const isF32 = context.cacheTypeId === CACHE_TYPE_IDS.f32;
  const converted = isF32 ? context.allCells * kvHeads * (facts.keyLength + facts.valueLength) / 2 : 0;
  const attention = flash
    ? 2 * width + 2 * queries + 2 * keys + converted
    : 2 * width + 3 * queries + 2 * keys + heads * rows * cells;
  const feedForward = Math.max(
    3 * hidden + (flash ? 4 * width : 3 * width + 2 * keys),
    2 * expertOutputs + 2 * width,
  );
  const recurrent = facts.recurrentStateLength > 0
    ? 20 * rows * facts.recurrentWidth + 2 * context.slots * facts.recurrentStateLength
    : 0;
  const logits = outputRows * (facts.vocabularySize + facts.embeddingLength) + width;
  const layerBytes = maskBytes + Math.max(attention, feedForward, recurrent) * F32_BYTES;
  return Math.max(layerBytes, logits * F32_BYTES) + rows * INPUT_BYTES_PER_ROW;
}

function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}
