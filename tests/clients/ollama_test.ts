/** Ollama's routes as the npm package `ollama` finds them: a real worker, an unmodified client. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { Ollama } from "ollama";
import { chatTemplate } from "../helpers/chat_templates.ts";
import { eventually } from "../helpers/eventually.ts";
import { sharedModel } from "../helpers/test_models.ts";
import { startWorker, type WorkerProcess } from "../helpers/worker_process.ts";

const ASKED = [{ role: "user", content: "write a short story" }];
const glove = sharedModel("glove-6b-100d-bow-40k-Q8_0.gguf");
const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "",
    parameters: {
      type: "object",
      properties: { place: { type: "string", enum: ["Paris", "Rome"] } },
      required: ["place"],
    },
  },
};

function clientOf(worker: WorkerProcess, key = worker.key): Ollama {
  return new Ollama({ host: worker.url, headers: { Authorization: `Bearer ${key}` } });
}

Deno.test("ollama: chat and generate", async (t) => {
  await using worker = await startWorker();
  const client = clientOf(worker);
  const options = { temperature: 0, num_predict: 16 };
  const ask = { model: "any", messages: ASKED, options };
  const { text } = await worker.client.inferWhole({
    messages: ASKED as never,
    temperature: 0,
    max_tokens: 16,
  });

  await t.step("chat, whole and streamed", async () => {
    const whole = await client.chat({ ...ask, stream: false });
    assertEquals([whole.message.content, whole.done, whole.done_reason], [text, true, "length"]);
    assertEquals(whole.eval_count, 16);
    assert(whole.total_duration > 0 && whole.prompt_eval_count > 0);
    const parts = await Array.fromAsync(await client.chat({ ...ask, stream: true }));
    assertEquals(parts.map(({ message }) => message.content).join(""), text);
    assertEquals(parts.map(({ done }) => done).lastIndexOf(false), parts.length - 2);
    assert(parts.length > 8, "token by token");
    assertEquals(parts.at(-1)!.eval_count, 16);
  });

  await t.step("generate goes through the template, raw does not", async () => {
    const whole = await client.generate({ model: "any", prompt: ASKED[0].content, options });
    assertEquals(whole.response, text);
    const raw = await client.generate({ model: "any", prompt: "Once upon a time", raw: true, options });
    const { text: same } = await worker.client.inferWhole({
      prompt: "Once upon a time",
      temperature: 0,
      max_tokens: 16,
    });
    assertEquals(raw.response, same);
    let streamed = "";
    for await (
      const part of await client.generate({
        model: "any",
        prompt: "Once upon a time",
        raw: true,
        options,
        stream: true,
      })
    ) streamed += part.response;
    assertEquals(streamed, same);
  });

  await t.step("a schema holds, and so does json", async () => {
    const format = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"] };
    const long = { ...options, num_predict: 100 };
    const chat = await client.chat({ ...ask, format, options: long });
    assertEquals(typeof JSON.parse(chat.message.content).ok, "boolean");
    const raw = await client.generate({ model: "any", prompt: "Once", raw: true, format, options: long });
    assertEquals(typeof JSON.parse(raw.response!).ok, "boolean");
    const any = await client.chat({ ...ask, format: "json", options: long });
    assertMatch(any.message.content, /^\{/);
  });

  await t.step("a request without a prompt only says that the model is loaded", async () => {
    const { done_reason } = await client.generate({ model: "any", prompt: "" });
    assertEquals(done_reason, "load");
    assertEquals((await client.chat({ model: "any", messages: [] })).done_reason, "load");
  });

  await t.step("what there is", async () => {
    const { models } = await client.list();
    assertEquals(models.map(({ name }) => name), ["builtin:stories"]);
    const shown = await client.show({ model: "builtin:stories" });
    assertEquals([shown.details.family, shown.details.quantization_level], ["llama", "Q8_0"]);
    assertMatch((await client.version()).version!, /^\d+\.\d+\.\d+$/);
  });
});

Deno.test("ollama: tools", async () => {
  await using worker = await startWorker({
    args: ["--chat-template", chatTemplate("meetkai-functionary-medium-v3.2")],
  });
  const client = clientOf(worker);
  const ask = {
    model: "any",
    messages: [
      ...ASKED,
      {
        role: "assistant",
        content: "",
        tool_calls: [{ function: { name: "get_weather", arguments: { place: "Rome" } } }],
      },
      { role: "tool", content: "sunny", tool_name: "get_weather" },
    ],
    tools: [WEATHER],
    options: { temperature: 0, num_predict: 20 },
  };
  // The choice is the model's, and a story model calls nothing; what counts here is that the request goes through.
  const whole = await client.chat(ask);
  const streamed = await Array.fromAsync(await client.chat({ ...ask, stream: true }));
  assertEquals(streamed.map(({ message }) => message.content).join(""), whole.message.content);
});

Deno.test({
  name: "ollama: embeddings",
  ignore: glove === undefined,
  fn: async () => {
    await using worker = await startWorker({ model: glove!, modelRef: "glove" });
    const { embeddings } = await clientOf(worker).embed({
      model: "any",
      input: ["cat", "kitten ".repeat(900)],
    });
    assertEquals(embeddings.length, 2);
    assert(Math.abs(Math.hypot(...embeddings[0]) - 1) < 1e-5);
    await assertRejects(
      () => clientOf(worker).embed({ model: "any", input: "kitten ".repeat(900), truncate: false }),
      Error,
      "too large for the context",
    );
  },
});

Deno.test("ollama: what goes wrong is the client's own exception, and an abort frees the slot", async () => {
  await using worker = await startWorker({ args: ["--slots", "1"] });
  const client = clientOf(worker);
  await assertRejects(
    () => clientOf(worker, "wrong").list(),
    Error,
    "The key is not the one of this daemon.",
  );
  await assertRejects(
    () => client.chat({ model: "any", messages: ASKED, options: { temperature: 9 } }),
    Error,
    "options.temperature",
  );
  await assertRejects(
    () => client.chat({ model: "any", messages: [{ role: "user", content: "a", images: ["aGk="] }] }),
    Error,
    "takes text only",
  );
  const stream = await client.generate({
    model: "any",
    prompt: "Once",
    stream: true,
    options: { num_predict: 400 },
  });
  for await (const _ of stream) {
    const busy = await assertRejects(() => client.generate({ model: "any", prompt: "Once" }), Error);
    assertMatch(busy.message, /slots are busy|^$/);
    break;
  }
  client.abort();
  await eventually("the slot to be free", async () => {
    const state = await worker.client.ready();
    return state.ready && state.slots_available === 1;
  });
});
