import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { RbeeError } from "../protocol/errors.ts";
import { MAX_JSON_VALUES } from "../protocol/limits.ts";
import { GenerationOptions, type InferenceInput, InferenceRequest } from "../protocol/worker_requests.ts";
import { type Answer, answer, complete, loadEngine } from "../tests/helpers/engine.ts";
import { sharedModel, STORIES } from "../tests/helpers/test_models.ts";
import type { Engine } from "./engine.ts";
import { decodeAnswer, encodeAnswer, type ExportedAnswer, modelFingerprint } from "./exported_answer.ts";
import type { NativeSequence } from "./native/addon.ts";

const stories260k = sharedModel("stories260K-F32.gguf");
const rwkv = sharedModel("tiny-rwkv-7v0-834K-F32.gguf");
const WORDS = "Once upon a time, there was a little girl named Lily. ";

/** Requests whose sampler, text and grammar have something to remember. */
const REQUESTS: Record<string, InferenceInput> = {
  "sampled": { prompt: WORDS, temperature: 1, max_tokens: 120 },
  "with penalties": { prompt: WORDS, temperature: 1.2, repetition_penalty: 1.3, presence_penalty: 0.5 },
  "with a grammar that refuses much": { prompt: WORDS, temperature: 1.5, grammar: `root ::= [a-h ]{120}` },
  "with a schema": {
    prompt: WORDS,
    temperature: 1,
    json_schema: { type: "array", items: { type: "string", maxLength: 9 }, minItems: 12, maxItems: 12 },
  },
  "with log probabilities": { prompt: WORDS, temperature: 1, logprobs: 3, max_tokens: 80 },
  "with half a stop string at every space": { prompt: WORDS, temperature: 1, stop: [" zzz", ". T"] },
  "strict": { prompt: WORDS, temperature: 1, strict: true, max_tokens: 80 },
};

async function withTwo(
  model: string,
  work: (first: Engine, second: Engine) => Promise<void>,
): Promise<void> {
  const first = await loadEngine(model, { ctxSize: 512 });
  const second = await loadEngine(model, { ctxSize: 512, slots: 3 });
  try {
    await work(first, second);
  } finally {
    await first.close();
    await second.close();
  }
}

/** Begins an answer and takes it away once it has `after` tokens; undefined when it ended before. */
async function cut(
  engine: Engine,
  input: InferenceInput,
  how: { after: number; kv: boolean },
): Promise<{ begun: Answer; sequence?: NativeSequence }> {
  let exported: Promise<NativeSequence | undefined> | undefined;
  const begun = await answer(engine, input, (tokens, generation) => {
    if (tokens.length >= how.after) exported ??= generation.export({ kv: how.kv, stop: true });
  });
  return { begun, sequence: await exported };
}

/** As it arrives at another worker: through bytes. */
async function moved(input: InferenceInput, sequence: NativeSequence) {
  const options = GenerationOptions.strip().parse(InferenceRequest.parse(input));
  const { options: read, sequence: resume } = await decodeAnswer(
    await encodeAnswer({ model: "m", options, sequence }),
    CONTEXT,
  );
  return { ...read, resume };
}

for (const [model, path] of Object.entries({ STORIES, stories260k, rwkv })) {
  for (const [name, request] of Object.entries(REQUESTS)) {
    Deno.test({
      name: `${model}: a seeded answer ${name}, cut anywhere, goes on in another engine as if never cut`,
      ignore: path === undefined,
      fn: () =>
        withTwo(path!, async (first, second) => {
          let cuts = 0;
          for (let after = 1, seed = 1; after < 100; after += 7, seed++) {
            const input = { ...request, seed };
            const whole = await answer(first, input);
            const { begun, sequence } = await cut(first, input, { after, kv: true });
            if (sequence === undefined) continue;
            cuts++;
            assertEquals(begun.stats.stop_reason, "canceled");
            assertEquals(begun.stats.total_tokens, begun.tokens.length);
            const rest = await complete(second, await moved(input, sequence));
            assertEquals([...begun.tokens, ...rest.tokens], whole.tokens);
            assertEquals(rest.stats.resumed_tokens, begun.tokens.length);
            assertEquals(rest.stats.total_tokens, whole.stats.total_tokens);
            assertEquals(rest.stats.prompt_tokens, whole.stats.prompt_tokens);
            assertEquals(rest.stats.stop_reason, whole.stats.stop_reason);
          }
          assert(cuts > 3, `only ${cuts} answers were cut in time`);
        }),
    });
  }
}

Deno.test("without the KV cache the tokens are read again", () =>
  withTwo(STORIES, async (first, second) => {
    const input = { prompt: WORDS, temperature: 0, grammar: `root ::= "${"a little dog ".repeat(30)}"` };
    const { begun, sequence } = await cut(first, input, { after: 5, kv: false });
    assertEquals(sequence!.kv.length, 0);
    const rest = await complete(second, await moved(input, sequence!));
    assertEquals(begun.text + rest.text, "a little dog ".repeat(30));
  }));

Deno.test("a cache of another type is not used; the tokens are read again", async () => {
  const input = { prompt: WORDS, temperature: 0, grammar: `root ::= "${"a little dog ".repeat(30)}"` };
  const first = await loadEngine(STORIES, { ctxSize: 512 });
  const second = await loadEngine(STORIES, { ctxSize: 512, cacheType: "q8_0" });
  try {
    const { begun, sequence } = await cut(first, input, { after: 5, kv: true });
    const rest = await complete(second, await moved(input, sequence!));
    assertEquals(begun.text + rest.text, "a little dog ".repeat(30));
    assertEquals(rest.stats.cached_tokens, 0);
    // And the slot is as good as new.
    const next = await answer(second, { prompt: WORDS, temperature: 0, max_tokens: 20, seed: 1 });
    const fresh = await answer(second, { prompt: WORDS, temperature: 0, max_tokens: 20, seed: 1 });
    assertEquals(next.text, fresh.text);
  } finally {
    await first.close();
    await second.close();
  }
});

Deno.test("an export that does not stop leaves the answer running, and the copy says the same", () =>
  withTwo(STORIES, async (first, second) => {
    const input = {
      prompt: WORDS,
      temperature: 1,
      seed: 3,
      grammar: "root ::= [a-h ]{300}",
      max_tokens: 300,
    };
    let exported: Promise<NativeSequence | undefined> | undefined;
    const whole = await answer(first, input, (_, generation) => {
      exported ??= generation.export({ kv: true, stop: false });
    });
    const sequence = await exported!;
    const copy = await complete(second, await moved(input, sequence!));
    assertEquals(copy.tokens, whole.tokens.slice(whole.tokens.length - copy.tokens.length));
    assertEquals(copy.tokens.at(-1), whole.tokens.at(-1));
  }));

Deno.test("an answer that ended cannot be exported", () =>
  withTwo(STORIES, async (first) => {
    const { sequence } = await cut(first, { prompt: WORDS, max_tokens: 1 }, { after: 1, kv: true });
    assertEquals(sequence, undefined);
  }));

Deno.test("what contradicts itself is refused, and the engine lives on", () =>
  withTwo(STORIES, async (first, second) => {
    const input = {
      prompt: WORDS,
      temperature: 1,
      seed: 3,
      grammar: "root ::= [a-h ]{300}",
      max_tokens: 300,
    };
    const { sequence } = await cut(first, input, { after: 5, kv: true });
    const wrong: Partial<NativeSequence>[] = [
      { prompt: new Int32Array() },
      { prompt: Int32Array.of(1_000_000) },
      { generated: Int32Array.of(-1), held: [] },
      { maxTokens: 1 },
      { maxTokens: 100_000 },
      { draws: 1_000_000 },
      { kvTokens: 1_000 },
      { held: [{}, {}, {}, {}, {}, {}] },
    ];
    const work = await moved(input, sequence!);
    for (const change of wrong) {
      const error = await assertRejects(
        () => complete(second, { ...work, resume: { ...work.resume, ...change } }),
        RbeeError,
      );
      assertEquals(error.code, "INVALID_REQUEST", JSON.stringify(change));
    }
    // A cache that is none, or less of one than was said, is not used.
    for (
      const kv of [new Uint8Array(100), work.resume.kv.slice(0, -1), new Uint8Array([...work.resume.kv, 0])]
    ) {
      const { stats } = await complete(second, { ...work, resume: { ...work.resume, kv } });
      assertEquals(stats.cached_tokens, 0);
    }
    const again = await answer(second, { prompt: WORDS, max_tokens: 5 });
    assertEquals(again.tokens.length, 5);
  }));

/** More than any answer here has. */
const CONTEXT = 100_000;

const SOME: ExportedAnswer = {
  model: "f".repeat(64),
  options: GenerationOptions.parse({ stop: ["x"], json_schema: { type: "object" } }),
  sequence: {
    seed: 7,
    maxTokens: 9,
    prompt: Int32Array.of(1, 2, 3),
    generated: Int32Array.of(4, 5),
    held: [{ logprob: -1.5, top: [{ id: 5, token: "é", logprob: -1.5 }] }],
    draws: 2,
    kv: Uint8Array.from({ length: 300 }, (_, i) => i),
    kvTokens: 4,
  },
};

Deno.test("an exported answer survives its way as bytes", async () => {
  assertEquals(await decodeAnswer(await encodeAnswer(SOME), CONTEXT), SOME);
});

Deno.test("an answer of more tokens than a context has is refused before it is read", async () => {
  const prompt = new Int32Array(MAX_JSON_VALUES + CONTEXT).fill(7);
  const bytes = await encodeAnswer({ ...SOME, sequence: { ...SOME.sequence, prompt } });
  const error = await assertRejects(() => decodeAnswer(bytes, CONTEXT), RbeeError);
  assertEquals(error.code, "INVALID_REQUEST");
  assertStringIncludes(error.message, "values");
});

Deno.test("every damaged, cut or foreign byte is noticed", async () => {
  const bytes = await encodeAnswer(SOME);
  const refused = async (changed: Uint8Array<ArrayBuffer>) => {
    const error = await assertRejects(() => decodeAnswer(changed, CONTEXT), RbeeError);
    assertEquals(error.code, "INVALID_REQUEST");
  };
  await fc.assert(
    fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
      const changed = bytes.slice();
      changed[at] ^= flip;
      await refused(changed);
      await refused(bytes.slice(0, at));
    }),
    { numRuns: 300 },
  );
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), (noise) => refused(new Uint8Array(noise))),
  );
});

Deno.test("models have fingerprints of their own", async () => {
  const models = [STORIES, stories260k, rwkv].filter((path) => path !== undefined);
  const fingerprints = await Promise.all(models.map(modelFingerprint));
  assertEquals(new Set(fingerprints).size, models.length);
  assertEquals(await modelFingerprint(STORIES), fingerprints[0]);
});
