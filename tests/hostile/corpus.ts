/**
 * The corpus of hostile input: of each kind the faults that were found, word for word, and any number that a generator
 * makes from a seed. `entryAt` gives the same entry for the same seed, kind and index; found ones come first.
 */
import { bodyEntry, completion, drawBody, drawProduct, fill, list, nested } from "./bodies.ts";
import { drawClosing, drawConnections, idleConnections } from "./connections.ts";
import { drawKiller, drawLongAnswer, longAnswer } from "./conversations.ts";
import { Draw } from "./draw.ts";
import { type Entry, jsonRequest, type Kind, KINDS, type Right } from "./entry.ts";
import { drawBounds, drawSlowGrammar, grammarRequest } from "./grammars.ts";
import { schemaRequests } from "./schemas.ts";
import {
  drawTemplate,
  drawVocabulary,
  ofKind,
  templateEntry,
  tokenRenamed,
  vocabularyEntry,
} from "./models.ts";
import { drawState, kvWord, triggerPattern } from "./states.ts";
import { drawText, drawTextEntry, TEXT_WAYS } from "./texts.ts";

interface KindOfInput {
  readonly found: (draw: Draw) => readonly Entry[];
  readonly draw: (draw: Draw) => Entry;
}

const MEGABYTE = 1024 * 1024;
const EMOJI = "😀".repeat(MEGABYTE / 4);
const STREAM_OF_FOUND = 1_000;

const CORPUS: Readonly<Record<Kind, KindOfInput>> = {
  A1: {
    found: (draw) => [
      ...Object.entries(TEXT_WAYS).map(([way, request]) => request(EMOJI, `${way}: 1 MB of emoji`)),
      TEXT_WAYS.tokenize("中文字".repeat(MEGABYTE / 9), "1 MB of CJK"),
      TEXT_WAYS.count_tokens("中文字".repeat(MEGABYTE / 9), "1 MB of CJK, counted"),
      TEXT_WAYS.tokenize(drawText(draw, MEGABYTE / 3).text, "1 MB of mixed scripts"),
      right("answered", TEXT_WAYS.tokenize("Once upon a time", "plain text")),
    ],
    draw: drawTextEntry,
  },
  A2: {
    found: () => [
      grammarRequest("root ::= ([^\\x00]?){1000}", "a thousand optional characters"),
      grammarRequest(`root ::= ${'"a"? '.repeat(400)}"b"`, "four hundred optional letters"),
      right("answered", grammarRequest('root ::= "a" [b-d]{1,20}', "a plain grammar")),
    ],
    draw: drawSlowGrammar,
  },
  A3: {
    found: () => [
      right("refused", grammarRequest('root ::= "a"{2,1}', "more at least than at most")),
      ...schemaRequests({ type: "string", minLength: 2, maxLength: 1 }, "a string of reversed lengths"),
      ...schemaRequests(
        { type: "array", items: { type: "null" }, minItems: 2, maxItems: 1 },
        "an array of reversed lengths",
      ),
      ...schemaRequests({ type: "string", pattern: "^a{2,1}$" }, "a pattern of reversed bounds"),
    ],
    draw: drawBounds,
  },
  A4: { found: () => [], draw: drawKiller },
  A5: {
    found: () => [
      bodyEntry("prompt", "5 million empty arrays", () => list("[]", 15_000_000)),
      bodyEntry("messages", "5 million empty arrays", () => list("[]", 15_000_000)),
      bodyEntry("unknown_field", "5 million empty objects", () => list("{}", 15_000_000)),
      bodyEntry("unknown_field", "a million levels", () => nested("[", "]", 1_000_000)),
    ],
    draw: drawBody,
  },
  A6: {
    found: (draw) => [
      jsonRequest(completion(draw, { prompt: fill("a", 100_000), n: 128 })),
      jsonRequest(completion(draw, { prompt: fill("a", 1_000_000) })),
    ],
    draw: drawProduct,
  },
  A7: { found: () => [idleConnections(187), idleConnections(1_000)], draw: drawConnections },
  A8: {
    found: () => [
      ...[0, 4, 8, 12, 16, 20].map((offset) => ({
        act: "state" as const,
        name: `0x7fffffff at ${offset}`,
        right: "either" as const,
        tamper: kvWord(offset, 0x7fff_ffff),
      })),
      {
        act: "state",
        name: "a trigger of 100,000 parentheses",
        right: "either",
        tamper: triggerPattern(nested("(", ")", 100_000, "a")),
      },
      { act: "state", name: "as it was", right: "answered", tamper: (state) => state },
    ],
    draw: drawState,
  },
  A9: {
    found: (draw) => [
      templateEntry("a billion times", "{% for i in range(1000000000) %}{% endfor %}", draw),
      templateEntry("a billion letters", "{% for i in range(1000000000) %}x{% endfor %}", draw),
      templateEntry(
        "doubling",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        draw,
      ),
      templateEntry(
        "8,000 conditions in each other",
        "{% if true %}".repeat(8_000) + "x" + "{% endif %}".repeat(8_000),
        draw,
      ),
      right(
        "answered",
        templateEntry("a plain template", "{% for m in messages %}{{ m['content'] }}{% endfor %}", draw),
      ),
    ],
    draw: drawTemplate,
  },
  A10: {
    found: (draw) => [
      vocabularyEntry("the token of byte 1 renamed", tokenRenamed(4, "renamed"), draw),
      vocabularyEntry("the token of byte 10 renamed", tokenRenamed(13, "renamed"), draw),
      right("answered", vocabularyEntry("a plain vocabulary", (good) => good, draw)),
      vocabularyEntry("words for a tokeniser that wants bytes", ofKind("rwkv"), draw),
    ],
    draw: drawVocabulary,
  },
  A11: { found: () => [], draw: drawClosing },
  A12: {
    found: (draw) => ["required_tool", "chat_with_tools"].map((way) => longAnswer(way, draw.scaled(32_000))),
    draw: drawLongAnswer,
  },
};

/** How many entries of a kind were found, and stand before those that are made. */
export function foundCount(kind: Kind): number {
  return found(kind, { seed: 1 }).length;
}

/** Entry `index` of a kind. */
export function entryAt(kind: Kind, at: { seed: number; index: number; scale?: number }): Entry {
  const known = found(kind, at);
  if (at.index < known.length) return known[at.index];
  return CORPUS[kind].draw(new Draw({ ...at, stream: streamOf(kind) }));
}

function found(kind: Kind, { seed, scale }: { seed: number; scale?: number }): readonly Entry[] {
  return CORPUS[kind].found(new Draw({ seed, scale, stream: STREAM_OF_FOUND + streamOf(kind), index: 0 }));
}

function streamOf(kind: Kind): number {
  return Object.keys(KINDS).indexOf(kind);
}

function right<E extends Entry>(right: Right, entry: E): E {
  return { ...entry, right };
}
