/**
 * Hashes of the beginnings of prompts, one for every {@linkcode BLOCK_TOKENS} tokens: who shares a hash with a prompt
 * holds that much of it in its KV cache. On the wire they stand as base64 of six bytes each, the highest first.
 */

/** Tokens that one more hash stands for. */
export const BLOCK_TOKENS = 32;

const BYTES = 6;
/** What is above a half is counted in these: shifts have 32 bits. */
const HALF = 2 ** 24;

/** To text. */
export function encodeBlocks(blocks: ArrayLike<number>): string {
  const bytes = new Uint8Array(blocks.length * BYTES);
  for (let i = 0; i < blocks.length; i++) {
    const high = Math.floor(blocks[i] / HALF);
    const low = blocks[i] % HALF;
    bytes.set([high >> 16, high >> 8, high, low >> 16, low >> 8, low], i * BYTES);
  }
  return bytes.toBase64();
}

/** From text; what is no base64 holds none. */
export function decodeBlocks(text: string): Float64Array {
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.fromBase64(text);
  } catch {
    return new Float64Array();
  }
  const blocks = new Float64Array(Math.floor(bytes.length / BYTES));
  for (let i = 0, at = 0; i < blocks.length; i++, at += BYTES) {
    const high = bytes[at] << 16 | bytes[at + 1] << 8 | bytes[at + 2];
    const low = bytes[at + 3] << 16 | bytes[at + 4] << 8 | bytes[at + 5];
    blocks[i] = high * HALF + low;
  }
  return blocks;
}
