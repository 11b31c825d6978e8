// A made-up sentencepiece vocabulary in which every text can be written.

/** What the tokenizer keys of a GGUF need: three parallel arrays, index = token id. */
export interface LlamaVocab {
  readonly tokens: readonly string[];
  readonly scores: readonly number[];
  readonly types: readonly number[];
}

/** `<unk>`, `<s>`, `</s>` and one token for each byte: with fewer, some text has no tokens. */
export const MIN_VOCAB_TOKENS = 3 + 256;

/** Token ids that every vocabulary of ours has. */
export const UNKNOWN_TOKEN_ID = 0;
export const BEGIN_TOKEN_ID = 1;
export const END_TOKEN_ID = 2;

const TYPE_NORMAL = 1;
const TYPE_UNKNOWN = 2;
const TYPE_CONTROL = 3;
const TYPE_BYTE = 6;

const LETTERS = [..."etaoinshrdlucmfwypvbgkqjxz"];

/** `size` tokens: special ones, bytes, then made-up pieces, each reachable by merging two others. */
export function llamaVocab(size: number): LlamaVocab {
  if (!Number.isInteger(size) || size < MIN_VOCAB_TOKENS) {
    throw new RangeError(
      `Cannot make a vocabulary of ${size} tokens: at least ${MIN_VOCAB_TOKENS} are needed`,
    );
  }
  const tokens = ["<unk>", "<s>", "</s>"];
  const types = [TYPE_UNKNOWN, TYPE_CONTROL, TYPE_CONTROL];
  for (let byte = 0; byte < 256; byte++) {
    tokens.push(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
    types.push(TYPE_BYTE);
  }
  for (const piece of pieces()) {
    if (tokens.length === size) break;
    tokens.push(piece);
    types.push(TYPE_NORMAL);
  }
  // Sentencepiece merges the pair with the highest score first: shorter, commoner pieces come earlier.
  const scores = tokens.map((_, id) => Math.min(0, MIN_VOCAB_TOKENS - id));
  return { tokens, scores, types };
}

/** Never ends. `▁` stands for a space. */
function* pieces(): Generator<string> {
  yield "▁";
  for (let code = 33; code < 127; code++) yield String.fromCharCode(code);
  // More than one byte each, so that small vocabularies too have tokens that are not ASCII.
  yield* ["é", "ü", "日", "🙂"];
  let stems = LETTERS;
  while (true) {
    for (const stem of stems) yield `▁${stem}`;
    const longer = stems.flatMap((stem) => LETTERS.map((letter) => stem + letter));
    yield* longer;
    stems = longer;
  }
}
