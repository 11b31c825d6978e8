/** The OpenAI routes as the npm package `openai` finds them: a real worker, an unmodified client. */
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import OpenAI from "openai";
import { eventually } from "../helpers/eventually.ts";
import { chatTemplate } from "../helpers/chat_templates.ts";
import { sharedModel } from "../helpers/test_models.ts";
import { startWorker, type WorkerProcess } from "../helpers/worker_process.ts";

const ASKED = [{ role: "user" as const, content: "write a short story" }];
const glove = sharedModel("glove-6b-100d-bow-40k-Q8_0.gguf");

const WEATHER = {
  type: "function" as const,
  function: {
    name: "get_weather",

    parameters: {
      type: "object",
      properties: { place: { enum: ["Paris", "Rome"] }, days: { enum: [1, 2] } },
      required: ["place", "days"],
      additionalProperties: false,
    },
  },
};

function clientOf(worker: WorkerProcess, apiKey = worker.key): OpenAI {
  return new OpenAI({ baseURL: `${worker.url}/v1`, apiKey, maxRetries: 0 });
}

async function texts(stream: AsyncIterable<OpenAI.ChatCompletionChunk>) {
  const chunks = await Array.fromAsync(stream);
  const deltas = chunks.flatMap(({ choices }) => choices.map(({ delta }) => delta));
  return { chunks, text: deltas.map(({ content }) => content ?? "").join("") };
}

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
    const { chunks, text } = await texts(await client.chat.completions.create({ ...ask, stream: true }));
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
    const { chunks } = await texts(
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
    const many = await assertRejects(
      () => client.chat.completions.create({ ...ask, n: 9 }),
      OpenAI.BadRequestError,
    );
    assertStringIncludes(many.message, "9 answers were asked for, this worker has 4 slots.");
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
    const { text } = await texts(
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

Deno.test("openai: tools", async (t) => {
  await using worker = await startWorker({
    args: ["--chat-template", chatTemplate("meetkai-functionary-medium-v3.2")],
  });
  const client = clientOf(worker);
  const ask = {
    model: "any",
    messages: [{ role: "user" as const, content: "Weather in Paris?" }],
    tools: [WEATHER],
    max_tokens: 60,
    temperature: 0,
  };

  await t.step("a required call is one, with arguments that satisfy its schema", async () => {
    const whole = await client.chat.completions.create({ ...ask, tool_choice: "required" });
    // A story model calls over and over: all but the last are whole.
    const [{ message: { tool_calls: calls } }] = whole.choices;
    const [call] = calls!;
    assert(call.type === "function");
    assertEquals(call.function.name, "get_weather");
    assertMatch(call.id, /^call_/);
    const { place, days } = JSON.parse(call.function.arguments);
    assert(["Paris", "Rome"].includes(place) && [1, 2].includes(days), call.function.arguments);
    assertEquals(new Set(calls!.map(({ id }) => id)).size, calls!.length);
    const [{ finish_reason }] =
      (await client.chat.completions.create({ ...ask, tool_choice: "required", stop: "}get" })).choices;
    assertEquals(finish_reason, "tool_calls");
  });

  await t.step("a call that is named is that call", async () => {
    const other = { ...WEATHER, function: { ...WEATHER.function, name: "other" } };
    const named = await client.chat.completions.create({
      ...ask,
      tools: [other, WEATHER],
      tool_choice: { type: "function", function: { name: "get_weather" } },
    });
    const [call] = named.choices[0].message.tool_calls!;
    assert(call.type === "function" && call.function.name === "get_weather");
  });

  await t.step("arguments are streamed, and name and id come once", async () => {
    const whole = await client.chat.completions.create({ ...ask, tool_choice: "required" });
    const stream = await client.chat.completions.create({ ...ask, tool_choice: "required", stream: true });
    const chunks = await Array.fromAsync(stream);
    const all = chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? []);
    const calls = all.filter(({ index }) => index === 0);
    assertEquals(calls.filter(({ id }) => id !== undefined).length, 1);
    assertEquals(calls[0].function?.name, "get_weather");
    assert(calls.length > 3, `${calls.length} pieces`);
    const [call] = whole.choices[0].message.tool_calls!;
    assert(call.type === "function");
    assertEquals(calls.map((piece) => piece.function?.arguments ?? "").join(""), call.function.arguments);
  });

  await t.step("with tool_choice none there is no call", async () => {
    const { choices } = await client.chat.completions.create({ ...ask, tool_choice: "none", max_tokens: 20 });
    assertEquals(choices[0].message.tool_calls, undefined);
  });

  await t.step("a conversation with calls and their results goes through the template", async () => {
    const { choices } = await client.chat.completions.create({
      ...ask,
      max_tokens: 5,
      messages: [
        ...ask.messages,
        {
          role: "assistant",
          content: null,
          tool_calls: [{
            id: "call_1",
            type: "function",
            function: { name: "get_weather", arguments: '{"place":"Paris","days":1}' },
          }],
        },
        { role: "tool", tool_call_id: "call_1", content: "sunny" },
      ],
    });
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

  await t.step("log probabilities in their older shape", async () => {
    const { choices: [{ logprobs, text }] } = await client.completions.create({ ...ask, logprobs: 2 });
    assertEquals(logprobs!.tokens!.join(""), text);
    assertEquals(logprobs!.token_logprobs!.length, 12);
    assert(logprobs!.top_logprobs!.every((top) => Object.keys(top).length === 2));
    assertEquals(logprobs!.text_offset!.slice(0, 2), [0, logprobs!.tokens![0].length]);
  });
});

Deno.test("openai: responses", async (t) => {
  await using worker = await startWorker();
  await using caller = await startWorker({
    args: ["--chat-template", chatTemplate("meetkai-functionary-medium-v3.2")],
  });
  const client = clientOf(worker);
  const ask = { model: "any", input: "write a short story", temperature: 0, max_output_tokens: 15 };

  await t.step("whole", async () => {
    const response = await client.responses.create(ask);
    assertEquals([response.status, response.incomplete_details?.reason], ["incomplete", "max_output_tokens"]);
    assert(response.output_text.length > 10);
    assertEquals(response.usage?.output_tokens, 15);
  });

  await t.step("streamed, as the client's own accumulator follows it", async () => {
    const whole = await client.responses.create(ask);
    const stream = client.responses.stream(ask);
    let text = "";
    let last = -1;
    for await (const event of stream) {
      assertEquals(event.sequence_number, ++last);
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    const final = await stream.finalResponse();
    assertEquals([text, final.output_text], [whole.output_text, whole.output_text]);
  });

  await t.step("calls and their results", async () => {
    const calling = clientOf(caller);
    const tools = [{ type: "function" as const, strict: true, ...WEATHER.function }];
    const response = await calling.responses.create({
      ...ask,
      max_output_tokens: 60,
      tools,
      tool_choice: "required",
      parallel_tool_calls: false,
      instructions: "Be brief.",
    });
    const call = response.output.find((item) => item.type === "function_call")!;
    assertEquals(call.name, "get_weather");
    assert([1, 2].includes(JSON.parse(call.arguments).days));
    const streamed = calling.responses.stream({
      ...ask,
      max_output_tokens: 60,
      tools,
      tool_choice: "required",
      parallel_tool_calls: false,
    });
    const item = (await streamed.finalResponse()).output.find(({ type }) => type === "function_call")!;
    assert(item.type === "function_call" && item.name === "get_weather");
    const next = await client.responses.create({
      ...ask,
      input: [
        { role: "user", content: "Weather?" },
        { type: "function_call", call_id: call.call_id, name: call.name, arguments: call.arguments },
        { type: "function_call_output", call_id: call.call_id, output: "sunny" },
      ],
    });
    assert(next.output_text.length > 0);
  });

  await t.step("a schema holds", async () => {
    const schema = {
      type: "object",
      properties: { ok: { type: "boolean" } },
      required: ["ok"],
      additionalProperties: false,
    };
    const response = await client.responses.create({
      ...ask,
      max_output_tokens: 100,
      text: { format: { type: "json_schema", name: "x", schema } },
    });
    assertEquals(typeof JSON.parse(response.output_text).ok, "boolean");
  });

  await t.step("nothing is kept between two of them", async () => {
    const error = await assertRejects(
      () => client.responses.create({ ...ask, previous_response_id: "resp_1" }),
      OpenAI.BadRequestError,
    );
    assertStringIncludes(error.message, "previous_response_id");
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

Deno.test("openai: what goes wrong is the client's own exception", async (t) => {
  await using worker = await startWorker({ args: ["--slots", "1"] });
  const client = clientOf(worker);
  const ask = { model: "any", messages: ASKED };

  await t.step("a wrong key", async () => {
    const error = await assertRejects(
      () => clientOf(worker, "wrong").chat.completions.create(ask),
      OpenAI.AuthenticationError,
    );
    assertEquals([error.code, error.type], ["INVALID_API_KEY", "authentication_error"]);
  });

  await t.step("a bad field", async () => {
    const error = await assertRejects(
      () => client.chat.completions.create({ ...ask, temperature: 9 }),
      OpenAI.BadRequestError,
    );
    assertEquals([error.code, error.param], ["INVALID_REQUEST", "temperature"]);
    await assertRejects(
      () => client.chat.completions.create({ ...ask, messages: [] }),
      OpenAI.BadRequestError,
    );
  });

  await t.step("a prompt longer than the context, with both numbers", async () => {
    const long = [{ role: "user" as const, content: "story ".repeat(2000) }];
    for (const stream of [false, true]) {
      const error = await assertRejects(
        () => client.chat.completions.create({ ...ask, messages: long, stream } as never),
        OpenAI.BadRequestError,
      );
      assertMatch(error.message, /\d+ tokens, the context holds 512/);
    }
  });

  await t.step("no free slot, and an abort in mid-stream frees it", async () => {
    const stream = await client.chat.completions.create({
      ...ask,
      stream: true,
      grammar: "root ::= [a-z]{450}",
    } as never) as unknown as AsyncIterable<unknown> & { controller: AbortController };
    const events = stream[Symbol.asyncIterator]();
    await events.next();
    const busy = await assertRejects(() => client.chat.completions.create(ask), OpenAI.InternalServerError);
    assertEquals([busy.status, busy.code], [503, "ALL_SLOTS_BUSY"]);
    stream.controller.abort();
    await eventually("the slot to be free", async () => {
      const state = await worker.client.ready();
      return state.ready && state.slots_available === 1;
    });
  });

  await t.step("an abort before the first byte of a whole answer", async () => {
    const controller = new AbortController();
    const asked = client.chat.completions.create(
      { ...ask, grammar: "root ::= [a-z]{450}" } as never,
      { signal: controller.signal },
    );
    const rejected = assertRejects(() => asked, OpenAI.APIUserAbortError);
    await eventually("the answer to run", async () => {
      const state = await worker.client.ready();
      return state.ready && state.slots_available === 0;
    });
    controller.abort();
    await rejected;
    await eventually("the slot to be free", async () => {
      const state = await worker.client.ready();
      return state.ready && state.slots_available === 1;
    });
  });

  await t.step("a time-out of the client", async () => {
    await assertRejects(
      () =>
        client.chat.completions.create({ ...ask, grammar: "root ::= [a-z]{450}" } as never, {
          timeout: 20,
        }),
      OpenAI.APIConnectionTimeoutError,
    );
  });
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

function call(worker: WorkerProcess, path: string, body: unknown): Promise<Response> {
  return fetch(`${worker.url}${path}`, {
    method: "POST",
    headers: { Authorization: `Bearer ${worker.key}` },
    body: JSON.stringify(body),
  });
}

async function json(worker: WorkerProcess, path: string, body: unknown): Promise<Record<string, unknown>> {
  const response = await call(worker, path, body);
  assertEquals(response.status, 200);
  return await response.json();
}
