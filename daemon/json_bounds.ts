/** How large a JSON text would become as values: counted before anything is made of it. */
import { RbeeError } from "../protocol/errors.ts";
import { MAX_JSON_DEPTH, MAX_JSON_MEMBERS } from "../protocol/limits.ts";

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** What a {@linkcode JsonCounter} allows. */
export interface JsonBounds {
  /** Lists, objects, texts, numbers and the rest together. */
  maxValues: number;
  /** Overrides {@linkcode MAX_JSON_DEPTH}. */
  maxDepth?: number;
  /** Of one object. Overrides {@linkcode MAX_JSON_MEMBERS}. */
  maxMembers?: number;
}

/**
 * Counts how deep, and how many values, a text is that comes in pieces. Whether it is JSON at all is not checked: of what
 * is not, nothing is made. Takes some nanoseconds a byte, and no memory that grows with the text.
 */
export class JsonCounter {
  readonly #maxValues: number;
  readonly #maxDepth: number;
  readonly #maxMembers: number;
  readonly #members: Uint32Array;
  #depth = 0;
  // Each value but the first comes after a bracket or a comma.
  #values = 1;
  #inString = false;
  #escaped = false;

  /** Nothing has come yet. */
  constructor(bounds: JsonBounds) {
    const { maxValues, maxDepth = MAX_JSON_DEPTH, maxMembers = MAX_JSON_MEMBERS } = bounds;
    this.#maxValues = maxValues;
    this.#maxDepth = maxDepth;
    this.#maxMembers = maxMembers;
    this.#members = new Uint32Array(maxDepth + 1);
  }

  /**
   * Counts on.
   *
   * @throws {RbeeError} `INVALID_REQUEST`; then it counts no more.
   */
  push(bytes: Uint8Array): void {
    let at = this.#inString ? this.#endOfString(bytes, 0) : 0;
    for (; at < bytes.length; at++) {
      switch (bytes[at]) {
        case QUOTE:
          at = this.#endOfString(bytes, at + 1) - 1;
          break;
        case OPEN_LIST:
        case OPEN_OBJECT:
          if (++this.#depth > this.#maxDepth) {
            throw tooMuch("depth", `is nested deeper than ${this.#maxDepth} levels`);
          }
          this.#members[this.#depth] = 0;
          this.#count();
          break;
        case CLOSE_LIST:
        case CLOSE_OBJECT:
          if (this.#depth > 0) this.#depth--;
          break;
        case COMMA:
          this.#count();
          break;
        case COLON:
          if (++this.#members[this.#depth] > this.#maxMembers) {
            throw tooMuch("members", `has an object of more than ${this.#maxMembers} members`);
          }
      }
    }
  }

  #count(): void {
    if (++this.#values > this.#maxValues) {
      throw tooMuch("values", `holds more than ${this.#maxValues} values`);
    }
  }

  /** Behind the closing quote of a string whose next byte is at `from`, or behind what has come of it. */
  #endOfString(bytes: Uint8Array, from: number): number {
    this.#inString = true;
    let start = from;
    if (this.#escaped && start < bytes.length) {
      this.#escaped = false;
      start++;
    }
    for (let end = start;;) {
      const quote = bytes.indexOf(QUOTE, end);
      const stop = quote < 0 ? bytes.length : quote;
      let backslashes = 0;
      while (stop - 1 - backslashes >= start && bytes[stop - 1 - backslashes] === BACKSLASH) backslashes++;
      const escaped = backslashes % 2 === 1;
      if (quote < 0) {
        this.#escaped = escaped;
        return stop;
      }
      if (!escaped) {
        this.#inString = false;
        return stop + 1;
      }
      end = stop + 1;
    }
  }
}

function tooMuch(constraint: string, message: string): RbeeError {
  return new RbeeError("INVALID_REQUEST", `The body ${message}.`, {
    details: { errors: [{ field: "", constraint, message }] },
  });
}
