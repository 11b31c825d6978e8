/** GGUF headers that are wrong, odd or by chance still right; the same seed and number give the same header. */
import { rawValue, withTensor, withValue } from "../helpers/gguf_damage.ts";
import {
  encodeGgufHead,
  ggufArray,
  type GgufParts,
  ggufScalar,
  type GgufValue,
} from "../helpers/gguf_format.ts";
import { llamaGgufParts, TINIEST_LLAMA } from "../helpers/gguf_writer.ts";
import { Random } from "./random.ts";

/** A header in a file of `fileBytes`; what follows `bytes` are zeros. */
export interface FuzzedHeader {
  /** What was done to it. */
  kind: string;
  bytes: Uint8Array;
  fileBytes: number;
}

/** Of the parts, before they are written, or of the bytes. */
type PartsChange = (parts: GgufParts, random: Random) => GgufParts;
type BytesChange = (bytes: Uint8Array, random: Random) => Uint8Array;

/** Lengths, counts and offsets that are easily got wrong. */
const EXTREMES: readonly bigint[] = [
  ...[0n, 1n, 63n, 64n, 255n, 512n, 513n, 1024n, 1025n, 4096n, 4097n, 65_536n, 65_537n],
  ...[7n, 15n, 24n, 31n, 32n, 33n, 53n, 63n].flatMap((
    bits,
  ) => [2n ** bits - 1n, 2n ** bits, 2n ** bits + 1n]),
  2n ** 64n - 1n,
];
const GROWN_BYTES = 64 * 1024;
/** Enough for ten million empty strings. Rare: reading it takes a while. */
const SPARSE_BYTES = 80 * 1024 * 1024;
const SPARSE_EVERY = 1_000;
/** Of a value that is by far too large to be kept. */
const LONG_BYTES = 120 * 1024 * 1024;
const STRING = 8;
const ARRAY = 9;
const MAX_TYPE_ID = 50;
const MAX_EDITS = 4;

const partsChanges: Record<string, PartsChange> = {
  "absurd counts": (parts, random) =>
    random.chance(50)
      ? { ...parts, claimedTensorCount: random.pick(EXTREMES) }
      : { ...parts, claimedMetadataCount: random.pick(EXTREMES) },
  "a value of another type": (parts, random) =>
    withValue(parts, keyOf(parts, random), anyValue(random, random.integer(0, MAX_TYPE_ID))),
  "an array that lies": (parts, random) => withValue(parts, keyOf(parts, random), lyingArray(random)),
  "a key twice": (parts, random) => ({
    ...parts,
    metadata: [...parts.metadata, random.pick(parts.metadata)],
  }),
  "a key less": (parts, random) => ({
    ...parts,
    metadata: parts.metadata.toSpliced(random.integer(0, parts.metadata.length - 1), 1),
  }),
  "another number": (parts, random) =>
    withValue(
      parts,
      random.pick(parts.metadata.filter(([key]) => String(key).startsWith("llama.")))[0] as string,
      ggufScalar(random.pick(["u8", "i32", "u32", "u64", "f32", "f64"]), random.pick(EXTREMES)),
    ),
  "an odd tensor": (parts, random) =>
    withTensor(
      parts,
      random.pick(parts.tensors).name,
      random.pick([
        { claimedOffset: random.pick(EXTREMES) },
        { type: random.integer(0, MAX_TYPE_ID) },
        { dims: Array.from({ length: random.integer(0, 6) }, () => random.pick(EXTREMES)) },
        { name: random.pick(["", "x".repeat(64), random.pick(parts.tensors).name]) },
      ]),
    ),
  "another version or byte order": (parts, random) => ({
    ...parts,
    version: random.integer(0, 5),
    bigEndian: random.chance(50),
  }),
};

const bytesChanges: Record<string, BytesChange> = {
  "bits flipped": (bytes, random) => {
    for (let left = random.integer(1, MAX_EDITS); left > 0; left--) {
      bytes[random.integer(0, bytes.length - 1)] ^= 1 << random.integer(0, 7);
    }
    return bytes;
  },
  "bytes overwritten": (bytes, random) => {
    for (let left = random.integer(1, MAX_EDITS); left > 0; left--) {
      bytes[random.integer(0, bytes.length - 1)] = random.integer(0, 255);
    }
    return bytes;
  },
  "a length blown up": (bytes, random) => {
    const at = random.integer(0, bytes.length - 8);
    new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(at, random.pick(EXTREMES), true);
    return bytes;
  },
  "a type swapped": (bytes, random) => {
    const at = random.integer(0, bytes.length - 4);
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(at, random.integer(0, MAX_TYPE_ID), true);
    return bytes;
  },
  "cut": (bytes, random) => bytes.subarray(0, random.integer(0, bytes.length - 1)),
  "bytes inserted": (bytes, random) => {
    const at = random.integer(0, bytes.length);
    return joined(bytes.subarray(0, at), noise(random, random.integer(1, 64)), bytes.subarray(at));
  },
  "bytes deleted": (bytes, random) => {
    const at = random.integer(0, bytes.length - 1);
    return joined(bytes.subarray(0, at), bytes.subarray(at + random.integer(1, 64)));
  },
  "a piece repeated": (bytes, random) => {
    const [from, to] = [random.integer(0, bytes.length), random.integer(0, bytes.length)].sort((a, b) =>
      a - b
    );
    return joined(bytes.subarray(0, to), bytes.subarray(from));
  },
  "noise": (_, random) => noise(random, random.integer(0, 4096)),
  "noise after the counts": (bytes, random) =>
    joined(bytes.subarray(0, random.integer(4, 24)), noise(random, random.integer(0, 4096))),
};

const KINDS = [...Object.keys(partsChanges), ...Object.keys(bytesChanges)];

/** Good headers of several shapes, to be spoilt. */
const GOOD: readonly GgufParts[] = [
  llamaGgufParts({ ...TINIEST_LLAMA, layers: 3, tiedEmbeddings: true }),
  llamaGgufParts({ ...TINIEST_LLAMA, type: "Q8_0", experts: { count: 4, used: 2 } }),
  withValue(
    llamaGgufParts({ ...TINIEST_LLAMA, layers: 2, type: "F16", chatTemplate: "{{ messages }}".repeat(40) }),
    "llama.attention.head_count_kv",
    ggufArray("i32", [2, 0]),
  ),
];

/** Header number `number` of the run with this seed. */
export function fuzzedHeader(number: number, seed: number): FuzzedHeader {
  const random = new Random(seed, number);
  const good = random.pick(GOOD);
  const kind = random.pick(KINDS);
  const parts = partsChanges[kind]?.(good, random) ?? good;
  const head = encodeGgufHead(parts).bytes.slice();
  const bytes = bytesChanges[kind]?.(head, random) ?? head;
  const dataBytes = good.tensors.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const sparse = number % SPARSE_EVERY === 0;
  const grown = sparse ? SPARSE_BYTES : random.chance(20) ? GROWN_BYTES : 0;
  return { kind, bytes, fileBytes: bytes.length + (kind === "cut" ? grown : dataBytes + grown) };
}

/** What would take the most: as many entries as may be, each as large as may be, and values too large to be kept. */
export function* largestHeaders(): Generator<FuzzedHeader> {
  yield fullOf("lists", { value: ggufArray("u8", new Array(512).fill(255)) });
  yield fullOf("strings", { value: ggufScalar("str", "x".repeat(256)) });
  yield withOneValue("a long string", rawValue(STRING, (out) => out.u64(LONG_BYTES)));
  for (const [kind, typeId] of [["bytes", 0], ["strings", STRING]] as const) {
    const list = rawValue(ARRAY, (out) => {
      out.u32(typeId);
      out.u64(LONG_BYTES / 8);
    });
    yield withOneValue(`a long list of ${kind}`, list);
  }
}

/** Zeros follow: they are what the value claims to hold. */
function withOneValue(kind: string, value: GgufValue): FuzzedHeader {
  const { bytes } = encodeGgufHead({ metadata: [["general.name", value]], tensors: [] });
  return { kind, bytes, fileBytes: bytes.length + LONG_BYTES };
}

function fullOf(kind: string, { value }: { value: GgufValue }): FuzzedHeader {
  const metadata = Array.from({ length: 1_024 }, (_, at) => [`k${at}`.padEnd(1_024, "x"), value] as const);
  const tensor = { dims: [1, 1, 1, 1], type: "F32", byteLength: 4, data: () => [] } as const;
  const tensors = Array.from({ length: 65_536 }, (_, at) => ({ ...tensor, name: `t${at}`.padEnd(63, "x") }));
  // A copy: the buffer it is written in is larger.
  const bytes = encodeGgufHead({ metadata, tensors }).bytes.slice();
  return { kind: `full of ${kind} and tensors`, bytes, fileBytes: bytes.length + tensors.length * 32 };
}

function keyOf(parts: GgufParts, random: Random): string {
  return String(random.pick(parts.metadata)[0]);
}

function anyValue(random: Random, typeId: number): GgufValue {
  return rawValue(typeId, (out) => out.bytes(noise(random, random.integer(0, 16))));
}

function lyingArray(random: Random): GgufValue {
  return rawValue(ARRAY, (out) => {
    out.u32(random.integer(0, 14));
    out.u64(random.pick(EXTREMES));
    out.bytes(noise(random, random.integer(0, 256)));
  });
}

function noise(random: Random, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => random.integer(0, 255));
}

function joined(...pieces: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
