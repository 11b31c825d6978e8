/** OpenAI's models and chat completions as the npm package `openai` finds them: a real worker, an unmodified client. */
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import OpenAI from "openai";
import { chatTemplate } from "../helpers/chat_templates.ts";
import { startWorker } from "../helpers/worker_process.ts";
import { ASKED, clientOf, textOf } from "./openai_bed.ts";

Deno.test("openai: models", async () => {
  await using worker = await startWorker();
  const client = clientOf(worker);
  const { data } = await client.models.list();
  assertEquals(data.map(({ id }) => id), ["builtin:stories"]);
  assertEquals((await client.models.retrieve("builtin:stories")).object, "model");
  const missing = await assertRejects(() => client.models.retrieve("gpt-4"), OpenAI.NotFoundError);
  assertEquals(missing.code, "MODEL_NOT_FOUND");
});

Deno.test("openai: chat completions", async (t) => {
  await using worker = await startWorker();
  const client = clientOf(worker);
  const ask = { model: "any", messages: ASKED, temperature: 0, max_tokens: 24 };

  await t.step("whole and streamed answers are the same", async () => {
    const whole = await client.chat.completions.create(ask);
    const [choice] = whole.choices;
    assertEquals([choice.message.role, choice.finish_reason, choice.logprobs], ["assistant", "length", null]);
    assertEquals(whole.usage?.completion_tokens, 24);
    assertEquals(whole.usage!.total_tokens, whole.usage!.prompt_tokens + 24);
    const { chunks, text } = await textOf(await client.chat.completions.create({ ...ask, stream: true }));
    assertEquals(text, choice.message.content);
    assertEquals(chunks[0].choices[0].delta, { role: "assistant", content: null } as never);
    assertEquals(chunks.at(-1)!.choices[0].finish_reason, "length");
    assertEquals(new Set(chunks.map(({ id }) => id)).size, 1);
    assert(chunks.every(({ usage }) => usage === undefined), "nobody asked for it");
  });

  await t.step("the answer is the one of /v1/inference", async () => {
    const whole = await client.chat.completions.create(ask);
    const { text } = await worker.client.inferWhole({ messages: ASKED, temperature: 0, max_tokens: 24 });
    assertEquals(whole.choices[0].message.content, text);
  });

  await t.step("usage comes with the last chunk when asked for", async () => {
    const { chunks } = await textOf(
      await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } }),
    );
    const last = chunks.at(-1)!;
    assertEquals([last.choices.length, last.usage?.completion_tokens], [0, 24]);
    assert(last.usage!.prompt_tokens_details!.cached_tokens! > 0, "the prompt was read before");
  });

  await t.step("several choices differ, and a seed makes each of them again", async () => {
    const several = { ...ask, temperature: 1.5, seed: 7, n: 3 };
    const contents = async () =>
      (await client.chat.completions.create(several)).choices.map(({ message }) => message.content);
    const first = await contents();
    assertEquals(new Set(first).size, 3);
    assertEquals(await contents(), first);
    const streamed = ["", "", ""];
    for await (const { choices } of await client.chat.completions.create({ ...several, stream: true })) {
      for (const { index, delta } of choices) streamed[index] += delta.content ?? "";
    }
    assertEquals(streamed, first);
    // More than the worker has slots: the others wait for one.
    const many = await client.chat.completions.create({ ...ask, n: 9 });
    assertEquals(many.choices.map(({ index }) => index), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assertEquals(new Set(many.choices.map(({ message }) => message.content)).size, 1);
    const ended: number[] = [];
    for await (
      const { choices } of await client.chat.completions.create({ ...ask, n: 9, stream: true })
    ) {
      for (const { index, finish_reason } of choices) if (finish_reason !== null) ended.push(index);
    }
    assertEquals(ended.sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
  });

  await t.step("stop strings end it and don't show", async () => {
    const { choices: [{ message: { content } }] } = await client.chat.completions.create(ask);
    const stop = content!.slice(10, 14);
    for (const stops of [stop, ["never there", stop]]) {
      const { choices: [cut] } = await client.chat.completions.create({ ...ask, stop: stops });
      assertEquals([cut.message.content, cut.finish_reason], [
        content!.slice(0, content!.indexOf(stop)),
        "stop",
      ]);
    }
  });

  await t.step("log probabilities, whole and streamed", async () => {
    const wanted = { ...ask, max_tokens: 6, logprobs: true, top_logprobs: 3 };
    const { choices: [{ logprobs, message }] } = await client.chat.completions.create(wanted);
    assertEquals(logprobs!.content!.length, 6);
    for (const { token, bytes, logprob, top_logprobs } of logprobs!.content!) {
      assertEquals(new TextDecoder().decode(Uint8Array.from(bytes!)), token);
      assertEquals(top_logprobs.length, 3);
      assertEquals(top_logprobs[0].logprob, logprob, "greedy takes the likeliest");
      assert(logprob <= 0);
    }
    assertEquals(logprobs!.content!.map(({ token }) => token).join(""), message.content);
    const chunks = await Array.fromAsync(await client.chat.completions.create({ ...wanted, stream: true }));
    const streamed = chunks.flatMap(({ choices }) => choices[0]?.logprobs?.content ?? []);
    assertEquals(streamed.map(({ token }) => token), logprobs!.content!.map(({ token }) => token));
  });

  await t.step("logit_bias bans and forces tokens", async () => {
    const { choices: [{ message }] } = await client.chat.completions.create({ ...ask, max_tokens: 1 });
    const [first] =
      (await worker.client.inferWhole({ messages: ASKED, temperature: 0, max_tokens: 1 })).token_ids;
    const banned = await client.chat.completions.create({
      ...ask,
      max_tokens: 1,
      logit_bias: { [first]: -100 },
    });
    assert(banned.choices[0].message.content !== message.content);
    const forced = await client.chat.completions.create({
      ...ask,
      max_tokens: 3,
      logit_bias: { [first]: 100 },
    });
    assertEquals(forced.choices[0].message.content, message.content!.repeat(3));
  });

  await t.step("json_object and json_schema hold, streamed too", async () => {
    const schema = {
      type: "object",
      properties: { name: { type: "string", maxLength: 8 }, age: { type: "integer" } },
      required: ["name", "age"],
      additionalProperties: false,
    };
    const strict = { type: "json_schema" as const, json_schema: { name: "person", strict: true, schema } };
    const open = { ...ask, max_tokens: 200, temperature: 1, seed: 3 };
    const whole = await client.chat.completions.create({ ...open, response_format: strict });
    const person = JSON.parse(whole.choices[0].message.content!);
    assertEquals(Object.keys(person), ["name", "age"]);
    assert(Number.isInteger(person.age));
    const { text } = await textOf(
      await client.chat.completions.create({ ...open, response_format: strict, stream: true }),
    );
    assertEquals(Object.keys(JSON.parse(text)), ["name", "age"]);
    const free = await client.chat.completions.create({ ...open, response_format: { type: "json_object" } });
    assertMatch(free.choices[0].message.content!, /^\{/);
  });

  await t.step("max_completion_tokens counts, more than the context holds is what it holds", async () => {
    const few = await client.chat.completions.create({
      model: "any",
      messages: ASKED,
      temperature: 0,
      max_completion_tokens: 3,
    });
    assertEquals(few.usage!.completion_tokens, 3);
    const all = await client.chat.completions.create({ ...ask, max_tokens: 100_000 });
    assertEquals(all.choices[0].finish_reason, "stop");
  });

  await t.step("the assistant's last message is continued", async () => {
    const begun = [...ASKED, { role: "assistant" as const, content: "Once upon a time, there was a big" }];
    const { choices: [{ message }] } = await client.chat.completions.create({ ...ask, messages: begun });
    assert(!message.content!.startsWith("Once upon"), message.content!);
  });

  await t.step("fields that nobody knows are ignored, nulls are absent", async () => {
    const { choices } = await client.chat.completions.create(
      {
        ...ask,
        user: "me",
        store: true,
        service_tier: "auto",
        stop: null,
        seed: null,
        made_up: { x: 1 },
      } as never,
    ) as OpenAI.ChatCompletion;
    assertEquals(choices.length, 1);
  });
});

Deno.test("openai: thoughts come apart from the answer", async () => {
  await using worker = await startWorker({
    args: ["--chat-template", chatTemplate("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B")],
  });
  const client = clientOf(worker);
  const ask = { model: "any", messages: ASKED, max_tokens: 40, temperature: 0 };
  // The template has opened the thoughts, and a story model never closes them.
  const { choices: [{ message }] } = await client.chat.completions.create(ask);
  const { reasoning_content: thoughts } = message as { reasoning_content?: string };
  assert(thoughts!.length > 20, JSON.stringify(message));
  assertEquals(message.content, "");
  const chunks = await Array.fromAsync(await client.chat.completions.create({ ...ask, stream: true }));
  const streamed = chunks.flatMap(({ choices }) =>
    (choices[0]?.delta as { reasoning_content?: string } | undefined)?.reasoning_content ?? []
  );
  assertEquals(streamed.join(""), thoughts);
  const inline = await client.chat.completions.create({ ...ask, reasoning_format: "none" } as typeof ask);
  assertStringIncludes(inline.choices[0].message.content!, thoughts!);
});
