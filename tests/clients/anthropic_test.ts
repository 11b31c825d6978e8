/** `/v1/messages` as the npm package `@anthropic-ai/sdk` finds it: a real worker, an unmodified client. */
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import Anthropic from "@anthropic-ai/sdk";
import { chatTemplate } from "../helpers/chat_templates.ts";
import { eventually } from "../helpers/eventually.ts";
import { startWorker, type WorkerProcess } from "../helpers/worker_process.ts";

const ASKED = [{ role: "user" as const, content: "write a short story" }];
const WEATHER: Anthropic.Tool = {
  name: "get_weather",
  input_schema: {
    type: "object",
    properties: { place: { enum: ["Paris", "Rome"] }, days: { enum: [1, 2] } },
    required: ["place", "days"],
    additionalProperties: false,
  },
};

function clientOf(worker: WorkerProcess, apiKey = worker.key): Anthropic {
  return new Anthropic({ baseURL: worker.url, apiKey, maxRetries: 0 });
}

Deno.test("anthropic: messages", async (t) => {
  await using worker = await startWorker();
  const client = clientOf(worker);
  const ask = { model: "any", messages: ASKED, temperature: 0, max_tokens: 20 };

  await t.step("whole", async () => {
    const message = await client.messages.create(ask);
    assertEquals([message.type, message.role, message.stop_reason], ["message", "assistant", "max_tokens"]);
    const [block] = message.content;
    assert(block.type === "text");
    const { text } = await worker.client.inferWhole({ messages: ASKED, temperature: 0, max_tokens: 20 });
    assertEquals(block.text, text);
    assertEquals(message.usage.output_tokens, 20);
    const { input_tokens, cache_read_input_tokens } = message.usage;
    const counted = await client.messages.countTokens({ model: "any", messages: ASKED });
    assertEquals(input_tokens + cache_read_input_tokens!, counted.input_tokens);
  });

  await t.step("streamed, as the client's own accumulator follows it", async () => {
    const whole = await client.messages.create(ask);
    const stream = client.messages.stream(ask);
    let text = "";
    stream.on("text", (delta) => text += delta);
    const final = await stream.finalMessage();
    const [block] = whole.content;
    assert(block.type === "text");
    assertEquals(text, block.text);
    assertEquals([final.stop_reason, final.usage.output_tokens], ["max_tokens", 20]);
    const names = (await Array.fromAsync(await client.messages.create({ ...ask, stream: true })))
      .map(({ type }) => type);
    assertEquals(names.slice(0, 2), ["message_start", "content_block_start"]);
    assertEquals(names.slice(-3), ["content_block_stop", "message_delta", "message_stop"]);
  });

  await t.step("a stop sequence is named, the end of a turn is one", async () => {
    const whole = await client.messages.create(ask);
    const [block] = whole.content;
    assert(block.type === "text");
    const stop = block.text.slice(12, 16);
    const cut = await client.messages.create({ ...ask, stop_sequences: ["never there", stop] });
    assertEquals([cut.stop_reason, cut.stop_sequence], ["stop_sequence", stop]);
    const all = await client.messages.create({ ...ask, max_tokens: 400 });
    assertEquals([all.stop_reason, all.stop_sequence], ["end_turn", null]);
  });

  await t.step("a system text, blocks, and an answer that is begun", async () => {
    const message = await client.messages.create({
      ...ask,
      system: [{ type: "text", text: "Tell of a dog.", cache_control: { type: "ephemeral" } }],
      messages: [
        { role: "user", content: [{ type: "text", text: "write" }, { type: "text", text: "a story" }] },
        { role: "assistant", content: "Once upon a time" },
      ],
      metadata: { user_id: "me" },
    });
    const [block] = message.content;
    assert(block.type === "text" && !block.text.startsWith("Once"), JSON.stringify(block));
  });
});

Deno.test("anthropic: tools and thoughts", async (t) => {
  await t.step("calls, whole and streamed, and their results", async () => {
    await using worker = await startWorker({
      args: ["--chat-template", chatTemplate("meetkai-functionary-medium-v3.2")],
    });
    const client = clientOf(worker);
    const ask = {
      model: "any",
      max_tokens: 60,
      temperature: 0,
      messages: [{ role: "user" as const, content: "Weather in Paris?" }],
      tools: [WEATHER],
      tool_choice: { type: "tool" as const, name: "get_weather" },
    };
    const whole = await client.messages.create(ask);
    const call = whole.content.find((block) => block.type === "tool_use")!;
    assertEquals(call.name, "get_weather");
    assertMatch(call.id, /^call_/);
    const input = call.input as { place: string; days: number };
    assert(["Paris", "Rome"].includes(input.place) && [1, 2].includes(input.days), JSON.stringify(input));
    const streamed = await client.messages.stream(ask).finalMessage();
    assertEquals(streamed.content.find((block) => block.type === "tool_use")!.input, call.input);
    const answered = await client.messages.create({
      ...ask,
      max_tokens: 5,
      tool_choice: { type: "none" },
      messages: [
        ...ask.messages,
        { role: "assistant", content: [call] },
        { role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: "sunny" }] },
      ],
    });
    assert(answered.usage.output_tokens > 0);
  });

  await t.step("thoughts are blocks of their own", async () => {
    await using worker = await startWorker({
      args: ["--chat-template", chatTemplate("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B")],
    });
    const ask = { model: "any", messages: ASKED, temperature: 0, max_tokens: 30 };
    const [block] = (await clientOf(worker).messages.create(ask)).content;
    assert(block.type === "thinking" && block.thinking.length > 10, JSON.stringify(block));
    const [streamed] = (await clientOf(worker).messages.stream(ask).finalMessage()).content;
    assert(streamed.type === "thinking");
    assertEquals(streamed.thinking, block.thinking);
  });
});

Deno.test("anthropic: what goes wrong is the client's own exception", async (t) => {
  await using worker = await startWorker({ args: ["--slots", "1"] });
  const client = clientOf(worker);
  const ask = { model: "any", messages: ASKED, max_tokens: 400 };

  await t.step("a wrong key", async () => {
    const error = await assertRejects(
      () => clientOf(worker, "wrong").messages.create(ask),
      Anthropic.AuthenticationError,
    );
    assertEquals((error.error as { error: { type: string } }).error.type, "authentication_error");
    const bearer = new Anthropic({ baseURL: worker.url, authToken: worker.key, apiKey: null, maxRetries: 0 });
    assertEquals((await bearer.messages.create({ ...ask, max_tokens: 1 })).type, "message");
  });

  await t.step("a bad field", async () => {
    const error = await assertRejects(
      () => client.messages.create({ ...ask, max_tokens: 0 }),
      Anthropic.BadRequestError,
    );
    assertStringIncludes(error.message, "max_tokens");
  });

  await t.step("a prompt longer than the context", async () => {
    const messages = [{ role: "user" as const, content: "story ".repeat(2000) }];
    const error = await assertRejects(
      () => client.messages.create({ ...ask, messages }),
      Anthropic.BadRequestError,
    );
    assertMatch(error.message, /the context holds 512/);
  });

  await t.step("no free slot, and an abort in mid-stream frees it", async () => {
    const request_id = "busy";
    await worker.client.infer({ prompt: "a", grammar: "root ::= [a-z]{450}", request_id });
    const error = await assertRejects(() => client.messages.create(ask), Anthropic.InternalServerError);
    assertEquals((error.error as { error: { type: string } }).error.type, "overloaded_error");
    await worker.client.cancel(request_id);
    const free = (slots: number) =>
      eventually(`${slots} free slots`, async () => {
        const state = await worker.client.ready();
        return state.ready && state.slots_available === slots;
      });
    await free(1);
    const stream = client.messages.stream({ ...ask, temperature: 0, messages: [...ASKED] });
    await new Promise<void>((resolve) => stream.once("text", () => resolve()));
    stream.abort();
    await assertRejects(() => stream.done(), Anthropic.APIUserAbortError);
    await free(1);
  });
});
