import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { RbeeError } from "../../protocol/errors.ts";
import {
  encodeGguf,
  encodeGgufHead,
  ggufArray,
  type GgufParts,
  ggufScalar,
} from "../../tests/helpers/gguf_format.ts";
import { hostileGgufs } from "../../tests/helpers/gguf_hostile.ts";
import { containerDamages } from "../../tests/helpers/gguf_hostile_container.ts";
import { llamaGgufParts, TINIEST_LLAMA } from "../../tests/helpers/gguf_writer.ts";
import { withValue } from "../../tests/helpers/gguf_damage.ts";
import { type GgufFacts, readGgufFacts } from "./gguf.ts";
import { estimateMemory } from "./memory_estimate.ts";
import { BUILTIN_DIR, smallestGguf } from "./models_test_bed.ts";

async function factsOf(bytes: Uint8Array): Promise<GgufFacts> {
  const path = await Deno.makeTempFile({ suffix: ".gguf" });
  try {
    await Deno.writeFile(path, bytes);
    return await readGgufFacts(path);
  } finally {
    await Deno.remove(path);
  }
}

/** Facts or `INVALID_MODEL`; anything else fails the test. */
async function outcomeOf(bytes: Uint8Array): Promise<"facts" | "invalid"> {
  try {
    const facts = await factsOf(bytes);
    const estimate = estimateMemory(facts, { ctxSize: 4096, slots: 4 });
    assert(
      Object.values(estimate).every((mb) => Number.isSafeInteger(mb) && mb >= 0),
      JSON.stringify(estimate),
    );
    return "facts";
  } catch (error) {
    assert(error instanceof RbeeError && error.code === "INVALID_MODEL", String(error));
    return "invalid";
  }
}

Deno.test("the facts of the model that ships with rbee", async () => {
  const { tensors, ...facts } = await readGgufFacts(`${BUILTIN_DIR}/rbee-stories-1.4M-Q8_0.gguf`);
  assertEquals(tensors.map((file) => file.length), [56]);
  assertEquals(facts, {
    ...{ architecture: "llama", blockCount: 6, contextLength: 512, embeddingLength: 128 },
    ...{ headCount: Array(6).fill(4), headCountKv: Array(6).fill(2), keyLength: 32, valueLength: 32 },
    ...{ feedForwardLength: 384, expertsUsed: 0, expertFeedForwardLength: 384 },
    ...{ vocabularySize: 2048, recurrentStateLength: 0, recurrentWidth: 128 },
    ...{ tensorBytes: 1_538_560, fileBytes: 1_588_160 },
  });
});

Deno.test("heads may be listed layer by layer, and heads have lengths of their own", async () => {
  const parts = llamaGgufParts({ ...TINIEST_LLAMA, layers: 3 });
  const changed: GgufParts = [
    ["llama.attention.head_count_kv", ggufArray("i32", [2, 0, 1])],
    ["llama.attention.key_length", ggufScalar("u32", 192)],
    ["llama.attention.value_length", ggufScalar("u64", 128n)],
  ].reduce((made, [key, value]) => withValue(made, key as string, value as never), parts);
  const facts = await factsOf(encodeGguf(changed));
  assertEquals([facts.headCountKv, facts.keyLength, facts.valueLength], [[2, 0, 1], 192, 128]);
  const tooMany = withValue(parts, "llama.attention.head_count_kv", ggufArray("i32", [2, 0, 1, 1]));
  assertEquals(await outcomeOf(encodeGguf(tooMany)), "invalid");
});

Deno.test("a split model is all its parts", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const { metadata, tensors } = llamaGgufParts(TINIEST_LLAMA);
    const count = (parts: GgufParts) => withValue(parts, "split.count", ggufScalar("u16", 2));
    const first = encodeGguf(count({ metadata, tensors: tensors.slice(0, 5) })).slice();
    const second = encodeGguf(count({ metadata: [], tensors: tensors.slice(5) })).slice();
    await Deno.writeFile(`${folder}/m-00001-of-00002.gguf`, first);
    const missing = await assertRejects(() => readGgufFacts(`${folder}/m-00001-of-00002.gguf`), RbeeError);
    assertStringIncludes(missing.message, "m-00002-of-00002.gguf does not exist");
    await Deno.writeFile(`${folder}/m-00002-of-00002.gguf`, second);
    const facts = await readGgufFacts(`${folder}/m-00002-of-00002.gguf`);
    assertEquals(facts.tensorBytes, tensors.reduce((sum, tensor) => sum + tensor.byteLength, 0));
    assertEquals(facts.fileBytes, first.length + second.length);
    await Deno.copyFile(`${folder}/m-00001-of-00002.gguf`, `${folder}/alone.gguf`);
    const alone = await assertRejects(() => readGgufFacts(`${folder}/alone.gguf`), RbeeError);
    assertStringIncludes(alone.message, "one of 2 parts");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("hostile files never do worse than INVALID_MODEL, and a damaged container always does that", async () => {
  const accepted: string[] = [];
  for (const { name, bytes } of hostileGgufs()) {
    if (await outcomeOf(bytes) === "facts") accepted.push(name);
  }
  // What is wrong within a sound container only the engine can tell.
  assertEquals(accepted.filter((name) => name in containerDamages.unusable), []);
});

Deno.test("a file cut anywhere is INVALID_MODEL", async () => {
  const whole = smallestGguf();
  await fc.assert(
    fc.asyncProperty(fc.nat(whole.length - 1), async (length) => {
      assertEquals(await outcomeOf(whole.subarray(0, length)), "invalid");
    }),
    { numRuns: 200 },
  );
});

Deno.test("a header with any bytes overwritten gives facts or INVALID_MODEL", async () => {
  const whole = smallestGguf();
  const head = encodeGgufHead(llamaGgufParts(TINIEST_LLAMA)).bytes.slice();
  for (const good of [whole, head]) {
    const edits = fc.array(fc.tuple(fc.nat(good.length - 1), fc.uint8Array({ minLength: 1, maxLength: 8 })), {
      minLength: 1,
      maxLength: 4,
    });
    await fc.assert(
      fc.asyncProperty(edits, async (list) => {
        const bytes = good.slice();
        for (const [at, values] of list) bytes.set(values.subarray(0, good.length - at), at);
        await outcomeOf(bytes);
      }),
      { numRuns: 300 },
    );
  }
});

Deno.test("a folder, and a file that is not there, are INVALID_MODEL", async () => {
  for (const path of [BUILTIN_DIR, `${BUILTIN_DIR}/nonesuch.gguf`]) {
    assertEquals((await assertRejects(() => readGgufFacts(path), RbeeError)).code, "INVALID_MODEL");
  }
});

Deno.test("reading stops when told to", async () => {
  const reason = new Error("enough");
  const signal = AbortSignal.abort(reason);
  const thrown = await assertRejects(() =>
    readGgufFacts(`${BUILTIN_DIR}/rbee-stories-1.4M-Q8_0.gguf`, { signal })
  );
  assertEquals(thrown, reason);
});
