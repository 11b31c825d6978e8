/** Where llama.cpp puts a model's tensors, and what it reports of that. */
import type { GgufTensorInfo } from "./gguf_header.ts";

/**
 * The layouts into which a CPU's kernels copy the weights they multiply with: those of x86 with AVX2, the same and
 * those of AMX, those of ARM with dot products and 8-bit matrices.
 */
export type Packing = "none" | "avx2" | "amx" | "arm";

/** By tensor type, how many rows at a time. Source: `ggml_repack_get_optimal_repack_type` of ggml's repack.cpp. */
const REPACKED_ROWS: Record<Packing, ReadonlyMap<number, number>> = {
  none: new Map(),
  // Q4_0, Q4_K, IQ4_NL, MXFP4
  avx2: new Map([[2, 8], [12, 8], [20, 8], [39, 8]]),
  // Q2_K as well: what has AMX has AVX-512.
  amx: new Map([[2, 8], [12, 8], [20, 8], [39, 8], [10, 8]]),
  // Q4_0, Q8_0, Q4_K, Q5_K, Q6_K, IQ4_NL, MXFP4, Q1_0
  arm: new Map([[2, 4], [8, 4], [12, 8], [13, 8], [14, 8], [20, 4], [39, 4], [41, 4]]),
};

/**
 * By tensor type: elements a row must be a multiple of, elements of a block, bytes that AMX adds to each block. Source:
 * `supports_op` of ggml's amx.cpp and `get_row_size` of its mmq.cpp.
 */
const AMX_TYPES: ReadonlyMap<number, { row: number; block: number; addedBytes: number }> = new Map([
  [1, { row: 16, block: 1, addedBytes: 0 }], // F16
  [2, { row: 32, block: 32, addedBytes: 0 }], // Q4_0
  [3, { row: 32, block: 32, addedBytes: 0 }], // Q4_1
  [8, { row: 32, block: 32, addedBytes: 4 }], // Q8_0
  [12, { row: 256, block: 256, addedBytes: 4 }], // Q4_K
  [13, { row: 256, block: 256, addedBytes: 4 }], // Q5_K
  [14, { row: 256, block: 256, addedBytes: 0 }], // Q6_K
  [23, { row: 256, block: 256, addedBytes: 2 }], // IQ4_XS
]);
/** Rows that AMX takes at a time. */
const AMX_ROWS = 32;

/** Read row by row; they are in no product. */
const LOOKED_UP = /^(token_embd|position_embd|token_types)\.weight$|ssm_conv1d/;
const EMBEDDING = "token_embd.weight";
const OUTPUT = "output.weight";

/**
 * Bytes that llama.cpp reports for the weights of a model's files. Of each file it maps the range from the first to the
 * last tensor that is used in place; the others have copies. A GPU has copies of all but the embedding.
 */
export function weightBytes(
  files: readonly (readonly GgufTensorInfo[])[],
  options: { packing: Packing; onGpu: boolean },
): number {
  const tensors = files.flat();
  const sum = (some: readonly GgufTensorInfo[]) => some.reduce((bytes, tensor) => bytes + tensor.bytes, 0);
  // Without an output matrix of its own, the embedding is loaded a second time as one where the two lie apart.
  const embedding = tensors.find(({ name }) => name === EMBEDDING);
  const tied = tensors.some(({ name }) => name === OUTPUT) ? undefined : embedding;
  if (options.onGpu) return sum(tensors) + (tied?.bytes ?? 0);
  let bytes = tied === undefined ? 0 : packedBytes({ ...tied, name: OUTPUT }, options.packing) ?? 0;
  for (const file of files) {
    let first = Infinity;
    let last = 0;
    for (const tensor of file) {
      const packed = packedBytes(tensor, options.packing);
      if (packed !== undefined) bytes += packed;
      else {
        first = Math.min(first, tensor.offset);
        last = Math.max(last, tensor.offset + tensor.bytes);
      }
    }
    bytes += Math.max(0, last - first);
  }
  return bytes;
}

/** Bytes of the tensor's copy; undefined when it is used as it lies in the file. */
function packedBytes(tensor: GgufTensorInfo, packing: Packing): number | undefined {
  const { dims: [row, rows = 1, matrices = 1], typeId, name } = tensor;
  if (LOOKED_UP.test(name) || !name.endsWith(".weight") || rows === 1) return undefined;
  const amx = packing === "amx" && matrices === 1 ? AMX_TYPES.get(typeId) : undefined;
  if (amx !== undefined && row % amx.row === 0 && rows % AMX_ROWS === 0) {
    return tensor.bytes + row * rows / amx.block * amx.addedBytes;
  }
  const multiple = REPACKED_ROWS[packing].get(typeId);
  return multiple !== undefined && rows % multiple === 0 ? tensor.bytes : undefined;
}
