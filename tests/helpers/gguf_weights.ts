// Random weights without memory: every tensor is a window onto one seeded block of about a mebibyte.

import { GGML_TYPES, type GgmlType } from "./gguf_format.ts";

const POOL_BYTES = 1 << 20;

/** Standard deviation of the integers below, by which the wanted one is divided to get a block's scale. */
const Q8_0_DEVIATION = Math.sqrt((255 * 255 - 1) / 12);
const Q4_0_DEVIATION = Math.sqrt(2 * (1 + 4 + 9 + 16 + 25 + 36 + 49) / 16);

/** A repeatable stream of 32-bit numbers. The algorithm is mulberry32. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}

/**
 * Zero-mean random blocks of one type, of which tensors take windows.
 *
 * The number of blocks is prime, so that rows (whose lengths are not) come round at ever other places and no
 * two rows of a tensor are equal.
 */
export class WeightPool {
  readonly type: GgmlType;
  #bytes: Uint8Array;
  #blockCount: number;

  /** `deviation` is the standard deviation of the weights: 1/√(row length) keeps activations at one. */
  constructor(type: GgmlType, options: { deviation: number; seed: number }) {
    this.type = type;
    const { blockBytes } = GGML_TYPES[type];
    this.#blockCount = largestPrimeUpTo(Math.floor(POOL_BYTES / blockBytes));
    this.#bytes = new Uint8Array(this.#blockCount * blockBytes);
    fillBlocks(this.#bytes, { type, ...options });
  }

  /** `byteLength` bytes (whole blocks) from block number `start` (taken modulo the pool) on. */
  *window(start: number, byteLength: number): Generator<Uint8Array> {
    let at = start % this.#blockCount * GGML_TYPES[this.type].blockBytes;
    for (let left = byteLength; left > 0;) {
      const piece = this.#bytes.subarray(at, Math.min(at + left, this.#bytes.length));
      yield piece;
      left -= piece.length;
      at = 0;
    }
  }
}

function fillBlocks(
  bytes: Uint8Array,
  options: { type: GgmlType; deviation: number; seed: number },
): void {
  const { type, deviation } = options;
  const random = seededRandom(options.seed);
  const view = new DataView(bytes.buffer);
  const { blockBytes } = GGML_TYPES[type];
  // Uniform in ±1 has a deviation of 1/√3.
  const uniform = () => (random() / 2 ** 31 - 1) * Math.sqrt(3) * deviation;
  for (let at = 0; at < bytes.length; at += blockBytes) {
    switch (type) {
      case "F32":
        view.setFloat32(at, uniform(), true);
        break;
      case "F16":
        view.setFloat16(at, uniform(), true);
        break;
      case "Q8_0":
        view.setFloat16(at, deviation / Q8_0_DEVIATION, true);
        for (let i = 2; i < blockBytes; i += 4) view.setUint32(at + i, random(), true);
        break;
      case "Q4_0":
        view.setFloat16(at, deviation / Q4_0_DEVIATION, true);
        for (let i = 2; i < blockBytes; i += 4) view.setUint32(at + i, withoutZeroNibbles(random()), true);
        break;
    }
  }
}

/** Nibble 0 means -8 with no +8 to match it; turned into 8 (which means 0), the mean stays at zero. */
function withoutZeroNibbles(word: number): number {
  for (let shift = 0; shift < 32; shift += 4) {
    if (((word >>> shift) & 15) === 0) word |= 8 << shift;
  }
  return word >>> 0;
}

function largestPrimeUpTo(limit: number): number {
  for (let candidate = limit;; candidate--) {
    let divisor = 2;
    while (divisor * divisor <= candidate && candidate % divisor !== 0) divisor++;
    if (divisor * divisor > candidate) return candidate;
  }
}
