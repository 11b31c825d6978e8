// Damage to the container: what a reader of the header alone must catch.

import { cut, type Damages, rawValue, withTensor, withValue } from "./gguf_damage.ts";
import { encodeGgufHead, type GgufParts, ggufScalar } from "./gguf_format.ts";
import { seededRandom } from "./gguf_weights.ts";

const ARRAY = 9;
const STRING = 8;
const U8 = 0;
const U64 = 10;
/** The last tensor in the file: no offset after it gives away that its size is a lie. */
const LAST_TENSOR = "blk.0.ffn_down.weight";
const OTHER_TENSOR = "blk.0.attn_q.weight";
const NOISE_BYTES = 64 * 1024;

export const containerDamages: Damages = {
  unusable: {
    empty_file: () => new Uint8Array(0),
    text_file: () => new TextEncoder().encode("<html><body>404 Not Found</body></html>\n".repeat(50)),
    wrong_magic: (good) => ({ ...good, magic: "GGML" }),
    magic_only: (good) => cut(good, 4),
    noise_after_magic: () => noise("GGUF"),
    noise_after_header: () => noise("GGUF\x03\0\0\0\x05\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0"),
    version_0: (good) => ({ ...good, version: 0 }),
    version_1: (good) => ({ ...good, version: 1 }),
    version_4: (good) => ({ ...good, version: 4 }),
    big_endian: (good) => ({ ...good, bigEndian: true }),

    cut_in_header: (good) => cut(good, 20),
    cut_in_metadata: (good) => cut(good, Math.floor(encodeGgufHead(good).metadataEnd / 2)),
    cut_after_metadata: (good) => cut(good, encodeGgufHead(good).metadataEnd),
    cut_in_tensor_info: (good) => cut(good, encodeGgufHead(good).tensorInfoEnd - 5),
    cut_before_data: (good) => cut(good, encodeGgufHead(good).bytes.length),
    cut_in_first_tensor: (good) => cut(good, encodeGgufHead(good).bytes.length + 100),
    cut_in_last_tensor: (good) => cut(good, -1),

    tensor_count_2_40: (good) => ({ ...good, claimedTensorCount: 1n << 40n }),
    tensor_count_2_64: (good) => ({ ...good, claimedTensorCount: (1n << 64n) - 1n }),
    tensor_count_one_more: (good) => ({ ...good, claimedTensorCount: BigInt(good.tensors.length + 1) }),
    metadata_count_2_40: (good) => ({ ...good, claimedMetadataCount: 1n << 40n }),
    metadata_count_2_64: (good) => ({ ...good, claimedMetadataCount: (1n << 64n) - 1n }),
    metadata_count_one_less: (good) => ({ ...good, claimedMetadataCount: BigInt(good.metadata.length - 1) }),

    empty_key: (good) => withValue(good, "", ggufScalar("u32", 1)),
    duplicate_key: (good) => ({ ...good, metadata: [...good.metadata, good.metadata[0]] }),
    string_length_2_63: (good) => withValue(good, "x", rawValue(STRING, (out) => out.u64(1n << 63n))),
    string_length_2_64: (good) => withValue(good, "x", rawValue(STRING, (out) => out.u64((1n << 64n) - 1n))),
    string_past_end: (good) => withValue(good, "x", rawValue(STRING, (out) => out.u64(1 << 29))),
    unknown_value_type: (good) => withValue(good, "x", rawValue(99, (out) => out.u64(0))),
    negative_value_type: (good) => withValue(good, "x", rawValue(0xffffffff, (out) => out.u64(0))),
    array_of_2_62: (good) => withValue(good, "x", arrayHead(U8, 1n << 62n)),
    array_size_overflow: (good) => withValue(good, "x", arrayHead(U64, 1n << 61n)),
    array_of_2_30_strings: (good) => withValue(good, "x", arrayHead(STRING, 1n << 30n)),
    array_of_unknown_type: (good) => withValue(good, "x", arrayHead(99, 1n)),
    nested_array: (good) => withValue(good, "x", nestedArray(2)),
    deeply_nested_array: (good) => withValue(good, "x", nestedArray(10_000)),

    alignment_0: (good) => withValue(good, "general.alignment", ggufScalar("u32", 0)),
    alignment_3: (good) => withValue(good, "general.alignment", ggufScalar("u32", 3)),
    alignment_2_31: (good) => withValue(good, "general.alignment", ggufScalar("u32", 2 ** 31)),
    alignment_not_a_number: (good) => withValue(good, "general.alignment", ggufScalar("str", "32")),

    dims_none: (good) => withTensor(good, LAST_TENSOR, { dims: [] }),
    dims_5: (good) => withTensor(good, LAST_TENSOR, { dims: [64, 64, 1, 1, 1] }),
    dims_overflow: (good) => withTensor(good, LAST_TENSOR, { dims: [1n << 32n, 1n << 31n] }),
    dims_wrap_to_good: (good) => withTensor(good, LAST_TENSOR, { dims: [1n << 62n, 64, 64, 64] }),
    dim_2_40: (good) => withTensor(good, LAST_TENSOR, { dims: [64, 1n << 40n] }),
    dim_zero: (good) => withTensor(good, LAST_TENSOR, { dims: [64, 0] }),
    dim_negative: (good) => withTensor(good, LAST_TENSOR, { dims: [64, -64n] }),
    type_9999: (good) => withTensor(good, LAST_TENSOR, { type: 9999 }),
    type_negative: (good) => withTensor(good, LAST_TENSOR, { type: -1 }),
    type_withdrawn: (good) => withTensor(good, LAST_TENSOR, { type: 4 }),
    type_row_not_whole_blocks: (good) => withTensor(good, LAST_TENSOR, { type: "Q8_0", dims: [48, 64] }),
    offset_past_end: (good) => withTensor(good, OTHER_TENSOR, { claimedOffset: 1n << 40n }),
    offset_2_64: (good) => withTensor(good, OTHER_TENSOR, { claimedOffset: (1n << 64n) - 32n }),
    offset_misaligned: (good) => withTensor(good, OTHER_TENSOR, { claimedOffset: 33n }),
    offset_overlapping: (good) => withTensor(good, OTHER_TENSOR, { claimedOffset: 0n }),
    tensor_name_too_long: (good) => withTensor(good, LAST_TENSOR, { name: "x".repeat(5000) }),
    tensor_duplicate: (good) => ({ ...good, tensors: [...good.tensors, good.tensors[0]] }),
    tensor_name_empty: (good) => withTensor(good, LAST_TENSOR, { name: "" }),
  },
  odd: {
    bytes_after_end: (good) => ({ ...good, tensors: [...good.tensors, strayTensor()] }),
    not_utf_8: (good) =>
      withValue(good, "general.name", ggufScalar("str", Uint8Array.of(0xff, 0, 0xc3, 0x28))),
    key_of_64_kilobytes: (good) => withValue(good, "k".repeat(65536), ggufScalar("u32", 1)),
    bool_neither_0_nor_1: (good) => withValue(good, "tokenizer.ggml.add_bos_token", rawValue(7, byteFF)),
  },
};

function byteFF(out: { bytes(value: Uint8Array): void }): void {
  out.bytes(Uint8Array.of(0xff));
}

function noise(prefix: string): Uint8Array {
  const random = seededRandom(1);
  const bytes = Uint8Array.from({ length: NOISE_BYTES }, random);
  bytes.set(Uint8Array.from(prefix, (char) => char.charCodeAt(0)));
  return bytes;
}

/** An array that claims `length` elements and brings none. */
function arrayHead(elementType: number, length: bigint) {
  return rawValue(ARRAY, (out) => {
    out.u32(elementType);
    out.u64(length);
  });
}

function nestedArray(depth: number) {
  return rawValue(ARRAY, (out) => {
    for (let level = 1; level < depth; level++) {
      out.u32(ARRAY);
      out.u64(1);
    }
    out.u32(U8);
    out.u64(0);
  });
}

function strayTensor(): GgufParts["tensors"][number] {
  return { name: "stray", dims: [8], type: "F32", byteLength: 32, data: () => [new Uint8Array(32)] };
}
