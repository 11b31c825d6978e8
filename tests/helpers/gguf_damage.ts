// Small edits to the parts of a good GGUF, from which the damaged ones are made.

import { ByteWriter, encodeGguf, type GgufParts, type GgufTensor, type GgufValue } from "./gguf_format.ts";

/** One way to spoil a good file. */
export type Damage = (good: GgufParts) => GgufParts | Uint8Array;

/**
 * Named damages. `unusable`: no working model is left, so a loader must answer with an error. `odd`: a loader
 * may make something of it; whatever it does, it must not crash.
 */
export interface Damages {
  readonly unusable: Readonly<Record<string, Damage>>;
  readonly odd: Readonly<Record<string, Damage>>;
}

/** One metadata value replaced, in its place, or added at the end. */
export function withValue(good: GgufParts, key: string, value: GgufValue): GgufParts {
  const at = good.metadata.findIndex(([name]) => name === key);
  const metadata = at === -1
    ? [...good.metadata, [key, value] as const]
    : good.metadata.with(at, [key, value]);
  return { ...good, metadata };
}

export function withoutKey(good: GgufParts, key: string): GgufParts {
  return { ...good, metadata: good.metadata.filter(([name]) => name !== key) };
}

/** Some fields of one tensor replaced. */
export function withTensor(good: GgufParts, name: string, change: Partial<GgufTensor>): GgufParts {
  return {
    ...good,
    tensors: good.tensors.map((tensor) => tensor.name === name ? { ...tensor, ...change } : tensor),
  };
}

export function withoutTensor(good: GgufParts, name: string): GgufParts {
  return { ...good, tensors: good.tensors.filter((tensor) => tensor.name !== name) };
}

/** The file's first bytes only; `lengthBytes` below zero counts from the end. */
export function cut(good: GgufParts, lengthBytes: number): Uint8Array {
  return encodeGguf(good).subarray(0, lengthBytes);
}

/** A metadata value whose bytes `write` puts there, with no regard for its type. */
export function rawValue(typeId: number, write: (out: ByteWriter) => void): GgufValue {
  const out = new ByteWriter();
  write(out);
  return { type: "raw", typeId, bytes: out.written() };
}
