/** Calls of functions as the npm package `openai` finds them. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { chatTemplate } from "../helpers/chat_templates.ts";
import { startWorker } from "../helpers/worker_process.ts";
import { clientOf, WEATHER } from "./openai_bed.ts";

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
