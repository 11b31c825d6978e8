/** A model of any size at the stand-in hub that takes no memory: a true header, and random weights behind it. */
import { encodeGgufHead, type GgufTensor } from "./gguf_format.ts";
import { llamaGgufParts, TINIEST_LLAMA } from "./gguf_writer.ts";
import type { HubContent } from "./hub_content.ts";

/** Bytes of one row of its one matrix. */
const ROW_BYTES = 4096;

/** About `bytes` of it: header and whole rows. */
export function largeModel(
  bytes: number,
  options: { seed?: number } = {},
): HubContent & { generate: number } {
  const rows = Math.floor(bytes / ROW_BYTES);
  const weights: GgufTensor = {
    name: "blk.0.ffn_up.weight",
    dims: [ROW_BYTES / Float32Array.BYTES_PER_ELEMENT, rows],
    type: "F32",
    byteLength: rows * ROW_BYTES,
    data: () => [],
  };
  const prefix = encodeGgufHead({ ...llamaGgufParts(TINIEST_LLAMA), tensors: [weights] }).bytes;
  return { generate: prefix.length + weights.byteLength, seed: options.seed, prefix };
}
