// The GGUF container, written and never checked: the same code makes good files and hostile ones.

/** ggml tensor types this writer can size: id in the file, elements and bytes of one block. */
export const GGML_TYPES = {
  F32: { id: 0, blockElements: 1, blockBytes: 4 },
  F16: { id: 1, blockElements: 1, blockBytes: 2 },
  Q4_0: { id: 2, blockElements: 32, blockBytes: 18 },
  Q8_0: { id: 8, blockElements: 32, blockBytes: 34 },
} as const;

export type GgmlType = keyof typeof GGML_TYPES;

const VALUE_TYPE_IDS = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  str: 8,
  arr: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

export type GgufScalarType = Exclude<keyof typeof VALUE_TYPE_IDS, "arr">;

type ScalarValue = number | bigint | boolean | string | Uint8Array;

/**
 * One metadata value. A `Uint8Array` stands for a string that need not be UTF-8. `raw` writes the type id and
 * the bytes as they are, so that a header can lie about lengths and nest arrays.
 */
export type GgufValue =
  | { type: GgufScalarType; value: ScalarValue }
  | { type: "arr"; of: GgufScalarType; items: readonly ScalarValue[] }
  | { type: "raw"; typeId: number; bytes: Uint8Array };

/** One tensor. `dims` is in file order: row length first. */
export interface GgufTensor {
  readonly name: string;
  readonly dims: readonly (number | bigint)[];
  /** A type of ours, or any number to write in its place. */
  readonly type: GgmlType | number;
  /** Bytes that `data` yields in all. */
  readonly byteLength: number;
  /** Called once per write; may yield views of one shared buffer. */
  readonly data: () => Iterable<Uint8Array>;
  /** Offset written instead of the true one. */
  readonly claimedOffset?: bigint;
}

/** A whole file. Everything `claimed…` is written instead of the truth. */
export interface GgufParts {
  readonly metadata: readonly (readonly [string | Uint8Array, GgufValue])[];
  readonly tensors: readonly GgufTensor[];
  readonly magic?: string;
  readonly version?: number;
  readonly claimedTensorCount?: bigint;
  readonly claimedMetadataCount?: bigint;
  readonly bigEndian?: boolean;
}

/** The header with the places where its sections end; `bytes` is padded up to the tensor data. */
export interface GgufHead {
  readonly bytes: Uint8Array;
  readonly metadataEnd: number;
  readonly tensorInfoEnd: number;
}

/** Alignment of tensor data when `general.alignment` is absent. */
const DEFAULT_ALIGNMENT_BYTES = 32;
const GGUF_VERSION = 3;
const INITIAL_BUFFER_BYTES = 4096;

export function ggufScalar(type: GgufScalarType, value: ScalarValue): GgufValue {
  return { type, value };
}

export function ggufArray(of: GgufScalarType, items: readonly ScalarValue[]): GgufValue {
  return { type: "arr", of, items };
}

/** Bytes that `dims` elements of `type` take. Rows must be whole blocks. */
export function tensorBytes(type: GgmlType, dims: readonly number[]): number {
  const { blockElements, blockBytes } = GGML_TYPES[type];
  if (dims[0] % blockElements !== 0) {
    throw new RangeError(`Cannot store rows of ${dims[0]} as ${type}: not a multiple of ${blockElements}`);
  }
  return dims.reduce((product, dim) => product * dim, 1) / blockElements * blockBytes;
}

/** A growing buffer with typed appends; byte order is fixed at construction. */
export class ByteWriter {
  #bytes = new Uint8Array(INITIAL_BUFFER_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #littleEndian: boolean;
  length = 0;

  constructor(options: { bigEndian?: boolean } = {}) {
    this.#littleEndian = !options.bigEndian;
  }

  #grow(extraBytes: number): number {
    const at = this.length;
    this.length += extraBytes;
    if (this.length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.length, this.#bytes.length * 2));
      larger.set(this.#bytes.subarray(0, at));
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }

  bytes(value: Uint8Array): void {
    // The grow comes first: it may replace the buffer that `set` has to write into.
    const at = this.#grow(value.length);
    this.#bytes.set(value, at);
  }

  u32(value: number): void {
    const at = this.#grow(4);
    this.#view.setUint32(at, value, this.#littleEndian);
  }

  u64(value: number | bigint): void {
    const at = this.#grow(8);
    this.#view.setBigUint64(at, BigInt.asUintN(64, BigInt(value)), this.#littleEndian);
  }

  string(value: string | Uint8Array): void {
    const encoded = typeof value === "string" ? new TextEncoder().encode(value) : value;
    this.u64(encoded.length);
    this.bytes(encoded);
  }

  /** Zeros up to the next multiple of `alignmentBytes`. */
  pad(alignmentBytes: number): void {
    this.#grow((alignmentBytes - this.length % alignmentBytes) % alignmentBytes);
  }

  scalar(type: GgufScalarType, value: ScalarValue): void {
    if (type === "str") return this.string(value instanceof Uint8Array ? value : String(value));
    if (type === "u64" || type === "i64") return this.u64(BigInt(value as number | bigint));
    const number = Number(value);
    const order = this.#littleEndian;
    switch (type) {
      case "u8":
      case "i8":
      case "bool": {
        const at = this.#grow(1);
        return this.#view.setUint8(at, number);
      }
      case "u16":
      case "i16": {
        const at = this.#grow(2);
        return this.#view.setUint16(at, number, order);
      }
      case "u32":
      case "i32":
        return this.u32(number);
      case "f32": {
        const at = this.#grow(4);
        return this.#view.setFloat32(at, number, order);
      }
      case "f64": {
        const at = this.#grow(8);
        return this.#view.setFloat64(at, number, order);
      }
    }
  }

  value(value: GgufValue): void {
    switch (value.type) {
      case "raw":
        this.u32(value.typeId);
        return this.bytes(value.bytes);
      case "arr":
        this.u32(VALUE_TYPE_IDS.arr);
        this.u32(VALUE_TYPE_IDS[value.of]);
        this.u64(value.items.length);
        for (const item of value.items) this.scalar(value.of, item);
        return;
      default:
        this.u32(VALUE_TYPE_IDS[value.type]);
        this.scalar(value.type, value.value);
    }
  }

  /** A view of what was written so far, valid until the next append. */
  written(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }
}

/** Everything before the tensor data. */
export function encodeGgufHead(parts: GgufParts): GgufHead {
  const alignmentBytes = alignmentOf(parts);
  const out = new ByteWriter({ bigEndian: parts.bigEndian });
  out.bytes(new TextEncoder().encode(parts.magic ?? "GGUF"));
  out.u32(parts.version ?? GGUF_VERSION);
  out.u64(parts.claimedTensorCount ?? parts.tensors.length);
  out.u64(parts.claimedMetadataCount ?? parts.metadata.length);
  for (const [key, value] of parts.metadata) {
    out.string(key);
    out.value(value);
  }
  const metadataEnd = out.length;
  let offset = 0;
  for (const tensor of parts.tensors) {
    out.string(tensor.name);
    out.u32(tensor.dims.length);
    for (const dim of tensor.dims) out.u64(dim);
    out.u32(typeof tensor.type === "number" ? tensor.type : GGML_TYPES[tensor.type].id);
    out.u64(tensor.claimedOffset ?? offset);
    offset += Math.ceil(tensor.byteLength / alignmentBytes) * alignmentBytes;
  }
  const tensorInfoEnd = out.length;
  out.pad(alignmentBytes);
  return { bytes: out.written(), metadataEnd, tensorInfoEnd };
}

/** A whole file in memory; for small ones. */
export function encodeGguf(parts: GgufParts): Uint8Array {
  const out = new ByteWriter();
  for (const chunk of ggufChunks(parts)) out.bytes(chunk);
  return out.written();
}

/** Writes `parts` to `path`, replacing what is there; memory use does not grow with the tensors. */
export async function writeRawGguf(path: string, parts: GgufParts): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  for (const chunk of ggufChunks(parts)) {
    for (let done = 0; done < chunk.length;) done += await file.write(chunk.subarray(done));
  }
}

function* ggufChunks(parts: GgufParts): Generator<Uint8Array> {
  const alignmentBytes = alignmentOf(parts);
  yield encodeGgufHead(parts).bytes;
  for (const tensor of parts.tensors) {
    yield* tensor.data();
    const excessBytes = tensor.byteLength % alignmentBytes;
    if (excessBytes > 0) yield new Uint8Array(alignmentBytes - excessBytes);
  }
}

function alignmentOf(parts: GgufParts): number {
  const entry = parts.metadata.find(([key]) => key === "general.alignment")?.[1];
  const value = entry !== undefined && "value" in entry ? Number(entry.value) : DEFAULT_ALIGNMENT_BYTES;
  // A hostile alignment stands in the header; the file itself is then laid out the usual way.
  return Number.isInteger(value) && value > 0 && value <= 4096 ? value : DEFAULT_ALIGNMENT_BYTES;
}
