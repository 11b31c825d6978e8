import { assert, assertEquals, assertRejects } from "@std/assert";
import { RbeeError } from "../protocol/errors.ts";
import type { InferenceInput } from "../protocol/worker_requests.ts";
import { type Answer, answer, loadEngine } from "../tests/helpers/engine.ts";
import { sharedModel, STORIES } from "../tests/helpers/test_models.ts";
import type { EngineOptions } from "./engine_options.ts";

const stories260k = sharedModel("stories260K-F32.gguf");
const stories260kSmall = sharedModel("stories260K-Q4_0.gguf");
const rwkv = sharedModel("tiny-rwkv-7v0-834K-F32.gguf");

const SENTENCE = "Lily and Tom went to the big park, and they saw a little red bird there. ";
/** Forces an answer that repeats the prompt, whatever the model would say. */
const COPY: InferenceInput = {
  prompt: SENTENCE,
  grammar: `root ::= ${JSON.stringify(SENTENCE.repeat(3))}`,
  max_tokens: 400,
  temperature: 0,
};

async function each(
  model: string,
  inputs: InferenceInput[],
  options: Partial<EngineOptions> = {},
): Promise<Answer[]> {
  const engine = await loadEngine(model, { ctxSize: 512, ...options });
  try {
    const answers = [];
    for (const input of inputs) answers.push(await answer(engine, input));
    return answers;
  } finally {
    await engine.close();
  }
}

const ids = ({ tokens }: Answer) => tokens.map((token) => token.id);

Deno.test("an answer that repeats its prompt is guessed from it, and is the same text", async () => {
  const [without, on, auto] = await each(STORIES, [
    { ...COPY, speculative: "off" },
    { ...COPY, speculative: "on" },
    { ...COPY, speculative: "auto" },
  ]);
  assertEquals(without.stats.draft_tokens, 0);
  for (const { text, tokens, stats } of [without, on, auto]) {
    assertEquals(text, SENTENCE.repeat(3));
    assertEquals(stats.total_tokens, tokens.length);
    assert(stats.draft_accepted_tokens <= stats.draft_tokens);
  }
  assert(on.stats.draft_accepted_tokens > 10, JSON.stringify(on.stats));
});

Deno.test("guesses run past neither a stop string nor max_tokens", async () => {
  const input = { ...COPY, logprobs: 2, speculative: "on" as const };
  for (let max_tokens = 20; max_tokens < 40; max_tokens++) {
    const [{ tokens, text, stats }] = await each(STORIES, [{ ...input, max_tokens }]);
    assertEquals(tokens.length, max_tokens);
    assertEquals(stats.stop_reason, "length");
    assert(SENTENCE.repeat(3).startsWith(text), text);
    assert(tokens.every((token) => token.logprob !== undefined && token.top_logprobs!.length === 2));
  }
  for (const stop of ["there. Lily and Tom", "y saw a li"]) {
    const [{ text, stats }] = await each(STORIES, [{ ...input, stop: [stop] }]);
    assertEquals(stats.stop_reason, "stop");
    assertEquals(text, SENTENCE.repeat(3).split(stop)[0]);
  }
});

Deno.test("after guesses a slot's cache is that of its answer", async () => {
  const engine = await loadEngine(STORIES, { slots: 1, ctxSize: 512 });
  const prompt = SENTENCE.repeat(3);
  const first: InferenceInput = { prompt, max_tokens: 100, temperature: 0, speculative: "on" };
  const next = (text: string): InferenceInput => ({
    prompt: `${prompt}${text} And`,
    max_tokens: 1,
    temperature: 0,
    logprobs: 1,
  });
  try {
    const { text, stats } = await answer(engine, first);
    assert(stats.draft_accepted_tokens > 0 && stats.draft_accepted_tokens < stats.draft_tokens);
    const second = await answer(engine, next(text));
    // All but the last token, which was never decoded; the seam may be cut differently.
    assert(second.stats.cached_tokens >= stats.prompt_tokens + stats.total_tokens - 4);
    const [fresh] = await each(STORIES, [next(text)]);
    assertEquals(ids(second), ids(fresh));
    assert(Math.abs(second.tokens[0].logprob! - fresh.tokens[0].logprob!) < 0.2);
  } finally {
    await engine.close();
  }
});

Deno.test("who names a seed is not guessed for unless it is asked", async () => {
  const [auto, on] = await each(STORIES, [
    { ...COPY, seed: 1 },
    { ...COPY, seed: 1, speculative: "on" },
  ]);
  assertEquals(auto.stats.draft_tokens, 0);
  assert(on.stats.draft_tokens > 0);
});

Deno.test({
  name: "a draft model guesses right where the large one agrees",
  ignore: stories260k === undefined,
  fn: async () => {
    const input: InferenceInput = { prompt: "Once upon a time", max_tokens: 200, temperature: 0 };
    const [without] = await each(stories260k!, [input]);
    const [on, again] = await each(stories260k!, [
      { ...input, speculative: "on" },
      // The same slot, so that the draft model's memory is reused with it.
      { ...input, prompt: "Once upon a time", speculative: "on" },
    ], { draftModel: stories260kSmall, slots: 1 });
    assertEquals(ids(on), ids(without));
    assertEquals(ids(again), ids(without));
    assert(on.stats.draft_accepted_tokens > on.stats.draft_tokens / 2, JSON.stringify(on.stats));
  },
});

Deno.test({
  name: "draft models that cannot help are refused in words",
  ignore: stories260k === undefined || rwkv === undefined,
  fn: async () => {
    for (const [model, draftModel] of [[STORIES, stories260k], [stories260k!, rwkv], [rwkv!, stories260k]]) {
      const error = await assertRejects(() => loadEngine(model!, { draftModel }), RbeeError);
      assertEquals(error.code, "INVALID_MODEL");
    }
  },
});

Deno.test({
  name: "a recurrent model cannot take guesses back, so none are made",
  ignore: rwkv === undefined,
  fn: async () => {
    const [on] = await each(rwkv!, [{ ...COPY, grammar: undefined, max_tokens: 20, speculative: "on" }]);
    assertEquals(on.stats.draft_tokens, 0);
  },
});
