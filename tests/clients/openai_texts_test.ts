/** Completions and embeddings as the npm package `openai` finds them, and what is around them. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import OpenAI from "openai";
import { eventually } from "../helpers/eventually.ts";
import { sharedModel } from "../helpers/test_models.ts";
import { startWorker } from "../helpers/worker_process.ts";
import { ASKED, call, clientOf, json } from "./openai_bed.ts";

const glove = sharedModel("glove-6b-100d-bow-40k-Q8_0.gguf");

Deno.test("openai: completions", async (t) => {
  await using worker = await startWorker();
  const client = clientOf(worker);
  const ask = { model: "any", prompt: "Once upon a time", temperature: 0, max_tokens: 12 };

  await t.step("whole and streamed", async () => {
    const whole = await client.completions.create(ask);
    assertEquals([whole.object, whole.choices[0].finish_reason], ["text_completion", "length"]);
    let text = "";
    for await (const chunk of await client.completions.create({ ...ask, stream: true })) {
      text += chunk.choices[0].text;
    }
    assertEquals(text, whole.choices[0].text);
    const { text: same } = await worker.client.inferWhole({
      prompt: ask.prompt,
      temperature: 0,
      max_tokens: 12,
    });
    assertEquals(same, text);
  });

  await t.step("several prompts, ids as prompts, echo", async () => {
    const [{ text }] = (await client.completions.create(ask)).choices;
    const { tokens } = await json(worker, "/tokenize", { content: ask.prompt, add_special: true });
    const answers = await client.completions.create({ ...ask, prompt: [ask.prompt, "The dog"], n: 2 });
    assertEquals(answers.choices.map(({ index }) => index), [0, 1, 2, 3]);
    assertEquals(answers.choices.slice(0, 2).map((choice) => choice.text), [text, text]);
    assert(answers.choices[2].text !== text);
    const ids = await client.completions.create({ ...ask, prompt: tokens as number[], echo: true });
    assertStringIncludes(ids.choices[0].text, ask.prompt + text);
  });

  await t.step("more prompts than slots are answered in their order, one after the other", async () => {
    const prompts = Array.from({ length: 11 }, (_, i) => `${ask.prompt} ${i}`);
    const alone = [];
    for (const prompt of prompts) {
      alone.push((await client.completions.create({ ...ask, prompt })).choices[0].text);
    }
    const { choices, usage } = await client.completions.create({ ...ask, prompt: prompts });
    assertEquals(choices.map(({ text }) => text), alone);
    assertEquals(usage!.completion_tokens, 11 * 12);
    const streamed = prompts.map(() => "");
    for await (
      const { choices } of await client.completions.create({ ...ask, prompt: prompts, stream: true })
    ) {
      for (const { index, text } of choices) streamed[index] += text;
    }
    assertEquals(streamed, alone);
  });

  await t.step("prompts times n is refused before anything is made of it", async () => {
    const refused = await assertRejects(
      () => client.completions.create({ ...ask, prompt: new Array(2000).fill("a"), n: 100 }),
      OpenAI.BadRequestError,
    );
    assertStringIncludes(refused.message, "200000 answers");
  });

  await t.step("a caller who leaves while answers wait leaves no slot taken", async () => {
    const left = new AbortController();
    const stream = await client.completions.create(
      { ...ask, prompt: new Array(30).fill(ask.prompt), max_tokens: 500, stream: true },
      { signal: left.signal },
    );
    await stream[Symbol.asyncIterator]().next();
    left.abort();
    await eventually("all slots free", async () => {
      const ready = await worker.client.ready();
      return ready.ready && ready.state === "idle";
    });
  });

  await t.step("log probabilities in their older shape", async () => {
    const { choices: [{ logprobs, text }] } = await client.completions.create({ ...ask, logprobs: 2 });
    assertEquals(logprobs!.tokens!.join(""), text);
    assertEquals(logprobs!.token_logprobs!.length, 12);
    assert(logprobs!.top_logprobs!.every((top) => Object.keys(top).length === 2));
    assertEquals(logprobs!.text_offset!.slice(0, 2), [0, logprobs!.tokens![0].length]);
  });
});

Deno.test({
  name: "openai: embeddings, as numbers and as base64",
  ignore: glove === undefined,
  fn: async () => {
    await using worker = await startWorker({ model: glove!, modelRef: "glove" });
    const client = clientOf(worker);
    const input = ["cat on the sofa", "kitten on the couch", "the bank raised its interest rates"];
    // The client asks for base64 by itself and decodes it.
    const decoded = await client.embeddings.create({ model: "any", input });
    const floats = await client.embeddings.create({ model: "any", input, encoding_format: "float" });
    assertEquals(decoded.data.length, 3);
    for (const [i, { embedding }] of floats.data.entries()) {
      assertEquals(decoded.data[i].embedding.map(Math.fround), embedding.map(Math.fround));
      assert(Math.abs(Math.hypot(...embedding) - 1) < 1e-5);
    }
    const dot = (a: number, b: number) =>
      floats.data[a].embedding.reduce((sum, value, i) => sum + value * floats.data[b].embedding[i], 0);
    assert(Math.abs(dot(0, 1) - 0.72) < 0.02 && dot(0, 2) < dot(0, 1));
    assertEquals(floats.usage.prompt_tokens, floats.usage.total_tokens);
    const raw = await client.embeddings.create(
      { model: "any", input: "cat", embd_normalize: -1 } as OpenAI.EmbeddingCreateParams,
    );
    assert(Math.abs(Math.hypot(...raw.data[0].embedding) - 1) > 1e-3);
    const short = await client.embeddings.create({ model: "any", input: "cat", dimensions: 16 });
    assertEquals(short.data[0].embedding.length, 16);
    const chat = await assertRejects(
      () => client.chat.completions.create({ model: "any", messages: ASKED }),
      OpenAI.BadRequestError,
    );
    assertStringIncludes(chat.message, "/v1/embeddings");
    const rank = await call(worker, "/v1/rerank", { query: "a", documents: ["b"] });
    assertEquals(rank.status, 400);
    assertStringIncludes((await rank.json()).error.message, "--pooling rank");
  },
});

Deno.test("text to ids and back, and a conversation as the template renders it", async () => {
  await using worker = await startWorker();
  const { tokens } = await json(worker, "/tokenize", { content: "Once upon a time" });
  assertEquals((await json(worker, "/detokenize", { tokens })).content, "Once upon a time");
  const pieces = await json(worker, "/tokenize", { content: "a 🤗 b", with_pieces: true });
  const bytes = (pieces.tokens as { id: number; piece: string | number[] }[]).flatMap(({ piece }) =>
    typeof piece === "string" ? [...new TextEncoder().encode(piece)] : piece
  );
  assertEquals(new TextDecoder().decode(Uint8Array.from(bytes)).trim(), "a 🤗 b");
  const unknown = await call(worker, "/detokenize", { tokens: [1_000_000] });
  assertEquals(unknown.status, 400);
  assertEquals((await unknown.json()).error.code, "INVALID_REQUEST");
  const { prompt } = await json(worker, "/apply-template", { messages: ASKED });
  assertEquals(prompt, "<|user|>\nwrite a short story<|end|>\n<|assistant|>\n");
});
