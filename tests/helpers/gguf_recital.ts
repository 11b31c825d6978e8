// A model that recites: whatever the prompt, the greedy answer is one text. So two servers can be asked what they make
// of the same answer.

import { ggufArray, type GgufParts, type GgufTensor, writeRawGguf } from "./gguf_format.ts";
import { END_TOKEN_ID, llamaVocab, MIN_VOCAB_TOKENS } from "./gguf_vocab.ts";
import { seededRandom } from "./gguf_weights.ts";
import { llamaGgufParts } from "./gguf_writer.ts";

/** Wide enough that some hundred random directions are nearly at right angles. */
const EMBD = 256;
/** Pieces shorter than this could come of a prompt's own text, and the answer would begin in the middle. */
const MIN_PIECE_CHARS = 3;
/** Of the right logit, all others being nearly zero. */
const CERTAINTY = 40;

/** Writes a model that answers everything with `text`, which has to have three characters at least. */
export async function writeRecitalGguf(path: string, text: string, ctx: number): Promise<void> {
  const pieces = uniquePieces(text);
  await writeRawGguf(path, recitalParts(pieces, ctx));
}

/** Cuts a text into pieces no two of which are equal. */
function uniquePieces(text: string): string[] {
  const characters = [...text];
  const pieces: string[] = [];
  const seen = new Set<string>(llamaVocab(MIN_VOCAB_TOKENS).tokens);
  let piece = "";
  for (const character of characters) {
    piece += character;
    if ([...piece].length < MIN_PIECE_CHARS || seen.has(piece)) continue;
    seen.add(piece);
    pieces.push(piece);
    piece = "";
  }
  // What is left belongs to the piece before it.
  while (piece !== "" && (seen.has(piece) || [...piece].length < MIN_PIECE_CHARS)) {
    piece = (pieces.pop() ?? "") + piece;
  }
  return piece === "" ? pieces : [...pieces, piece];
}

function recitalParts(pieces: readonly string[], ctx: number): GgufParts {
  const vocab = MIN_VOCAB_TOKENS + pieces.length;
  const parts = llamaGgufParts({
    ...{ layers: 1, embd: EMBD, heads: 4, ff: 64, type: "F32", name: "recital" },
    ...{ vocab, ctx, chain: true },
  });
  const { tokens, scores, types } = llamaVocab(MIN_VOCAB_TOKENS);
  const normal = 1;
  const replaced: Record<string, ReturnType<typeof ggufArray>> = {
    "tokenizer.ggml.tokens": ggufArray("str", [
      ...tokens,
      ...pieces.map((piece) => piece.replaceAll(" ", "▁")),
    ]),
    "tokenizer.ggml.scores": ggufArray("f32", [...scores, ...pieces.map(() => -1000)]),
    "tokenizer.ggml.token_type": ggufArray("i32", [...types, ...pieces.map(() => normal)]),
  };
  const { embeddings, outputs } = chain(pieces.length, vocab);
  const data: Record<string, Float32Array> = { "token_embd.weight": embeddings, "output.weight": outputs };
  return {
    ...parts,
    metadata: parts.metadata.map(([key, value]) => [key, replaced[String(key)] ?? value] as const),
    tensors: parts.tensors.map((tensor): GgufTensor => {
      const rows = data[tensor.name];
      return rows === undefined ? tensor : { ...tensor, data: () => [new Uint8Array(rows.buffer)] };
    }),
  };
}

/** Every token of a prompt points to the first piece, each piece to the next, the last to the end. */
function chain(pieces: number, vocab: number): { embeddings: Float32Array; outputs: Float32Array } {
  const random = seededRandom(1);
  const directions = Array.from({ length: pieces + 1 }, () => {
    const direction = Float32Array.from({ length: EMBD }, () => random() / 2 ** 31 - 1);
    const length = Math.hypot(...direction);
    return direction.map((value) => value / length);
  });
  const embeddings = new Float32Array(vocab * EMBD);
  const outputs = new Float32Array(vocab * EMBD);
  const put = (rows: Float32Array, token: number, what: { direction: Float32Array; scale: number }) =>
    rows.set(what.direction.map((value) => value * what.scale), token * EMBD);
  // The norm before the output brings a state to a length of √EMBD.
  const scale = CERTAINTY / Math.sqrt(EMBD);
  for (let token = 0; token < MIN_VOCAB_TOKENS; token++) {
    put(embeddings, token, { direction: directions[0], scale: 1 });
  }
  for (let i = 0; i < pieces; i++) {
    put(embeddings, MIN_VOCAB_TOKENS + i, { direction: directions[i + 1], scale: 1 });
    put(outputs, MIN_VOCAB_TOKENS + i, { direction: directions[i], scale });
  }
  put(outputs, END_TOKEN_ID, { direction: directions[pieces], scale });
  return { embeddings, outputs };
}
