/**
 * Beginnings of prompts that the owner has declared as known to all keys (`queen.common_prefixes`). Which request begins
 * with one is found here; a worker then reuses what it has computed of it, and nothing behind it, for whoever asks.
 */
import { createHash } from "node:crypto";
import type { Config } from "../home/config_schema.ts";
import { matchesModel } from "../protocol/key_schemas.ts";
import { type CommonText, formatCommonText } from "../protocol/relay_schemas.ts";

type Declared = Config["queen"]["common_prefixes"][number];

/** See above. */
export class CommonPrefixes {
  #longestFirst: readonly (Declared & CommonText)[] = [];

  /** Nothing is common but these. */
  constructor(declared: readonly Declared[]) {
    this.configure(declared);
  }

  /** Takes others. */
  configure(declared: readonly Declared[]): void {
    this.#longestFirst = declared.map((one) => ({
      ...one,
      chars: one.text.length,
      sha256: createHash("sha256").update(one.text).digest("hex"),
    })).sort((a, b) => b.chars - a.chars);
  }

  /** The header for a request that starts with a common prefix; undefined if it does not. */
  headerFor(model: string, request: Readonly<Record<string, unknown>>): string | undefined {
    if (this.#longestFirst.length === 0) return undefined;
    const first = firstTextOf(request);
    if (first === undefined) return undefined;
    const common = this.#longestFirst.find(({ text, models }) =>
      first.startsWith(text) && (models === undefined || models.some((one) => matchesModel(one, model)))
    );
    return common && formatCommonText(common);
  }
}

/** The text that a request's prompt begins with, in whatever interface's words. */
function firstTextOf(request: Readonly<Record<string, unknown>>): string | undefined {
  const { prompt, system, instructions, messages, input } = request;
  const turns = Array.isArray(messages) ? messages : Array.isArray(input) ? input : [];
  for (const one of [prompt, system, instructions, turns[0]?.content, input]) {
    const text = Array.isArray(one) ? one[0]?.text : one;
    if (typeof text === "string" && text !== "") return text;
  }
}
