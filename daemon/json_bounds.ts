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

/** What {@linkcode requireBoundedJson} allows. */
export interface JsonBounds {
  /** Lists, objects, texts, numbers and the rest together. */
  maxValues: number;
  /** Overrides {@linkcode MAX_JSON_DEPTH}. */
  maxDepth?: number;
  /** Of one object. Overrides {@linkcode MAX_JSON_MEMBERS}. */
  maxMembers?: number;
}

/**
 * Checks how deep, and how many values, the text in `bytes` is. Whether it is JSON at all is not checked: of what is
 * not, nothing is made. Takes some nanoseconds a byte, and no memory that grows with the text.
 *
 * @throws {RbeeError} `INVALID_REQUEST`.
 */
export function requireBoundedJson(bytes: Uint8Array, bounds: JsonBounds): void {
  const { maxValues, maxDepth = MAX_JSON_DEPTH, maxMembers = MAX_JSON_MEMBERS } = bounds;
  const members = new Uint32Array(maxDepth + 1);
  let depth = 0;
  // Each value but the first comes after a bracket or a comma.
  let values = 1;
  for (let at = 0; at < bytes.length; at++) {
    switch (bytes[at]) {
      case QUOTE:
        at = endOfString(bytes, at + 1);
        break;
      case OPEN_LIST:
      case OPEN_OBJECT:
        if (++depth > maxDepth) throw tooMuch("depth", `is nested deeper than ${maxDepth} levels`);
        members[depth] = 0;
        if (++values > maxValues) throw tooManyValues(maxValues);
        break;
      case CLOSE_LIST:
      case CLOSE_OBJECT:
        if (depth > 0) depth--;
        break;
      case COMMA:
        if (++values > maxValues) throw tooManyValues(maxValues);
        break;
      case COLON:
        if (++members[depth] > maxMembers) {
          throw tooMuch("members", `has an object of more than ${maxMembers} members`);
        }
    }
  }
}

/** Where the string that begins at `from` has its closing quote, or the end of the text. */
function endOfString(bytes: Uint8Array, from: number): number {
  let end = from;
  for (;;) {
    end = bytes.indexOf(QUOTE, end);
    if (end < 0) return bytes.length;
    let backslashes = 0;
    while (end - 1 - backslashes >= from && bytes[end - 1 - backslashes] === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return end;
    end++;
  }
}

function tooManyValues(maxValues: number): RbeeError {
  return tooMuch("values", `holds more than ${maxValues} values`);
}

function tooMuch(constraint: string, message: string): RbeeError {
  return new RbeeError("INVALID_REQUEST", `The body ${message}.`, {
    details: { errors: [{ field: "", constraint, message }] },
  });
}
