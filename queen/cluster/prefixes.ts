/**
 * Which tokens a text begins with, as far as workers have told. The queen has no tokeniser: a worker names the hashes of
 * a prompt's tokens when it takes it, and here is remembered which text they belong to. Another prompt that begins with
 * the same text probably begins with the same tokens.
 */
import { createHash } from "node:crypto";
import { RecentMap } from "../recent_map.ts";
import { PREFIX_STEP_CHARS, PREFIXES_MAX, PREFIXES_PER_PROMPT_MAX } from "../limits.ts";

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
  const pieces = turns !== undefined
    ? [system, instructions, tools].filter((part) => part !== undefined).concat(turns).map((part) =>
      JSON.stringify(part)
    )
    : stepsOf(
      typeof prompt === "string" ? prompt : typeof input === "string" ? input : JSON.stringify(prompt ?? ""),
    );
  const hash = createHash("sha256").update(scope).update("\u0000").update(model);
  const beginnings: { hash: string; chars: number }[] = [];
  let chars = 0;
  for (const piece of pieces.slice(0, PREFIXES_PER_PROMPT_MAX)) {
    chars += piece.length;
    hash.update("\u0000").update(piece);
    beginnings.push({ hash: hash.copy().digest("base64"), chars });
  }
  return { beginnings, chars: pieces.reduce((sum, piece) => sum + piece.length, 0) };
}

function stepsOf(text: string): string[] {
  const steps: string[] = [];
  for (let at = 0; at < text.length; at += PREFIX_STEP_CHARS) {
    steps.push(text.slice(at, at + PREFIX_STEP_CHARS));
  }
  return steps;
}

/** What was told. */
export class Prefixes {
  readonly #known = new RecentMap<string, { blocks: readonly number[]; count: number }>(PREFIXES_MAX);

  /** A worker has named the hashes of a prompt's tokens. Shorter beginnings have about their part of them. */
  learn(text: PromptText, blocks: readonly number[]): void {
    for (const { hash, chars } of text.beginnings) {
      this.#known.set(hash, { blocks, count: Math.floor(blocks.length * chars / text.chars) });
    }
  }

  /** The hashes that a prompt's tokens begin with, as far as they are known. */
  blocksOf(text: PromptText): readonly number[] {
    for (let i = text.beginnings.length - 1; i >= 0; i--) {
      const known = this.#known.get(text.beginnings[i].hash);
      if (known !== undefined && known.count > 0) return known.blocks.slice(0, known.count);
    }
    return [];
  }
}
