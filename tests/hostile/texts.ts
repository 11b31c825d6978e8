/** A1: text that is hard to tokenise, by every route that tokenises. */
import { FOREIGN_ROUTES, WORKER_ROUTES } from "../../protocol/routes.ts";
import { type Draw, repeated } from "./draw.ts";
import { jsonRequest, type RequestEntry } from "./entry.ts";

const between = (first: number, last: number) => (draw: Draw) =>
  String.fromCodePoint(draw.integer(first, last));
const oneOf = (...units: string[]) => (draw: Draw) => draw.pick(units);

/** What text is made of: each makes one unit. */
export const SCRIPTS: Readonly<Record<string, (draw: Draw) => string>> = {
  emoji: between(0x1f600, 0x1f64f),
  flags: (draw) => between(0x1f1e6, 0x1f1ff)(draw) + between(0x1f1e6, 0x1f1ff)(draw),
  families: oneOf("👨‍👩‍👧‍👦", "👩🏽‍🚀", "🏳️‍🌈", "🧑🏿‍🤝‍🧑🏻", "❤️‍🔥"),
  joiners: oneOf("\u200d", "\u200c", "\ufe0f", "\u20e3", "\u2060"),
  han: between(0x4e00, 0x9fff),
  rare_han: between(0x20000, 0x2a6df),
  kana: between(0x3041, 0x30ff),
  hangul: between(0xac00, 0xd7a3),
  jamo: between(0x1100, 0x1112),
  cyrillic: between(0x410, 0x44f),
  arabic: between(0x621, 0x64a),
  devanagari: between(0x904, 0x94d),
  thai: between(0xe01, 0xe3a),
  zalgo: (draw) => "e" + between(0x300, 0x36f)(draw).repeat(draw.integer(1, 30)),
  marks: between(0x300, 0x36f),
  spaces: oneOf(" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2028"),
  one_space: oneOf(" "),
  digits: between(0x30, 0x39),
  letters: between(0x61, 0x7a),
  one_letter: oneOf("a"),
  signs: oneOf("=", "-", "_", "#", "'", "''", "...", "(", ")", "\\", '"'),
  special: oneOf("<|end|>", "<|user|>", "<|assistant|>", "<s>", "</s>", "<unk>", "[INST]", "<|im_start|>"),
  nearly_special: oneOf("<", "<|", "<|e", "<|end", "<|end|", "|>", "<0x41>", "<0xE2>", "▁", "Ġ"),
  controls: (draw) => String.fromCharCode(draw.integer(0, 31)),
  private_use: between(0xe000, 0xf8ff),
  noncharacters: oneOf("\ufffe", "\uffff", "\u{1fffe}", "\u{10ffff}", "\ufeff", "\ufffd"),
  lone_surrogates: (draw) => String.fromCharCode(draw.integer(0xd800, 0xdfff)),
  words: oneOf("once ", "upon ", "a ", "time ", "Lily ", "garden ", "the ", "was "),
};

/** So few different units that runs of the same one come about. */
const MOST_DIFFERENT_UNITS = 64;

/** Text of up to four scripts: in runs, or mixed unit by unit. */
export function drawText(draw: Draw, characters: number): { name: string; text: string } {
  const names = draw.list(draw.integer(1, 4), () => draw.pick(Object.keys(SCRIPTS)));
  const units = names.map((name) => draw.list(draw.size(1, MOST_DIFFERENT_UNITS), () => SCRIPTS[name](draw)));
  if (draw.chance(40)) {
    return { name: `mixed ${names.join(", ")}`, text: draw.text(units.flat(), characters) };
  }
  const each = Math.ceil(characters / names.length);
  const runs = units.map((some) => draw.chance(50) ? repeated(some[0], each) : draw.text(some, each));
  return { name: `runs of ${names.join(", ")}`, text: runs.join("") };
}

const MAX_TEXT_CHARACTERS = 1024 * 1024;
const SHORT = { max_tokens: 4, temperature: 0 };

/** The ways by which text comes to be tokenised. */
export const TEXT_WAYS: Readonly<Record<string, (text: string, name: string) => RequestEntry>> = {
  tokenize: (content, name) =>
    jsonRequest({ name, path: FOREIGN_ROUTES.tokenize.path, json: () => ({ content, add_special: true }) }),
  tokenize_plain: (content, name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.tokenize.path,
      json: () => ({ content, parse_special: false }),
    }),
  tokenize_with_pieces: (content, name) =>
    jsonRequest({ name, path: FOREIGN_ROUTES.tokenize.path, json: () => ({ content, with_pieces: true }) }),
  count_tokens: (content, name) =>
    jsonRequest({ name, path: FOREIGN_ROUTES.countTokens.path, json: () => ({ messages: [user(content)] }) }),
  apply_template: (content, name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.applyTemplate.path,
      json: () => ({ messages: [user(content)] }),
    }),
  prompt: (prompt, name) =>
    jsonRequest({
      name,
      path: WORKER_ROUTES.inference.path,
      json: () => ({ prompt, ...SHORT }),
      generates: true,
    }),
  token_array: (text, name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.completions.path,
      json: () => ({ prompt: [5, text, 6, text.slice(0, 100), 7], ...SHORT }),
      generates: true,
    }),
  several_prompts: (text, name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.completions.path,
      json: () => ({ prompt: quarters(text), ...SHORT }),
      generates: true,
    }),
  chat: (content, name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.chatCompletions.path,
      json: () => ({ messages: [user(content)], ...SHORT }),
      generates: true,
    }),
  logit_bias: (text, name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.completions.path,
      json: () => ({ prompt: "a", logit_bias: [[text, 1]], ...SHORT }),
      generates: true,
    }),
  messages: (content, name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.messages.path,
      json: () => ({ messages: [user(content)], max_tokens: 4 }),
      generates: true,
    }),
  ollama: (prompt, name) =>
    jsonRequest({
      name,
      path: FOREIGN_ROUTES.ollamaGenerate.path,
      json: () => ({ model: "any", prompt, raw: true, options: { num_predict: 4 } }),
      generates: true,
    }),
  embeddings: (input, name) =>
    jsonRequest({
      name,
      ground: "embeddings",
      path: FOREIGN_ROUTES.embeddings.path,
      json: () => ({ input }),
    }),
  embeddings_list: (text, name) =>
    jsonRequest({
      name,
      ground: "embeddings",
      path: FOREIGN_ROUTES.embeddings.path,
      json: () => ({ input: [5, text, 6] }),
    }),
  token_embeddings: (text, name) =>
    jsonRequest({
      name,
      ground: "embeddings",
      path: FOREIGN_ROUTES.tokenEmbeddings.path,
      json: () => ({ input: quarters(text) }),
    }),
  rerank: (text, name) =>
    jsonRequest({
      name,
      ground: "ranking",
      path: FOREIGN_ROUTES.rerank.path,
      json: () => ({ query: text.slice(0, 10_000), documents: quarters(text) }),
    }),
  ollama_embed: (input, name) =>
    jsonRequest({
      name,
      ground: "embeddings",
      path: FOREIGN_ROUTES.ollamaEmbed.path,
      json: () => ({ model: "any", input }),
    }),
};

/** One request that has text tokenised. */
export function drawTextEntry(draw: Draw): RequestEntry {
  const way = draw.pick(Object.keys(TEXT_WAYS));
  const { name, text } = drawText(draw, draw.size(1_000, MAX_TEXT_CHARACTERS));
  return TEXT_WAYS[way](text, `${way}: ${text.length} characters, ${name}`);
}

function user(content: string) {
  return { role: "user", content };
}

function quarters(text: string): string[] {
  const length = Math.ceil(text.length / 4);
  return [0, 1, 2, 3].map((i) => text.slice(i * length, (i + 1) * length));
}
