/** OpenAI's responses as the npm package `openai` finds them. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import OpenAI from "openai";
import { chatTemplate } from "../helpers/chat_templates.ts";
import { startWorker } from "../helpers/worker_process.ts";
import { clientOf, WEATHER } from "./openai_bed.ts";

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
