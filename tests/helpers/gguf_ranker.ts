// A made-up ranking model: a small BERT with a classification head, whose scores are as random as its weights.

import {
  ggufArray,
  ggufScalar,
  type GgufTensor,
  type GgufValue,
  tensorBytes,
  writeRawGguf,
} from "./gguf_format.ts";
import { WeightPool } from "./gguf_weights.ts";

const EMBD = 64;
const HEADS = 2;
const FF = 128;
const CTX = 256;

const SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const LETTERS = [..."abcdefghijklmnopqrstuvwxyz0123456789.,?"];
/** Words begin with this mark in a file; pieces inside of words have none. */
const TOKENS = [...SPECIAL, ...LETTERS.map((letter) => `▁${letter}`), ...LETTERS];

/** Writes one. */
export async function writeRankerGguf(path: string): Promise<void> {
  await writeRawGguf(path, { metadata: metadata(), tensors: tensors() });
}

function metadata(): [string, GgufValue][] {
  const u32 = (value: number) => ggufScalar("u32", value);
  const normal = 1;
  const control = 3;
  return [
    ["general.architecture", ggufScalar("str", "bert")],
    ["general.name", ggufScalar("str", "made-up ranker")],
    ["bert.block_count", u32(1)],
    ["bert.context_length", u32(CTX)],
    ["bert.embedding_length", u32(EMBD)],
    ["bert.feed_forward_length", u32(FF)],
    ["bert.attention.head_count", u32(HEADS)],
    ["bert.attention.layer_norm_epsilon", ggufScalar("f32", 1e-12)],
    ["bert.attention.causal", ggufScalar("bool", false)],
    ["bert.pooling_type", u32(4)],
    ["tokenizer.ggml.token_type_count", u32(2)],
    ["tokenizer.ggml.model", ggufScalar("str", "bert")],
    ["tokenizer.ggml.pre", ggufScalar("str", "bert-bge")],
    ["tokenizer.ggml.tokens", ggufArray("str", TOKENS)],
    [
      "tokenizer.ggml.token_type",
      ggufArray("i32", TOKENS.map((_, i) => i < SPECIAL.length ? control : normal)),
    ],
    ["tokenizer.ggml.padding_token_id", u32(0)],
    ["tokenizer.ggml.unknown_token_id", u32(1)],
    ["tokenizer.ggml.bos_token_id", u32(2)],
    ["tokenizer.ggml.cls_token_id", u32(2)],
    ["tokenizer.ggml.eos_token_id", u32(3)],
    ["tokenizer.ggml.seperator_token_id", u32(3)],
    ["tokenizer.ggml.mask_token_id", u32(4)],
  ];
}

function tensors(): GgufTensor[] {
  const pool = new WeightPool("F32", { deviation: 1 / Math.sqrt(EMBD), seed: 1 });
  let start = 0;
  const random = (name: string, dims: readonly [number, ...number[]]): GgufTensor => {
    const byteLength = tensorBytes("F32", dims);
    const from = start += 7919;
    return { name, dims, type: "F32", byteLength, data: () => pool.window(from, byteLength) };
  };
  const norm = (name: string): GgufTensor[] =>
    [["weight", 1], ["bias", 0]].map(([kind, value]): GgufTensor => {
      const bytes = new Uint8Array(new Float32Array(EMBD).fill(Number(value)).buffer);
      return {
        name: `${name}.${kind}`,
        dims: [EMBD],
        type: "F32",
        byteLength: bytes.length,
        data: () => [bytes],
      };
    });
  return [
    random("token_embd.weight", [EMBD, TOKENS.length]),
    random("token_types.weight", [EMBD, 2]),
    random("position_embd.weight", [EMBD, CTX]),
    ...norm("token_embd_norm"),
    ...["q", "k", "v", "output"].map((part) => random(`blk.0.attn_${part}.weight`, [EMBD, EMBD])),
    ...norm("blk.0.attn_output_norm"),
    random("blk.0.ffn_up.weight", [EMBD, FF]),
    random("blk.0.ffn_down.weight", [FF, EMBD]),
    ...norm("blk.0.layer_output_norm"),
    random("cls.weight", [EMBD, EMBD]),
    random("cls.output.weight", [EMBD, 1]),
  ];
}
