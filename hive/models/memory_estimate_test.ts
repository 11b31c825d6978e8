import { assert, assertEquals } from "@std/assert";
import { loadEngine } from "../../tests/helpers/engine.ts";
import { type LlamaShape, TINIEST_LLAMA, writeLlamaGguf } from "../../tests/helpers/gguf_writer.ts";
import { findModel } from "../../tests/helpers/test_models.ts";
import { type GgufFacts, readGgufFacts } from "./gguf.ts";
import { estimateMemory, memoryBytes, type MemoryOptions } from "./memory_estimate.ts";
import { type Packing, weightBytes } from "./weight_buffers.ts";

/** How far the sum may be from what llama.cpp reports. */
const TOLERANCE = 0.05;

const BASE: LlamaShape = {
  ...{ layers: 3, embd: 256, heads: 4, ff: 704, vocab: 1_000, ctx: 65_536, type: "F16" },
};

/** A model, and how it is loaded. */
type Case = [name: string, shape: Partial<LlamaShape>, options?: Partial<MemoryOptions>];

const CASES: Case[] = [
  ["as many key-value heads as heads", {}],
  ["grouped queries", { heads: 8, embd: 512, kvHeads: 2, type: "Q4_0" }],
  ["one key-value head", { kvHeads: 1, type: "Q8_0" }],
  ["experts", { experts: { count: 8, used: 2 }, ff: 256, type: "Q4_0" }],
  ["narrow experts, many used", { experts: { count: 16, used: 8 }, ff: 128, type: "Q8_0" }],
  ["tied embeddings", { tiedEmbeddings: true, vocab: 8_000 }],
  ["a long context", { kvHeads: 1 }, { ctxSize: 32_768, slots: 1 }],
  ["many slots", {}, { ctxSize: 500, slots: 40 }],
  ["keys and values of q8_0", {}, { cacheType: "q8_0" }],
  ["keys and values of q4_0", { type: "Q4_0" }, { cacheType: "q4_0", ctxSize: 8_192 }],
  ["small heads", { heads: 16, type: "F32" }],
  ["no flash attention", { kvHeads: 2 }, { flashAttention: "off" }],
  ["flash attention on f32", {}, { cacheType: "f32", flashAttention: "on" }],
  ["a large vocabulary", { embd: 64, heads: 1, ff: 192, vocab: 128_256, type: "Q8_0" }],
  ["one cache for all slots", {}, { kvUnified: true, slots: 3, ctxSize: 700 }],
];

/** What this machine's kernels do with weights, found out by what they do with small models. */
async function packingHere(path: string): Promise<Packing> {
  const seen: [GgufFacts, number][] = [];
  for (const type of ["F16", "Q8_0", "Q4_0"] as const) {
    await writeLlamaGguf(path, { ...TINIEST_LLAMA, type });
    const engine = await loadEngine(path);
    seen.push([await readGgufFacts(path), engine.memory().weightsBytes]);
    await engine.close();
  }
  const fits = (packing: Packing) =>
    seen.every(([{ tensors }, bytes]) => weightBytes(tensors, { packing, onGpu: false }) === bytes);
  const packing = (["none", "avx2", "amx", "arm"] as const).find(fits);
  assert(packing !== undefined, "llama.cpp lays the weights out in a way that is not known");
  return packing;
}

async function compare(path: string, options: MemoryOptions & { packing: Packing }): Promise<void> {
  const { ctxSize, slots, cacheType, flashAttention, kvUnified } = options;
  const engine = await loadEngine(path, {
    ...{ ctxSize, slots, cacheType: cacheType ?? "auto" },
    ...{ flashAttention: flashAttention ?? "auto", kvUnified: kvUnified ?? false },
  });
  const { weightsBytes, kvBytes, computeBytes } = engine.memory();
  await engine.close();
  const { weights, kv, compute } = memoryBytes(await readGgufFacts(path), options);
  assertEquals({ weights, kv }, { weights: weightsBytes, kv: kvBytes });
  const share = (weights + kv + compute) / (weightsBytes + kvBytes + computeBytes);
  assert(
    Math.abs(share - 1) <= TOLERANCE,
    `${share} of the whole, ${compute} for ${computeBytes} of buffers`,
  );
}

Deno.test("the estimate is what llama.cpp allocates for", async (t) => {
  const path = await Deno.makeTempFile({ suffix: ".gguf" });
  try {
    const packing = await packingHere(path);
    for (const [name, shape, options] of CASES) {
      await t.step(name, async () => {
        await writeLlamaGguf(path, { ...BASE, ...shape });
        await compare(path, { ctxSize: 2_048, slots: 2, packing, ...options });
      });
    }
    for (
      const name of ["rbee-stories-1.4M-Q8_0.gguf", "stories260K-F32.gguf", "tiny-rwkv-7v0-834K-F32.gguf"]
    ) {
      const model = findModel(name);
      await t.step({
        name,
        ignore: model === undefined,
        fn: () => compare(model!, { ctxSize: 512, slots: 4, packing }),
      });
    }
  } finally {
    await Deno.remove(path);
  }
});

/** Llama 3.1 8B as Q4_K_M, from its published configuration. */
const LLAMA_8B: GgufFacts = {
  ...{ architecture: "llama", blockCount: 32, contextLength: 131_072, embeddingLength: 4096 },
  ...{ headCount: Array(32).fill(32), headCountKv: Array(32).fill(8), keyLength: 128, valueLength: 128 },
  ...{ feedForwardLength: 14_336, expertsUsed: 0, expertFeedForwardLength: 14_336 },
  ...{ vocabularySize: 128_256, recurrentStateLength: 0, recurrentWidth: 4096 },
  ...{ tensors: [], tensorBytes: 4_912_898_304, fileBytes: 4_920_739_232 },
};

Deno.test("keys and values take what llama.cpp allocates for them", () => {
  // llama.cpp reports 512 MiB of F16 cache for 4096 tokens of this shape.
  const estimate = estimateMemory(LLAMA_8B, { ctxSize: 4096, slots: 1 });
  assertEquals(estimate.kv_mb, Math.ceil(512 * 1.048576));
  assertEquals(estimateMemory(LLAMA_8B, { ctxSize: 4096, slots: 4 }).kv_mb, Math.ceil(4 * 512 * 1.048576));
});

Deno.test("no model needs less than 1.2 times its file", () => {
  const { kv_mb, compute_mb, required_mb } = estimateMemory(LLAMA_8B, { ctxSize: 16, slots: 1 });
  assert(LLAMA_8B.tensorBytes / 1e6 + kv_mb + compute_mb < required_mb);
  assertEquals(required_mb, Math.ceil(1.2 * LLAMA_8B.fileBytes / 1e6));
  const large = estimateMemory(LLAMA_8B, { ctxSize: 131_072, slots: 2 });
  const sum = LLAMA_8B.tensorBytes / 1e6 + large.kv_mb + large.compute_mb;
  assert(Math.abs(large.required_mb - sum) <= 3);
});

Deno.test("layers without keys and values count by their state, not by the context", () => {
  const headCountKv = [...Array(4).fill(8), ...Array(28).fill(0)];
  const hybrid = { ...LLAMA_8B, headCountKv, recurrentStateLength: 100_000 };
  const kv = (ctxSize: number) => estimateMemory(hybrid, { ctxSize, slots: 2 }).kv_mb;
  assertEquals(kv(4096), Math.ceil((4096 * 2 * 4 * 8 * 256 * 2 + 2 * 28 * 100_000 * 4) / 1e6));
});
