/** Prompts of known lengths, different at each call, so that no program can have read them before. */
import { llamaVocab } from "../tests/helpers/gguf_vocab.ts";
import { TINY_LLAMA_1B } from "../tests/helpers/gguf_writer.ts";

/**
 * Words that are one token each for the 1.1B models: `▁` and three letters, in the order of their ids. Other spaces
 * and letters merge, so nothing else keeps its number of tokens for certain.
 */
const WORDS = llamaVocab(TINY_LLAMA_1B.vocab).tokens.filter((token) => /^▁[a-z]{3}$/.test(token))
  .map((token) => token.slice(1));

const STORY_WORDS = [
  "Tom",
  "Lily",
  "saw",
  "big",
  "red",
  "ball",
  "dog",
  "park",
  "was",
  "happy",
  "the",
  "play",
];

/** A prompt of `tokens` tokens for the 1.1B models, the one at the beginning of all texts among them. */
export function prompt(tokens: number): string {
  return random(WORDS, tokens - 1).join(" ");
}

/** A short prompt, about 8 tokens, for a model that writes stories. */
export function storyPrompt(): string {
  return random(STORY_WORDS, 7).join(" ");
}

/**
 * An edit for the chained model: a text of which blocks of ten words, 20 % of all, are other words than those that the
 * model will write, then the word that makes it write. Its answer of `words` tokens repeats the other 80 %.
 */
export function editPrompt(words: number): string {
  const start = 1 + Math.floor(Math.random() * (WORDS.length - words - 1));
  const answer = WORDS.slice(start, start + words);
  const text = answer.map((word, i) => i % 50 >= 20 && i % 50 < 30 ? random(WORDS, 1)[0] : word);
  return [...text, WORDS[start - 1]].join(" ");
}

/** Three words, after which the chained model writes `words` words that occur nowhere before. */
export function freshPrompt(words: number): string {
  const start = Math.floor(Math.random() * (WORDS.length - words - 3));
  return WORDS.slice(start, start + 3).join(" ");
}

function random<T>(from: readonly T[], count: number): T[] {
  return Array.from({ length: count }, () => from[Math.floor(Math.random() * from.length)]);
}
