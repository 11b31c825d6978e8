// Well-formed containers whose contents make no model, or an absurd one.

import {
  type Damage,
  type Damages,
  withoutKey,
  withoutTensor,
  withTensor,
  withValue,
} from "./gguf_damage.ts";
import { encodeGgufHead, ggufArray, type GgufParts, ggufScalar, type GgufScalarType } from "./gguf_format.ts";
import { llamaVocab } from "./gguf_vocab.ts";
import { llamaGgufParts, type LlamaShape, TINIEST_LLAMA } from "./gguf_writer.ts";

const { embd, ff, heads, vocab } = TINIEST_LLAMA;
/** Every number agrees with every other, only the data (some 100 TB) is not there. */
const HUGE: LlamaShape = {
  layers: 512,
  embd: 65536,
  heads: 512,
  ff: 1 << 20,
  vocab: 320,
  ctx: 2 ** 31,
  type: "F32",
};
const TWO_31 = 2 ** 31;
const MAX_U32 = 2 ** 32 - 1;

export const modelDamages: Damages = {
  unusable: {
    no_architecture: (good) => withoutKey(good, "general.architecture"),
    unknown_architecture: string("general.architecture", "nonesuch"),
    architecture_not_a_string: u32("general.architecture", 7),
    architecture_of_another_kind: string("general.architecture", "clip"),
    architecture_without_its_keys: string("general.architecture", "mamba"),
    no_metadata: (good) => ({ ...good, metadata: [] }),
    no_tensors: (good) => ({ ...good, tensors: [] }),

    block_count_0: u32("llama.block_count", 0),
    block_count_2: u32("llama.block_count", 2),
    block_count_513: u32("llama.block_count", 513),
    block_count_2_31: u32("llama.block_count", TWO_31),
    block_count_missing: (good) => withoutKey(good, "llama.block_count"),
    block_count_a_string: string("llama.block_count", "1"),
    block_count_an_array: (good) => withValue(good, "llama.block_count", ggufArray("u32", [1, 1])),
    embedding_length_0: u32("llama.embedding_length", 0),
    embedding_length_other: u32("llama.embedding_length", embd * 2),
    embedding_length_2_31: u32("llama.embedding_length", TWO_31),
    feed_forward_length_0: u32("llama.feed_forward_length", 0),
    feed_forward_length_2_31: u32("llama.feed_forward_length", TWO_31),
    heads_0: u32("llama.attention.head_count", 0),
    heads_not_dividing: u32("llama.attention.head_count", 3),
    heads_2_31: u32("llama.attention.head_count", TWO_31),
    heads_missing: (good) => withoutKey(good, "llama.attention.head_count"),
    heads_array_too_long: array("llama.attention.head_count", Array(600).fill(heads)),
    heads_array_empty: array("llama.attention.head_count", []),
    kv_heads_0: u32("llama.attention.head_count_kv", 0),
    kv_heads_more_than_heads: u32("llama.attention.head_count_kv", heads * 2),
    kv_heads_2_31: u32("llama.attention.head_count_kv", TWO_31),
    key_length_0: u32("llama.attention.key_length", 0),
    key_length_2_31: u32("llama.attention.key_length", TWO_31),
    value_length_2_31: u32("llama.attention.value_length", TWO_31),
    rope_dimension_other: u32("llama.rope.dimension_count", 7),
    rope_dimension_2_31: u32("llama.rope.dimension_count", TWO_31),
    rope_scaling_unknown: string("llama.rope.scaling.type", "nonesuch"),
    experts_2_31: u32("llama.expert_count", TWO_31),
    experts_without_tensors: u32("llama.expert_count", 8),
    experts_used_without_experts: u32("llama.expert_used_count", 4),
    rms_epsilon_missing: (good) => withoutKey(good, "llama.attention.layer_norm_rms_epsilon"),
    context_length_missing: (good) => withoutKey(good, "llama.context_length"),
    split_1_of_3: split(0, 3),
    split_2_of_3: split(1, 3),
    split_1_of_65535: split(0, 65535),

    tensor_missing: (good) => withoutTensor(good, "blk.0.ffn_down.weight"),
    output_norm_missing: (good) => withoutTensor(good, "output_norm.weight"),
    embedding_missing: (good) => withoutTensor(good, "token_embd.weight"),
    tensor_transposed: (good) => withTensor(good, "output.weight", { dims: [vocab, embd] }),
    tensor_too_small: (good) => withTensor(good, "blk.0.attn_q.weight", filled([embd, embd / 2], 0)),
    matrix_of_i32: (good) => withTensor(good, "blk.0.attn_q.weight", { type: 26 }),
    matrix_of_f64: (good) => withTensor(good, "blk.0.ffn_down.weight", ofType(28, embd * ff * 8)),
    matrix_of_q8_1: (good) => withTensor(good, "blk.0.ffn_down.weight", ofType(9, embd * ff / 32 * 36)),
    embedding_of_i32: (good) => withTensor(good, "token_embd.weight", { type: 26 }),
    norm_of_i32: (good) => withTensor(good, "blk.0.attn_norm.weight", { type: 26 }),
    huge_but_consistent: () => encodeGgufHead(llamaGgufParts(HUGE)).bytes,

    no_tokens: (good) => withoutKey(good, "tokenizer.ggml.tokens"),
    tokens_empty: tokens([]),
    tokens_fewer_than_embeddings: tokens(llamaVocab(vocab).tokens.slice(0, 260)),
    tokens_more_than_embeddings: (good) => withVocab(good, vocab * 2),
    tokens_not_strings: array("tokenizer.ggml.tokens", Array(vocab).fill(1)),
    tokens_all_the_same: tokens(Array(vocab).fill("x")),
    tokens_two_the_same: tokens(llamaVocab(vocab).tokens.with(300, "<s>")),
    tokens_without_bytes: tokens(Array.from({ length: vocab }, (_, id) => `piece${id}`)),
    token_types_all_bytes: array("tokenizer.ggml.token_type", Array(vocab).fill(6), "i32"),
    scores_too_few: array("tokenizer.ggml.scores", [0, 0, 0], "f32"),
    scores_not_numbers: array("tokenizer.ggml.scores", Array(vocab).fill("0"), "str"),
    scores_not_an_array: u32("tokenizer.ggml.scores", 0),
    token_types_too_few: array("tokenizer.ggml.token_type", [1, 1, 1], "i32"),
    tokenizer_unknown: string("tokenizer.ggml.model", "nonesuch"),
    tokenizer_missing: (good) => withoutKey(good, "tokenizer.ggml.model"),
    tokenizer_without_merges: string("tokenizer.ggml.model", "gpt2"),
    tokenizer_charsmap_past_end: (good) =>
      withValue(
        withValue(good, "tokenizer.ggml.model", ggufScalar("str", "t5")),
        "tokenizer.ggml.precompiled_charsmap",
        ggufArray("u8", [255, 255, 255, 255, 0, 0, 0, 0]),
      ),
  },
  odd: {
    context_length_0: u32("llama.context_length", 0),
    context_length_2_32: u32("llama.context_length", MAX_U32),
    vocab_size_other: u32("llama.vocab_size", 7),
    end_token_out_of_range: u32("tokenizer.ggml.eos_token_id", vocab),
    begin_token_negative: (good) => withValue(good, "tokenizer.ggml.bos_token_id", ggufScalar("i32", -1)),
    begin_token_2_32: u32("tokenizer.ggml.bos_token_id", MAX_U32),
    tokens_empty_strings: tokens(llamaVocab(vocab).tokens.map((token, id) => id > 270 ? "" : token)),
    tokens_not_utf_8: tokens(
      llamaVocab(vocab).tokens.map((token, id) => id > 270 ? Uint8Array.of(255, id) : token),
    ),
    token_types_unknown: array("tokenizer.ggml.token_type", Array(vocab).fill(77), "i32"),
    scores_not_finite: array("tokenizer.ggml.scores", Array(vocab).fill(NaN), "f32"),
    tokenizer_of_another_kind: string("tokenizer.ggml.model", "bert"),
    tokenizer_without_newline: string("tokenizer.ggml.model", "rwkv"),
    rms_epsilon_nan: f32("llama.attention.layer_norm_rms_epsilon", NaN),
    rms_epsilon_negative: f32("llama.attention.layer_norm_rms_epsilon", -1),
    rms_epsilon_0: f32("llama.attention.layer_norm_rms_epsilon", 0),
    rope_base_nan: f32("llama.rope.freq_base", NaN),
    rope_base_0: f32("llama.rope.freq_base", 0),
    pooling_type_unknown: u32("llama.pooling_type", 77),
    attention_not_causal: (good) => withValue(good, "llama.attention.causal", ggufScalar("bool", false)),
    weights_nan: (good) => withTensor(good, "output.weight", filled([embd, vocab], NaN)),
    weights_infinite: (good) => withTensor(good, "output.weight", filled([embd, vocab], Infinity)),
    weights_zero: (good) => withTensor(good, "output.weight", filled([embd, vocab], 0)),
    chat_template_broken: string("tokenizer.chat_template", "{% for m in messages %}{{ m.content"),
    chat_template_endless: string(
      "tokenizer.chat_template",
      "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    ),
    chat_template_nested: string(
      "tokenizer.chat_template",
      "{{ " + "(".repeat(50_000) + "1" + ")".repeat(50_000) + " }}",
    ),
  },
};

function u32(key: string, value: number): Damage {
  return (good) => withValue(good, key, ggufScalar("u32", value));
}

function f32(key: string, value: number): Damage {
  return (good) => withValue(good, key, ggufScalar("f32", value));
}

function string(key: string, value: string): Damage {
  return (good) => withValue(good, key, ggufScalar("str", value));
}

function array(key: string, items: readonly (number | string)[], of: GgufScalarType = "u32"): Damage {
  return (good) => withValue(good, key, ggufArray(of, items));
}

function tokens(items: readonly (string | Uint8Array)[]): Damage {
  return (good) => withValue(good, "tokenizer.ggml.tokens", ggufArray("str", items));
}

function split(number: number, count: number): Damage {
  return (good) =>
    withValue(
      withValue(good, "split.no", ggufScalar("u16", number)),
      "split.count",
      ggufScalar("u16", count),
    );
}

/** A vocabulary that is whole in itself but larger than the embedding. */
function withVocab(good: GgufParts, size: number): GgufParts {
  const larger = llamaVocab(size);
  const withTokens = withValue(good, "tokenizer.ggml.tokens", ggufArray("str", larger.tokens));
  const withScores = withValue(withTokens, "tokenizer.ggml.scores", ggufArray("f32", larger.scores));
  return withValue(withScores, "tokenizer.ggml.token_type", ggufArray("i32", larger.types));
}

function ofType(type: number, byteLength: number) {
  return { type, byteLength, data: () => [new Uint8Array(byteLength)] };
}

function filled(dims: [number, number], value: number) {
  const bytes = new Uint8Array(new Float32Array(dims[0] * dims[1]).fill(value).buffer);
  return { dims, type: "F32" as const, byteLength: bytes.length, data: () => [bytes] };
}
