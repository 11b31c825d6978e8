import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { answer, loadEngine } from "./engine.ts";
import { encodeGguf, type GgmlType, ggufScalar, tensorBytes, writeRawGguf } from "./gguf_format.ts";
import { hostileGgufs } from "./gguf_hostile.ts";
import { llamaVocab, MIN_VOCAB_TOKENS } from "./gguf_vocab.ts";
import {
  cachedLlamaGguf,
  llamaGgufParts,
  type LlamaShape,
  TINIEST_LLAMA,
  TINY_LLAMA_1B,
  writeLlamaGguf,
} from "./gguf_writer.ts";

interface ReadTensor {
  dims: number[];
  typeId: number;
  /** In the file. */
  start: number;
}

/** Reads a header by the format's description, sharing nothing with the writer. */
function readGguf(bytes: Uint8Array) {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let at = 0;
  const u32 = () => view.getUint32((at += 4) - 4, true);
  const u64 = () => Number(view.getBigUint64((at += 8) - 8, true));
  const string = () => {
    const length = u64();
    return new TextDecoder().decode(bytes.subarray(at, at += length));
  };
  const value = (typeId: number): unknown => {
    switch (typeId) {
      case 4:
        return u32();
      case 5:
        return view.getInt32((at += 4) - 4, true);
      case 6:
        return view.getFloat32((at += 4) - 4, true);
      case 7:
        return bytes[at++] === 1;
      case 8:
        return string();
      case 9: {
        const of = u32();
        return Array.from({ length: u64() }, () => value(of));
      }
      default:
        throw new Error(`Did not expect a value of type ${typeId} at ${at}`);
    }
  };
  assertEquals(new TextDecoder().decode(bytes.subarray(0, 4)), "GGUF");
  at = 4;
  assertEquals(u32(), 3);
  const tensorCount = u64();
  const metadata = Object.fromEntries(Array.from({ length: u64() }, () => [string(), value(u32())]));
  const infos = Array.from({ length: tensorCount }, () => {
    const name = string();
    const dims = Array.from({ length: u32() }, u64);
    return { name, dims, typeId: u32(), offset: u64() };
  });
  const dataStart = Math.ceil(at / 32) * 32;
  const tensors: Record<string, ReadTensor> = {};
  for (const { name, offset, ...rest } of infos) tensors[name] = { ...rest, start: dataStart + offset };
  return { metadata, tensors };
}

async function withTempDir(use: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await use(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** The weights of a tensor as numbers. */
function weights(bytes: Uint8Array, options: { tensor: ReadTensor; type: GgmlType }): number[] {
  const { tensor, type } = options;
  const count = tensor.dims.reduce((a, b) => a * b);
  const view = new DataView(bytes.buffer, bytes.byteOffset + tensor.start);
  return Array.from({ length: count }, (_, i) => {
    const block = Math.floor(i / 32);
    const inBlock = i % 32;
    switch (type) {
      case "F32":
        return view.getFloat32(i * 4, true);
      case "F16":
        return view.getFloat16(i * 2, true);
      case "Q8_0":
        return view.getFloat16(block * 34, true) * view.getInt8(block * 34 + 2 + inBlock);
      case "Q4_0": {
        const byte = view.getUint8(block * 18 + 2 + inBlock % 16);
        return view.getFloat16(block * 18, true) * ((inBlock < 16 ? byte & 15 : byte >> 4) - 8);
      }
    }
  });
}

Deno.test("a model has the shape asked for and ends where its last tensor does", () => {
  const shape: LlamaShape = {
    ...{ layers: 2, embd: 64, heads: 4, kvHeads: 2, ff: 96, vocab: 400, ctx: 128, type: "Q4_0" },
    chatTemplate: "{{ messages }}",
    name: "named",
  };
  const bytes = encodeGguf(llamaGgufParts(shape));
  const { metadata, tensors } = readGguf(bytes);
  assertEquals(metadata["general.architecture"], "llama");
  assertEquals(metadata["general.name"], "named");
  assertEquals(metadata["llama.block_count"], 2);
  assertEquals(metadata["llama.attention.head_count_kv"], 2);
  assertEquals(metadata["llama.rope.dimension_count"], 16);
  assertEquals((metadata["tokenizer.ggml.tokens"] as string[]).length, 400);
  assertEquals(metadata["tokenizer.chat_template"], "{{ messages }}");
  assertEquals(Object.keys(tensors).length, 3 + 2 * 9);
  assertEquals(tensors["blk.1.attn_k.weight"].dims, [64, 32]);
  assertEquals(tensors["blk.1.ffn_down.weight"].dims, [96, 64]);
  const last = Object.values(tensors).reduce((a, b) => a.start > b.start ? a : b);
  const end = last.start + tensorBytes("Q4_0", last.dims);
  assertEquals(bytes.length, Math.ceil(end / 32) * 32);
  for (const { start } of Object.values(tensors)) assertEquals(start % 32, 0);
});

Deno.test("weights of every type are finite, centred, and as wide as asked for", () => {
  for (const type of ["F32", "F16", "Q8_0", "Q4_0"] as const) {
    const bytes = encodeGguf(llamaGgufParts({ ...TINIEST_LLAMA, embd: 128, type }));
    const { tensors } = readGguf(bytes);
    const values = weights(bytes, { tensor: tensors["blk.0.attn_q.weight"], type });
    const mean = values.reduce((a, b) => a + b) / values.length;
    const deviation = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length);
    assert(Math.abs(mean) < 0.003, `${type}: mean ${mean}`);
    assert(Math.abs(deviation * Math.sqrt(128) - 1) < 0.05, `${type}: deviation ${deviation}`);
    const norms = weights(bytes, { tensor: tensors["output_norm.weight"], type: "F32" });
    assertEquals(new Set(norms), new Set([1]));
  }
});

Deno.test("no two rows or layers are equal", () => {
  const bytes = encodeGguf(llamaGgufParts({ ...TINIEST_LLAMA, layers: 8, type: "Q4_0", vocab: 2000 }));
  const { tensors } = readGguf(bytes);
  const rowBytes = tensorBytes("Q4_0", [TINIEST_LLAMA.embd]);
  const rows = new Set<string>();
  let count = 0;
  for (const [name, { start, dims }] of Object.entries(tensors)) {
    if (dims.length < 2 || name === "output.weight") continue;
    for (let row = 0; row < dims[1]; row++, count++) {
      rows.add(bytes.subarray(start + row * rowBytes, start + (row + 1) * rowBytes).toHex());
    }
  }
  assertEquals(rows.size, count);
});

Deno.test("the same seed gives the same file, another seed another", () => {
  const encode = (seed: number) => encodeGguf(llamaGgufParts({ ...TINIEST_LLAMA, seed }));
  assertEquals(encode(3), encode(3));
  assertNotEquals(encode(3), encode(4));
});

Deno.test("tied embeddings leave the output matrix out", () => {
  const { tensors } = readGguf(encodeGguf(llamaGgufParts({ ...TINIEST_LLAMA, tiedEmbeddings: true })));
  assertEquals("output.weight" in tensors, false);
});

Deno.test("a chained model continues every token with the next id", async () => {
  const path = await Deno.makeTempFile({ suffix: ".gguf" });
  try {
    await writeLlamaGguf(path, { ...TINIEST_LLAMA, chain: true });
    const engine = await loadEngine(path);
    const { tokens: [first, ...rest] } = await answer(engine, {
      prompt: "!",
      max_tokens: 30,
      temperature: 0,
    });
    await engine.close();
    assertEquals(rest.map(({ id }) => id), rest.map((_, i) => first.id + 1 + i));
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("impossible shapes are refused with the numbers at fault", () => {
  const refuse = (change: Partial<LlamaShape>, message: string) =>
    assertThrows(() => llamaGgufParts({ ...TINIEST_LLAMA, ...change }), RangeError, message);
  refuse({ heads: 5 }, "64 over 5 heads");
  refuse({ heads: 64 }, "64 over 64 heads");
  refuse({ heads: 4, kvHeads: 3 }, "3 key-value heads");
  refuse({ vocab: 258 }, "at least 259");
  refuse({ embd: 48, heads: 2, type: "Q8_0" }, "rows of 48");
});

Deno.test("a vocabulary has distinct tokens, all the bytes, and pieces made of shorter ones", () => {
  const { tokens, scores, types } = llamaVocab(32000);
  assertEquals([tokens.length, new Set(tokens).size], [32000, 32000]);
  assertEquals([scores.length, types.length], [32000, 32000]);
  assertEquals([tokens[3], tokens[MIN_VOCAB_TOKENS - 1], types[3]], ["<0x00>", "<0xFF>", 6]);
  const known = new Set(tokens);
  for (const token of tokens.slice(MIN_VOCAB_TOKENS)) {
    const letters = [...token];
    assert(letters.length === 1 || known.has(letters.slice(0, -1).join("")), token);
  }
});

Deno.test("a file on disk equals the same model in memory", async () => {
  await withTempDir(async (dir) => {
    const path = `${dir}/model.gguf`;
    await Deno.writeFile(path, new Uint8Array(1_000_000));
    await writeLlamaGguf(path, TINIEST_LLAMA);
    assertEquals(await Deno.readFile(path), encodeGguf(llamaGgufParts(TINIEST_LLAMA)));
  });
});

Deno.test("a cached model is written once per shape and never seen half done", async () => {
  await withTempDir(async (dir) => {
    const cache = `${dir}/models`;
    const path = await cachedLlamaGguf(cache, TINIEST_LLAMA);
    await Deno.writeTextFile(path, "not written again");
    assertEquals(await cachedLlamaGguf(cache, { ...TINIEST_LLAMA }), path);
    assertEquals(await Deno.readTextFile(path), "not written again");
    assertNotEquals(await cachedLlamaGguf(cache, { ...TINIEST_LLAMA, seed: 2 }), path);
    const names = Array.from(Deno.readDirSync(cache), ({ name }) => name);
    assertEquals([names.length, names.every((name) => name.endsWith(".gguf"))], [2, true]);
  });
});

Deno.test("the TinyLlama shape has 1.1 billion weights, none of them in memory", () => {
  const { tensors } = llamaGgufParts({ ...TINY_LLAMA_1B, type: "Q4_0" });
  const weightCount = tensors.reduce((sum, { dims }) => sum + Number(dims[0]) * Number(dims[1] ?? 1), 0);
  assertEquals(weightCount, 1_100_048_384);
  const sizeBytes = tensors.reduce((sum, { byteLength }) => sum + byteLength, 0);
  assertEquals(Math.round(sizeBytes / 1e6), 619);
});

Deno.test("a raw file says what it is told to say, each tensor in its aligned place", async () => {
  await withTempDir(async (dir) => {
    const path = `${dir}/raw.gguf`;
    const tensor = (name: string, byte: number) => {
      const data = new Uint8Array(8).fill(byte);
      return { name, dims: [2], type: "F32" as const, byteLength: 8, data: () => [data] };
    };
    await writeRawGguf(path, {
      metadata: [["answer", ggufScalar("u32", 42)]],
      tensors: [tensor("first", 7), tensor("second", 8)],
    });
    const bytes = await Deno.readFile(path);
    const { metadata, tensors: { first, second } } = readGguf(bytes);
    assertEquals(metadata, { answer: 42 });
    assertEquals(second.start - first.start, 32);
    assertEquals(bytes.slice(second.start, second.start + 8), new Uint8Array(8).fill(8));
  });
});

Deno.test("hostile files are many, named apart, small, and each unlike the good one", () => {
  const good = encodeGguf(llamaGgufParts(TINIEST_LLAMA)).toHex();
  const names = new Set<string>();
  let unusableCount = 0;
  for (const { name, bytes, unusable } of hostileGgufs()) {
    assert(/^[a-z0-9_]+$/.test(name) && !names.has(name), name);
    names.add(name);
    assertNotEquals(bytes.toHex(), good, name);
    assert(bytes.length < 500_000, `${name}: ${bytes.length} bytes`);
    if (unusable) unusableCount++;
  }
  assert(names.size >= 150 && unusableCount >= 120, `${names.size} files, ${unusableCount} unusable`);
});
