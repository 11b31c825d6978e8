/** A model whose answers take seconds, on a machine that has other things to do as well. */
import type { LlamaShape } from "./gguf_writer.ts";

/**
 * Never ends by itself, and each of its tokens is the one after the last. Its engine generates with one thread, because
 * it is small: threads that wait for each other would take many times as long on a busy machine.
 */
export const SLOW: LlamaShape = {
  ...{ layers: 2, embd: 512, heads: 8, ff: 1_024, type: "Q8_0", vocab: 8_000, ctx: 4_096, chain: true },
};
/** So many tokens of it take longer than an upgrade. */
export const SLOW_TOKENS = 3_500;
