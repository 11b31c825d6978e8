/**
 * Which tokens a text begins with, as far as workers have told. The queen has no tokeniser: a worker names the hashes of
 * a prompt's tokens when it takes it, and here is remembered which text they belong to. Another prompt that begins with
 * the same text probably begins with the same tokens.
 */
import { createHash } from "node:crypto";
import { longestOf } from "../placement/longest.ts";
import { RecentMap } from "../recent_map.ts";
import {
  PREFIX_BLOCKS_MAX,
  PREFIX_CHARS_MAX,
  PREFIX_STEP_CHARS,
  PREFIX_STEP_PART,
  PREFIXES_MAX,
  PREFIXES_PER_PROMPT_MAX,
} from "../limits.ts";

/** A prompt, cut where others may go on differently. */
export interface PromptText {
  /** For each beginning, the shortest first: its hash, and its length in characters. */
  readonly beginnings: readonly { hash: string; chars: number }[];
  readonly chars: number;
}

/**
 * What is asked of a model, in whatever interface's words: a text, or a conversation. Texts of different scopes have no
 * beginning in common: what one key asks says nothing of what another has asked.
 */
export function promptTextOf(
  model: string,
  what: { request: Record<string, unknown>; scope: string },
): PromptText {
  const { request, scope } = what;
  const { prompt, messages, input, system, instructions, tools } = request;
  const turns = Array.isArray(messages) ? messages : Array.isArray(input) ? input : undefined;
  if (turns === undefined) {
    const asked = prompt ?? input ?? "";
    const text = typeof asked === "string" ? asked : JSON.stringify(asked);
    return { beginnings: beginningsOf(stepsOf(text), { model, scope }), chars: text.length };
  }
  // A text never holds what stands between two of them here.
  const pieces = [system, instructions, tools].filter((part) => part !== undefined).concat(turns)
    .map((part) => `${JSON.stringify(part)}\u0000`);
  return {
    beginnings: beginningsOf(pieces.slice(0, PREFIXES_PER_PROMPT_MAX), { model, scope }),
    chars: pieces.reduce((sum, piece) => sum + piece.length, 0),
  };
}

function beginningsOf(
  pieces: Iterable<string>,
  of: { model: string; scope: string },
): PromptText["beginnings"] {
  const hash = createHash("sha256").update(`${of.scope}\u0000${of.model}\u0000`);
  const beginnings: { hash: string; chars: number }[] = [];
  let chars = 0;
  for (const piece of pieces) {
    chars += piece.length;
    hash.update(piece);
    beginnings.push({ hash: hash.copy().digest("base64"), chars });
  }
  return beginnings;
}

/** In steps that grow with what comes before them, so that a long text has few more than a short one. */
function* stepsOf(text: string): Generator<string> {
  const end = Math.min(text.length, PREFIX_CHARS_MAX);
  for (let at = 0; at < end;) {
    const chars = Math.max(PREFIX_STEP_CHARS, Math.floor(at / PREFIX_STEP_PART));
    yield text.slice(at, at + chars);
    at += chars;
  }
}

/** The hashes that a worker has told of one prompt, and how many beginnings they are remembered for. */
interface Told {
  readonly blocks: Float64Array;
  beginnings: number;
}

/** What was told. */
export class Prefixes {
  readonly #known = new RecentMap<string, { told: Told; count: number }>(Infinity);
  readonly #beginningsMax: number;
  readonly #blocksMax: number;
  #blocks = 0;

  /** Empty. */
  constructor(limits: { beginnings?: number; blocks?: number } = {}) {
    this.#beginningsMax = limits.beginnings ?? PREFIXES_MAX;
    this.#blocksMax = limits.blocks ?? PREFIX_BLOCKS_MAX;
  }

  /** Hashes that are remembered. */
  get blocks(): number {
    return this.#blocks;
  }

  /** A worker has named the hashes of a prompt's tokens. Shorter beginnings have about their part of them. */
  learn(text: PromptText, blocks: ArrayLike<number>): void {
    if (blocks.length === 0) return;
    const told: Told = { blocks: Float64Array.from(blocks), beginnings: text.beginnings.length };
    this.#blocks += blocks.length;
    // The shortest last, and so forgotten last.
    for (const { hash, chars } of text.beginnings.toReversed()) {
      this.#forget(this.#known.take(hash));
      this.#known.set(hash, { told, count: Math.floor(blocks.length * chars / text.chars) });
    }
    while (this.#known.size > this.#beginningsMax || this.#blocks > this.#blocksMax) {
      this.#forget(this.#known.takeOldest());
    }
  }

  /** The hashes that a prompt's tokens begin with, as far as they are known. */
  blocksOf({ beginnings }: PromptText): ArrayLike<number> {
    // Whatever is known of a text is known of all its shorter beginnings.
    const known = longestOf(beginnings.length, (count) => this.#known.has(beginnings[count - 1].hash));
    if (known === 0) return [];
    const { told, count } = this.#known.peek(beginnings[known - 1].hash)!;
    return told.blocks.subarray(0, count);
  }

  #forget(known: { told: Told } | undefined): void {
    if (known !== undefined && --known.told.beginnings === 0) this.#blocks -= known.told.blocks.length;
  }
}
