/** What goes wrong, as the npm package `openai` tells it. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import OpenAI from "openai";
import { eventually } from "../helpers/eventually.ts";
import { startWorker } from "../helpers/worker_process.ts";
import { ASKED, clientOf } from "./openai_bed.ts";

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

  await t.step("more than the engine takes, though each field is as it should be", async () => {
    const words = "once upon a time ".repeat(20);
    const tried = [
      { stop: ["x".repeat(100_000)] },
      { logit_bias: Array.from({ length: 500 }, (_, i) => [words + i, 1]) },
    ];
    for (const request of tried) {
      const error = await assertRejects(
        () => client.completions.create({ model: "any", prompt: "Once", ...request } as never),
        OpenAI.BadRequestError,
      );
      assertEquals(error.code, "INVALID_REQUEST");
    }
  });

  await t.step("JSON nested deeper than recursive code should follow", async () => {
    const deep = `${"[".repeat(50_000)}${"]".repeat(50_000)}`;
    const called = (args: string) => [
      ...ASKED,
      {
        role: "assistant" as const,
        content: "",
        tool_calls: [{ id: "call_1", type: "function" as const, function: { name: "f", arguments: args } }],
      },
      ...ASKED,
    ];
    const tried = [
      { messages: called(deep) },
      { messages: called(`{"a":${"[".repeat(65)}${"]".repeat(65)}}`) },
      { messages: ASKED, chat_template_kwargs: { a: JSON.parse("[".repeat(70) + "]".repeat(70)) } },
    ];
    for (const request of tried) {
      const error = await assertRejects(
        () => client.chat.completions.create({ ...ask, ...request } as typeof ask),
        OpenAI.BadRequestError,
      );
      assertMatch(error.message, /nested deeper than 64 levels/);
    }
    const { choices } = await client.chat.completions.create({
      ...ask,
      messages: called("no JSON"),
      max_tokens: 1,
    });
    assertEquals(choices.length, 1);
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
