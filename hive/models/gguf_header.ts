/** The GGUF container: metadata and tensor table, with the checks of llama.cpp's own reader and a bound on all. */
import { GgufReader, InvalidGguf } from "./gguf_reader.ts";
import { TENSOR_TYPES } from "./gguf_types.ts";
import {
  MAX_GGUF_KEPT_ARRAY_COUNT,
  MAX_GGUF_KEPT_STRING_BYTES,
  MAX_GGUF_KEY_BYTES,
  MAX_GGUF_METADATA_COUNT,
  MAX_GGUF_TENSOR_COUNT,
  MAX_GGUF_TENSOR_NAME_BYTES,
} from "./limits.ts";

/** A metadata value: scalars and short lists of numbers in full, of everything else only how much there is. */
export type GgufValue =
  | { kind: "number"; value: number; typeId: number }
  | { kind: "text"; value: string }
  | { kind: "numbers"; value: number[] }
  | { kind: "skipped"; count: number };

/** An entry of the tensor table. */
export interface GgufTensorInfo {
  /** At most 63 bytes. */
  name: string;
  /** A key of `TENSOR_TYPES`. */
  typeId: number;
  /** Row length first, at most four. */
  dims: readonly number[];
  /** From the begin of the tensor data. */
  offset: number;
  /** Its size. */
  bytes: number;
}

/** A header as it stands, not yet asked what it means. */
export interface GgufHeader {
  /** By key. */
  metadata: ReadonlyMap<string, GgufValue>;
  /** The tensor table. */
  tensors: readonly GgufTensorInfo[];
  /** Size of the file. */
  fileBytes: number;
}

interface ScalarType {
  bytes: number;
  read: (view: DataView, at: number) => number;
}

const STRING = 8;
const ARRAY = 9;
/** By type id. 64-bit integers lose what a number cannot hold: no fact that is used comes near. */
const SCALARS: ReadonlyMap<number, ScalarType> = new Map([
  [0, { bytes: 1, read: (view, at) => view.getUint8(at) }],
  [1, { bytes: 1, read: (view, at) => view.getInt8(at) }],
  [2, { bytes: 2, read: (view, at) => view.getUint16(at, true) }],
  [3, { bytes: 2, read: (view, at) => view.getInt16(at, true) }],
  [4, { bytes: 4, read: (view, at) => view.getUint32(at, true) }],
  [5, { bytes: 4, read: (view, at) => view.getInt32(at, true) }],
  [6, { bytes: 4, read: (view, at) => view.getFloat32(at, true) }],
  [7, { bytes: 1, read: (view, at) => view.getUint8(at) }],
  [10, { bytes: 8, read: (view, at) => Number(view.getBigUint64(at, true)) }],
  [11, { bytes: 8, read: (view, at) => Number(view.getBigInt64(at, true)) }],
  [12, { bytes: 8, read: (view, at) => view.getFloat64(at, true) }],
]);
const U32 = 4;

const MAGIC = 0x46554747; // "GGUF", little-endian
const MIN_VERSION = 2;
const MAX_VERSION = 3;
const DEFAULT_ALIGNMENT_BYTES = 32;
const MAX_TENSOR_DIMS = 4;

/**
 * Reads the header of an open file and checks that every tensor it lists lies within the file.
 *
 * @throws {InvalidGguf} that says what is odd.
 */
export async function readGgufHeader(file: Deno.FsFile, signal?: AbortSignal): Promise<GgufHeader> {
  const reader = new GgufReader(file, { fileBytes: (await file.stat()).size, signal });
  if (reader.fileBytes < 4 || await reader.u32() !== MAGIC) throw new InvalidGguf("does not begin with GGUF");
  const version = await reader.u32();
  if (version < MIN_VERSION || version > MAX_VERSION) {
    throw new InvalidGguf(`has GGUF version ${version}; ${MIN_VERSION} and ${MAX_VERSION} are known`);
  }
  const tensorCount = await reader.u64();
  const metadataCount = await reader.u64();
  if (tensorCount > MAX_GGUF_TENSOR_COUNT) throw new InvalidGguf(`claims ${tensorCount} tensors`);
  if (metadataCount > MAX_GGUF_METADATA_COUNT) {
    throw new InvalidGguf(`claims ${metadataCount} metadata entries`);
  }
  const metadata = await readMetadata(reader, metadataCount);
  const tensors = await readTensorTable(reader, { tensorCount, alignment: alignmentOf(metadata) });
  return { metadata, tensors, fileBytes: reader.fileBytes };
}

async function readMetadata(reader: GgufReader, count: number): Promise<Map<string, GgufValue>> {
  const metadata = new Map<string, GgufValue>();
  for (let index = 0; index < count; index++) {
    const key = await reader.string(MAX_GGUF_KEY_BYTES);
    if (key === "") throw new InvalidGguf("has a metadata entry without a key");
    if (metadata.has(key)) throw new InvalidGguf(`has the key ${JSON.stringify(key)} twice`);
    metadata.set(key, await readValue(reader, key));
  }
  return metadata;
}

async function readValue(reader: GgufReader, key: string): Promise<GgufValue> {
  const typeId = await reader.u32();
  if (typeId === ARRAY) return await readArray(reader, key);
  if (typeId === STRING) {
    const length = await reader.u64();
    if (length <= MAX_GGUF_KEPT_STRING_BYTES) return { kind: "text", value: await reader.text(length) };
    reader.skip(length);
    return { kind: "skipped", count: 1 };
  }
  const { bytes, read } = scalarType(typeId, key);
  return { kind: "number", value: await reader.scalar(bytes, read), typeId };
}

async function readArray(reader: GgufReader, key: string): Promise<GgufValue> {
  const typeId = await reader.u32();
  const count = await reader.u64();
  if (typeId === STRING) {
    await reader.skipStrings(count);
    return { kind: "skipped", count };
  }
  const { bytes, read } = scalarType(typeId, key);
  if (count > MAX_GGUF_KEPT_ARRAY_COUNT) {
    reader.skip(count * bytes);
    return { kind: "skipped", count };
  }
  const value: number[] = [];
  for (let index = 0; index < count; index++) value.push(await reader.scalar(bytes, read));
  return { kind: "numbers", value };
}

/** Arrays of arrays have no scalar type either: llama.cpp does not read them. */
function scalarType(typeId: number, key: string): ScalarType {
  const type = SCALARS.get(typeId);
  if (type === undefined) {
    throw new InvalidGguf(`has a value of unknown type ${typeId} at ${JSON.stringify(key)}`);
  }
  return type;
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>): number {
  const value = metadata.get("general.alignment");
  if (value === undefined) return DEFAULT_ALIGNMENT_BYTES;
  const bytes = value.kind === "number" && value.typeId === U32 ? value.value : 0;
  if (bytes === 0 || !Number.isInteger(Math.log2(bytes))) {
    throw new InvalidGguf("has an alignment that is no power of two");
  }
  return bytes;
}

/** Tensors must follow each other without gap or overlap, as llama.cpp demands. */
async function readTensorTable(
  reader: GgufReader,
  options: { tensorCount: number; alignment: number },
): Promise<GgufTensorInfo[]> {
  const names = new Set<string>();
  let nextOffset = 0;
  let dataEnd = 0;
  const tensors: GgufTensorInfo[] = [];
  for (let index = 0; index < options.tensorCount; index++) {
    const name = await reader.string(MAX_GGUF_TENSOR_NAME_BYTES);
    if (name === "" || names.has(name)) throw new InvalidGguf(`has no or a doubled name for tensor ${index}`);
    names.add(name);
    const shape = await readTensorShape(reader, name);
    const { bytes } = shape;
    const offset = await reader.u64();
    if (offset !== nextOffset) {
      throw new InvalidGguf(
        `has tensor ${JSON.stringify(name)} at ${offset}, where ${nextOffset} was expected`,
      );
    }
    dataEnd = offset + bytes;
    nextOffset = padded(dataEnd, options.alignment);
    tensors.push({ name, ...shape, offset });
    // Also keeps every sum far from what numbers cannot hold.
    if (dataEnd > reader.fileBytes) throw cutShort(dataEnd, reader.fileBytes);
  }
  const end = padded(reader.position, options.alignment) + dataEnd;
  if (options.tensorCount > 0 && end > reader.fileBytes) throw cutShort(end, reader.fileBytes);
  return tensors;
}

async function readTensorShape(
  reader: GgufReader,
  name: string,
): Promise<Pick<GgufTensorInfo, "typeId" | "dims" | "bytes">> {
  const shown = JSON.stringify(name);
  const dimCount = await reader.u32();
  if (dimCount < 1 || dimCount > MAX_TENSOR_DIMS) {
    throw new InvalidGguf(`has tensor ${shown} with ${dimCount} dimensions`);
  }
  const dims: number[] = [];
  let elements = 1;
  for (let dim = 0; dim < dimCount; dim++) {
    const length = await reader.u64();
    dims.push(length);
    elements *= length;
    if (length === 0 || !Number.isSafeInteger(elements)) {
      throw new InvalidGguf(`has tensor ${shown} with an absurd size`);
    }
  }
  const typeId = await reader.u32();
  const type = TENSOR_TYPES.get(typeId);
  if (type === undefined) throw new InvalidGguf(`has tensor ${shown} of unknown type ${typeId}`);
  if (dims[0] % type.blockElements !== 0) {
    throw new InvalidGguf(`has tensor ${shown} with rows of ${dims[0]}, which are no whole blocks`);
  }
  return { typeId, dims, bytes: elements / type.blockElements * type.blockBytes };
}

function cutShort(endBytes: number, fileBytes: number): InvalidGguf {
  return new InvalidGguf(
    `is cut short: its tensors go on to byte ${endBytes}, the file ends at ${fileBytes}`,
  );
}

function padded(bytes: number, alignment: number): number {
  return Math.ceil(bytes / alignment) * alignment;
}
