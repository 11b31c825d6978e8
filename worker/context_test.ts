import { assert, assertEquals, assertRejects } from "@std/assert";
import { RbeeError } from "../protocol/errors.ts";
import type { InferenceInput } from "../protocol/worker_requests.ts";
import { type Answer, answer, loadEngine } from "../tests/helpers/engine.ts";
import { sharedModel, STORIES } from "../tests/helpers/test_models.ts";
import type { Engine } from "./engine.ts";
import { CACHE_TYPES, type EngineOptions } from "./engine_options.ts";

const stories260k = sharedModel("stories260K-F32.gguf");
const rwkv = sharedModel("tiny-rwkv-7v0-834K-F32.gguf");
const PROMPT = "Once upon a time";

async function withEngine<T>(
  options: Partial<EngineOptions> & { model?: string },
  work: (engine: Engine) => Promise<T>,
): Promise<T> {
  const { model = STORIES, ...rest } = options;
  const engine = await loadEngine(model, rest);
  try {
    return await work(engine);
  } finally {
    await engine.close();
  }
}

const ids = ({ tokens }: Answer) => tokens.map((token) => token.id);

/** Seven others, each of its own length, so that steps have all sizes and prompts come in between. */
function neighbours(engine: Engine): Promise<Answer[]> {
  return Promise.all(Array.from({ length: 7 }, (_, i) =>
    answer(engine, {
      prompt: "The dog saw a big red ball and ran. ".repeat(1 + 2 * i),
      max_tokens: 30 + 20 * i,
      temperature: 1,
    })));
}

Deno.test("a strict answer is the same alone and among seven neighbours, to the last bit", async () => {
  const inputs: InferenceInput[] = [
    { prompt: PROMPT, max_tokens: 150, temperature: 0, logprobs: 3, strict: true },
    { prompt: PROMPT.repeat(20), max_tokens: 150, temperature: 1, seed: 7, logprobs: 3, strict: true },
  ];
  for (const model of [STORIES, ...(stories260k ? [stories260k] : [])]) {
    await withEngine({ model, slots: 8, ctxSize: 512 }, async (engine) => {
      for (const input of inputs) {
        const alone = await answer(engine, input);
        for (let round = 0; round < 3; round++) {
          const [among] = await Promise.all([answer(engine, input), neighbours(engine)]);
          assertEquals(among.tokens, alone.tokens);
        }
      }
    });
  }
});

Deno.test({
  name: "greedy ids of an unquantised model are the same alone and among seven neighbours",
  ignore: stories260k === undefined,
  fn: () =>
    withEngine({ model: stories260k, slots: 8, ctxSize: 512 }, async (engine) => {
      const input: InferenceInput = { prompt: PROMPT, max_tokens: 200, temperature: 0 };
      const alone = await answer(engine, input);
      const [among] = await Promise.all([answer(engine, input), neighbours(engine)]);
      assertEquals(ids(among), ids(alone));
    }),
});

Deno.test("strict answers are computed token by token", () =>
  withEngine({}, async (engine) => {
    const input: InferenceInput = { prompt: PROMPT, max_tokens: 5, strict: true, speculative: "on" };
    const error = await assertRejects(() => answer(engine, input), RbeeError);
    assertEquals(error.code, "INVALID_REQUEST");
  }));

Deno.test("every type of KV cache answers; the packed ones take less memory", async () => {
  const memory = new Map<string, number>();
  for (const cacheType of CACHE_TYPES) {
    await withEngine({ cacheType, ctxSize: 512 }, async (engine) => {
      const { tokens, text } = await answer(engine, { prompt: PROMPT, max_tokens: 40, temperature: 0 });
      assert(tokens.length > 5 && text.length > 10, `${cacheType}: ${text}`);
      memory.set(cacheType, engine.memory().kvBytes);
    });
  }
  const of = (type: string) => memory.get(type)!;
  assert(of("q4_0") < of("q8_0") && of("q8_0") < of("f16") && of("f16") < of("f32"));
});

Deno.test("options of the context that exclude each other are refused in words", async () => {
  const wrong: [Partial<EngineOptions> & { model?: string }, string][] = [
    [{ cacheType: "q8_0", flashAttention: "off" }, "flash attention"],
    ...(stories260k ? [[{ model: stories260k, cacheType: "q8_0" }, "heads"]] as typeof wrong : []),
  ];
  for (const [options, word] of wrong) {
    const error = await assertRejects(() => withEngine(options, async () => {}), RbeeError);
    assertEquals(error.code, "INVALID_REQUEST");
    assert(error.message.includes(word), error.message);
  }
});

Deno.test("flash attention on, off and auto give the same beginning", async () => {
  const beginnings = [];
  for (const flashAttention of ["on", "off", "auto"] as const) {
    const input: InferenceInput = { prompt: PROMPT, max_tokens: 10, temperature: 0, seed: 1 };
    beginnings.push(await withEngine({ flashAttention }, async (engine) => ids(await answer(engine, input))));
  }
  assertEquals(beginnings[0], beginnings[1]);
  assertEquals(beginnings[1], beginnings[2]);
});

Deno.test("in a common KV cache one answer may use what the others leave, and none runs out of it", () =>
  withEngine({ kvUnified: true, slots: 4, ctxSize: 64 }, async (engine) => {
    const grammar = "root ::= [a-z]{1500}";
    const long: InferenceInput = { prompt: PROMPT, grammar, max_tokens: 200 };
    // Whichever comes first is to use more than half of it.
    const both = await Promise.allSettled([answer(engine, long), answer(engine, long)]);
    const done = both.filter((one) => one.status === "fulfilled");
    const refused = both.filter((one) => one.status === "rejected");
    assertEquals([done.length, refused.length], [1, 1]);
    assertEquals(done[0].value.stats.total_tokens, 200);
    assertEquals(refused[0].reason.code, "ALL_SLOTS_BUSY");
    // What the free slots still hold gives way, one after the other.
    for (let i = 0; i < 6; i++) {
      const { stats } = await answer(engine, { ...long, prompt: `${i} ${PROMPT}`, max_tokens: 100 });
      assertEquals(stats.total_tokens, 100);
    }
    const strict = await assertRejects(() => answer(engine, { ...long, strict: true }), RbeeError);
    assertEquals(strict.code, "INVALID_REQUEST");
  }));

Deno.test({
  name: "a recurrent model goes on from its own state, reads anew what differs, and is canceled",
  ignore: rwkv === undefined,
  fn: () =>
    withEngine({ model: rwkv, slots: 1 }, async (engine) => {
      const first = await answer(engine, { prompt: PROMPT, max_tokens: 20, temperature: 0 });
      const next = { prompt: PROMPT + first.text + " and", max_tokens: 20, temperature: 0 };
      const continued = await answer(engine, next);
      assert(continued.stats.cached_tokens >= first.stats.prompt_tokens, JSON.stringify(continued.stats));
      const anew = await answer(engine, { ...next, seed: 1 });
      assertEquals(anew.stats.cached_tokens, 0);
      assertEquals(ids(continued), ids(anew));
      const other = await answer(engine, { prompt: "The dog", max_tokens: 20, temperature: 0 });
      assertEquals(other.stats.cached_tokens, 0);
      const canceled = await answer(
        engine,
        { prompt: PROMPT, max_tokens: 100_000 % engine.facts.context },
        (_, generation) => generation.cancel("canceled"),
      );
      assertEquals(canceled.stats.stop_reason, "canceled");
      const after = await answer(engine, { prompt: "The dog", max_tokens: 20, temperature: 0 });
      assertEquals(ids(after), ids(other));
    }),
});
