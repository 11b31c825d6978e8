import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { RbeeError } from "../protocol/errors.ts";
import type { InferenceInput } from "../protocol/worker_requests.ts";
import { answer, loadEngine } from "../tests/helpers/engine.ts";
import { sharedModel, STORIES } from "../tests/helpers/test_models.ts";
import type { Engine } from "./engine.ts";

const rwkv = sharedModel("tiny-rwkv-7v0-834K-F32.gguf");
const embedder = sharedModel("glove-6b-100d-bow-40k-Q8_0.gguf");

const signal = new AbortController().signal;

function cosine(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, i) => sum + value * b[i], 0) / (Math.hypot(...a) * Math.hypot(...b));
}

async function withEngine(
  work: (engine: Engine) => Promise<void>,
  model = STORIES,
  slots = 2,
): Promise<void> {
  const engine = await loadEngine(model, { slots });
  try {
    await work(engine);
  } finally {
    await engine.close();
  }
}

Deno.test("a seed repeats an answer, and a chosen seed is reported", () =>
  withEngine(async (engine) => {
    const input: InferenceInput = { prompt: "Once upon a time", max_tokens: 40, temperature: 1 };
    const chosen = await answer(engine, input);
    const first = await answer(engine, { ...input, seed: chosen.stats.seed });
    // Now the prompt is in a slot's cache, which must make no difference.
    const again = await answer(engine, { ...input, seed: chosen.stats.seed });
    assertEquals(first.text, chosen.text);
    assertEquals(again.text, first.text);
    assertEquals(again.stats.seed, chosen.stats.seed);
    const other = await answer(engine, { ...input, seed: first.stats.seed + 1 });
    assert(other.text !== first.text);
  }));

Deno.test("tokens come with contiguous indexes, and their texts are the answer's", () =>
  withEngine(async (engine) => {
    const { tokens, text, stats } = await answer(engine, {
      prompt: "Once upon a time",
      max_tokens: 30,
      temperature: 0,
    });
    assertEquals(tokens.map((token) => token.index), [...tokens.keys()]);
    assertEquals(stats.total_tokens, tokens.length);
    assertEquals(stats.stop_reason, "length");
    const ids = Int32Array.from(tokens, (token) => token.id);
    assertEquals(await engine.detokenize(ids, signal), text);
  }));

Deno.test("a conversation goes through the model's template and ends by itself", () =>
  withEngine(async (engine) => {
    const messages = [{ role: "user" as const, content: "write a short story" }];
    const { prompt } = await engine.renderChat({ messages }, signal);
    assertEquals(prompt, "<|user|>\nwrite a short story<|end|>\n<|assistant|>\n");
    const { stats, text } = await answer(engine, { messages, temperature: 0.5, seed: 1 });
    assertEquals(stats.stop_reason, "eos");
    assert(!text.includes("<|"), text);
  }));

Deno.test("a stop string ends the answer and never shows, wherever tokens cut it", () =>
  withEngine(async (engine) => {
    const input: InferenceInput = { prompt: "Once upon a time", max_tokens: 60, temperature: 0 };
    const { text } = await answer(engine, input);
    for (const stop of ["little girl", "named Lily", "e lo", "e"]) {
      const { text: cut, stats } = await answer(engine, { ...input, stop: ["never there", stop] });
      assertEquals(cut, text.slice(0, text.indexOf(stop)), `stop ${JSON.stringify(stop)}`);
      assertEquals(stats.stop_reason, "stop");
    }
  }));

Deno.test("a JSON schema is satisfied", () =>
  withEngine(async (engine) => {
    const json_schema = {
      type: "object",
      properties: {
        name: { type: "string", maxLength: 12 },
        age: { type: "integer", minimum: 0, maximum: 99 },
      },
      required: ["name", "age"],
      additionalProperties: false,
    };
    const { text } = await answer(engine, { prompt: "A person: ", json_schema, seed: 3, max_tokens: 200 });
    const value = JSON.parse(text);
    assertEquals(Object.keys(value).sort(), ["age", "name"]);
    assert(Number.isInteger(value.age) && value.age >= 0 && value.age <= 99);
  }));

Deno.test("a grammar is followed", () =>
  withEngine(async (engine) => {
    const { text } = await answer(engine, { prompt: "Is it so? ", grammar: `root ::= "yes" | "no"` });
    assert(text === "yes" || text === "no", text);
  }));

for (
  const [name, bad] of Object.entries<Partial<InferenceInput>>({
    "a grammar that is none": { grammar: "root ::= (((" },
    "a left-recursive grammar": { grammar: `root ::= root "a"` },
    "another library's grammar": { grammar: "%llguidance {}" },
    "a deeply nested grammar": { grammar: `root ::= ${"(".repeat(5000)}"a"${")".repeat(5000)}` },
    "a grammar of more rules than can be followed": { grammar: chainOfRules(20_000) },
    "a grammar that ends before its end": { grammar: `\u0000root ::= "a"` },
    "a schema with thousands of optional properties": {
      json_schema: {
        type: "object",
        properties: Object.fromEntries(Array.from({ length: 5000 }, (_, at) => [`p${at}`, {}])),
      },
    },
    "a schema with an unknown type": { json_schema: { type: "nonsense" } },
    "a schema that refers to nothing": { json_schema: { $ref: "#/nowhere" } },
    "more tokens than the context holds": { max_tokens: 513 },
    "more tokens than an int holds": { max_tokens: 2 ** 32 + 4 },
  })
) {
  Deno.test(`${name} is refused as the caller's mistake, and the slot stays free`, () =>
    withEngine(async (engine) => {
      const error = await assertRejects(() => answer(engine, { prompt: "x", ...bad }), RbeeError);
      assertEquals(error.code, "INVALID_REQUEST", error.message);
      assertEquals(engine.slotsAvailable, engine.slots);
      await answer(engine, { prompt: "x", max_tokens: 1 });
    }));
}

Deno.test("a long chain of rules and a schema of many properties are kept to", () =>
  withEngine(async (engine) => {
    await answer(engine, { prompt: "x", max_tokens: 1, grammar: chainOfRules(30) });
    const properties = Object.fromEntries(Array.from({ length: 300 }, (_, at) => [`p${at}`, {}]));
    await answer(engine, { prompt: "x", max_tokens: 1, json_schema: { type: "object", properties } });
  }));

/** Each rule begins with the next one, perhaps in a group that may be empty. */
function chainOfRules(length: number): string {
  const links = Array.from({ length }, (_, at) => `r${at} ::= "x"? (r${at + 1})?`);
  return ["root ::= r0", ...links, `r${length} ::= "a"`].join("\n");
}

Deno.test("a prompt of millions of characters is refused without reading all of it", () =>
  withEngine(async (engine) => {
    const error = await assertRejects(() => answer(engine, { prompt: "🐝".repeat(4_000_000) }), RbeeError);
    assertEquals(error.code, "INVALID_REQUEST");
    assertStringIncludes(error.message, "more than");
    assertStringIncludes(error.message, "512");
  }));

Deno.test("a prompt longer than the context is refused with both numbers", () =>
  withEngine(async (engine) => {
    const prompt = "a b ".repeat(600);
    const { length: tokens } = await engine.tokenize(prompt, { signal });
    const error = await assertRejects(() => answer(engine, { prompt }), RbeeError);
    assertStringIncludes(error.message, `${tokens} tokens`);
    assertStringIncludes(error.message, "512");
  }));

Deno.test("without max_tokens an answer takes what the context leaves, at most", () =>
  withEngine(async (engine) => {
    const prompt = "One day " + "the dog ran. ".repeat(90);
    const left = 512 - (await engine.tokenize(prompt, { signal })).length;
    assert(left > 0 && left < 200, String(left));
    const { stats } = await answer(engine, { prompt, temperature: 0, grammar: `root ::= [a-z]{600}` });
    assertEquals(stats.total_tokens, left);
    assertEquals(stats.stop_reason, "length");
  }));

Deno.test("what a prompt shares with the last one is not read again", () =>
  withEngine(async (engine) => {
    const prompt = "Once upon a time there was a little dog";
    const first = await answer(engine, { prompt, max_tokens: 8, temperature: 0 });
    assertEquals(first.stats.cached_tokens, 0);
    const longer = await answer(engine, {
      prompt: prompt + first.text + " and",
      max_tokens: 4,
      temperature: 0,
    });
    assert(longer.stats.cached_tokens >= first.stats.prompt_tokens, JSON.stringify(longer.stats));
  }));

Deno.test("canceling ends an answer with what it had, and frees the slot", () =>
  withEngine(async (engine) => {
    const { stats, tokens } = await answer(engine, { prompt: "Once", max_tokens: 500 }, (_, generation) => {
      generation.cancel("canceled");
      generation.cancel("deadline");
    });
    assertEquals(stats.stop_reason, "canceled");
    assertEquals(stats.total_tokens, tokens.length);
    assertEquals(engine.slotsAvailable, 2);
  }));

Deno.test("as many answers as slots run at once, one more is refused with the numbers", () =>
  withEngine(async (engine) => {
    const inputs = ["The dog", "A girl"].map((prompt) => ({ prompt, max_tokens: 80, temperature: 0 }));
    const together = inputs.map((input) => answer(engine, input));
    const error = await assertRejects(() => answer(engine, inputs[0]), RbeeError);
    assertEquals(error.code, "ALL_SLOTS_BUSY");
    assertEquals(error.details, { slots_total: 2, slots_busy: 2 });
    for (const { stats } of await Promise.all(together)) assertEquals(stats.total_tokens, 80);
  }));

Deno.test("log probabilities are of the model's own distribution, the chosen token among them", () =>
  withEngine(async (engine) => {
    const { tokens } = await answer(engine, {
      prompt: "Once upon a",
      max_tokens: 5,
      temperature: 0,
      logprobs: 3,
    });
    for (const { id, logprob, top_logprobs } of tokens) {
      assertEquals(top_logprobs!.length, 3);
      assertEquals(top_logprobs![0].id, id);
      assertEquals(top_logprobs![0].logprob, logprob);
      const total = top_logprobs!.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0);
      assert(total > 0 && total <= 1.0001, String(total));
    }
  }));

Deno.test("who asks for no log probabilities gets none, not zeros", () =>
  withEngine(async (engine) => {
    const { tokens } = await answer(engine, { prompt: "Once", max_tokens: 3 });
    for (const token of tokens) assertEquals(Object.keys(token), ["token", "index", "id"]);
  }));

Deno.test("closing in mid-answer ends the answer", async () => {
  const engine = await loadEngine(STORIES);
  const { stats } = await answer(
    engine,
    { prompt: "Once", max_tokens: 500, grammar: `root ::= [a-z]{600}` },
    () => {
      void engine.close();
    },
  );
  assertEquals(stats.stop_reason, "canceled");
  await engine.close();
});

Deno.test("a file that is no model, or is none that writes, is an INVALID_MODEL", async () => {
  const notThere = await assertRejects(() => loadEngine("/nowhere/x.gguf"), RbeeError);
  assertEquals(notThere.code, "INVALID_MODEL");
  const noModel = await assertRejects(() => loadEngine(new URL(import.meta.url).pathname), RbeeError);
  assertEquals(noModel.code, "INVALID_MODEL");
});

Deno.test("a backend or device that is not there is named", async () => {
  const backend = await assertRejects(() => loadEngine(STORIES, { backend: "tpu" }), RbeeError);
  assertEquals(backend.code, "BACKEND_UNAVAILABLE");
  const device = await assertRejects(() => loadEngine(STORIES, { device: 7 }), RbeeError);
  assertEquals(device.code, "DEVICE_NOT_FOUND");
});

Deno.test("a context larger than the model was trained for is refused with both numbers", async () => {
  const error = await assertRejects(() => loadEngine(STORIES, { ctxSize: 5000 }), RbeeError);
  assertEquals(error.code, "INVALID_REQUEST");
  assertStringIncludes(error.message, "5000");
  assertStringIncludes(error.message, "512");
});

Deno.test({
  name: "a model that can only make embeddings makes them, and answers nothing",
  ignore: embedder === undefined,
  fn: () =>
    withEngine(async (engine) => {
      const texts = ["cat on the sofa", "kitten on the couch", "the bank raised its interest rates"];
      const ids = await Promise.all(texts.map((text) => engine.tokenize(text, { signal })));
      const [cat, kitten, bank] = await engine.embed(ids, signal);
      assert(Math.abs(cosine(cat, kitten) - 0.72) < 0.02, `${cosine(cat, kitten)}`);
      assert(cosine(cat, bank) < cosine(cat, kitten), `${cosine(cat, bank)}`);
      const refused = await assertRejects(() => answer(engine, { prompt: "Once" }), RbeeError);
      assertStringIncludes(refused.message, "/v1/embeddings");
    }, embedder),
});

Deno.test({
  name: "more texts than one step holds are embedded all the same, each as if it were alone",
  ignore: embedder === undefined,
  fn: () =>
    withEngine(async (engine) => {
      const texts = await Promise.all(Array.from(
        { length: 150 },
        (_, i) => engine.tokenize("the cat sat on the sofa ".repeat(1 + i % 9), { signal }),
      ));
      const together = await engine.embed(texts, signal);
      assertEquals(together.length, texts.length);
      for (const i of [0, 63, 64, 149]) {
        const [alone] = await engine.embed([texts[i]], signal);
        assert(cosine(together[i], alone) > 1 - 1e-5, `text ${i}: ${cosine(together[i], alone)}`);
      }
      const long = await engine.tokenize("cat ".repeat(600), { signal });
      const error = await assertRejects(() => engine.embed([texts[0], long], signal), RbeeError);
      assertStringIncludes(error.message, "Input 2 has 602 tokens, too large for the context of 512.");
      const gone = new AbortController();
      gone.abort(new Error("gone"));
      await assertRejects(() => engine.embed(texts, gone.signal), Error, "gone");
      assertEquals(engine.slotsAvailable, engine.slots);
    }, embedder),
});

Deno.test({
  name: "a character without a token is refused, and no neighbour suffers",
  ignore: rwkv === undefined,
  fn: () =>
    withEngine(async (engine) => {
      const neighbour = answer(engine, { prompt: "Once", max_tokens: 200, temperature: 0 });
      for (let i = 0; i < 5; i++) {
        const error = await assertRejects(() => answer(engine, { prompt: "a\u0000b" }), RbeeError);
        assertEquals(error.code, "INVALID_REQUEST");
      }
      assert((await neighbour).tokens.length > 0);
    }, rwkv!),
});

Deno.test({
  name: "a recurrent model generates, repeats itself exactly, and never sends half a character",
  ignore: rwkv === undefined,
  fn: () =>
    withEngine(async (engine) => {
      const input: InferenceInput = {
        prompt: "Once upon a time",
        max_tokens: 120,
        seed: 5,
        temperature: 1.5,
        min_p: 0,
      };
      const first = await answer(engine, input);
      const again = await answer(engine, input);
      assertEquals(again.text, first.text);
      assertEquals(again.stats.cached_tokens, 0);
      for (const { token } of first.tokens) assert(token.isWellFormed());
    }, rwkv!),
});
