/**
 * Hashes of prompts' beginnings as a set: between 11 and 22 bytes for each, outside JavaScript's heap, where a `Set` takes
 * some 40 inside of it. A hash table with open addressing; nothing is taken out of it, a worker tells all that it holds
 * anew.
 */
const EMPTY = -1;
/** Filled up to this before it grows. */
const FILL_MAX = 0.75;
const NOTHING = new Float64Array(1).fill(EMPTY);
/** Hives name the hashes: which of them meet in one place must not be known to them. */
const [LOW_FACTOR, HIGH_FACTOR] = crypto.getRandomValues(new Uint32Array(2)).map((factor) => factor | 1);

/** See above. Holds whole numbers from 0. */
export class BlockSet {
  #places = NOTHING;
  #size = 0;

  /** With what stands in a list. */
  constructor(blocks: ArrayLike<number> = []) {
    this.addAll(blocks);
  }

  get size(): number {
    return this.#size;
  }

  has(block: number): boolean {
    return this.#places[this.#placeOf(block)] === block;
  }

  /** Puts all of a list in. */
  addAll(blocks: ArrayLike<number>): void {
    this.#makeRoom(this.#size + blocks.length);
    for (let i = 0; i < blocks.length; i++) this.#add(blocks[i]);
  }

  #add(block: number): void {
    const place = this.#placeOf(block);
    if (this.#places[place] === block) return;
    this.#places[place] = block;
    this.#size++;
  }

  /** Where it is, or would be. */
  #placeOf(block: number): number {
    const last = this.#places.length - 1;
    const mixed = Math.imul(block >>> 0, LOW_FACTOR) ^ Math.imul(block / 2 ** 32, HIGH_FACTOR);
    let place = last === 0 ? 0 : mixed >>> Math.clz32(last);
    while (this.#places[place] !== block && this.#places[place] !== EMPTY) place = (place + 1) & last;
    return place;
  }

  #makeRoom(size: number): void {
    if (size <= this.#places.length * FILL_MAX) return;
    const before = this.#places;
    this.#places = new Float64Array(2 ** Math.ceil(Math.log2(size / FILL_MAX))).fill(EMPTY);
    this.#size = 0;
    for (const block of before) if (block !== EMPTY) this.#add(block);
  }
}
