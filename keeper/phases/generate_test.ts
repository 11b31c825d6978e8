import { assert, assertEquals, assertInstanceOf, assertRejects, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async";
import { RbeeError } from "../../protocol/errors.ts";
import { TOKEN_GAP_TIMEOUT_MS } from "../../protocol/limits.ts";
import { WORKER_ROUTES } from "../../protocol/routes.ts";
import { DONE_EVENT, formatEvent, SSE_HEADERS } from "../../protocol/sse.ts";
import { type ModelFacts, ReadyResponse } from "../../protocol/worker_schemas.ts";
import { Interrupted } from "../interrupt.ts";
import { Output } from "../output.ts";
import {
  type Answer,
  answerOf,
  doneEvent,
  events,
  idle,
  on,
  sendTokens,
  type StandIn,
  standInWorker,
  WORKER_KEY,
} from "../testing/stand_in.ts";
import { busyDelayMs, generate, type GenerateOptions } from "./generate.ts";
import { WorkerGone } from "./worker_gone.ts";

const SILENT = { terminal: false, write: () => Promise.resolve(), writeSync: () => {} };

async function ask(answer: Answer | StandIn, options: Partial<GenerateOptions> = {}) {
  await using own = typeof answer === "function"
    ? standInWorker({ [on(WORKER_ROUTES.inference)]: answer })
    : undefined;
  const worker = own ?? answer as StandIn;
  const received: string[] = [];
  const outcome = await generate(
    { id: "w-1", node: "n", url: worker.url, apiKey: WORKER_KEY, model: modelFacts() },
    { prompt: "x", max_tokens: 20 },
    {
      output: new Output({ stdout: SILENT, stderr: SILENT }),
      signal: new AbortController().signal,
      correlationId: "test",
      retries: 0,
      limits: { tokenGapMs: TOKEN_GAP_TIMEOUT_MS },
      onEvent: (event) => {
        if ("token" in event) received.push(event.token);
        return Promise.resolve();
      },
      ...options,
    },
  ).catch((error: unknown) => error);
  if (outcome instanceof RbeeError && typeof outcome.details.partial_path === "string") {
    await Deno.remove(outcome.details.partial_path);
  }
  return { outcome, received, canceled: worker.count(WORKER_ROUTES.cancel) };
}

function modelFacts(): ModelFacts {
  const ready = ReadyResponse.parse(idle());
  assert(ready.ready);
  return ready.model;
}

function failureOf({ outcome }: { outcome: unknown }): RbeeError {
  assertInstanceOf(outcome, RbeeError);
  return outcome;
}

Deno.test("a finished answer gives its figures", async () => {
  const { outcome, received } = await ask(() => answerOf(["a", "b"]));
  assertEquals(received, ["a", "b"]);
  assertEquals((outcome as { total_tokens: number }).total_tokens, 2);
});

Deno.test("a reader who pauses for longer than the limit between tokens gets the whole answer", async () => {
  const paused = Promise.withResolvers<void>();
  const over = Promise.withResolvers<void>();
  const answer = () =>
    events((writer) => {
      sendTokens(writer, ["a", "b"]);
      const going = setInterval(() => sendTokens(writer, ["c"]), 10);
      void over.promise.then(() => {
        clearInterval(going);
        writer.send(doneEvent(2));
        writer.end();
      });
      void paused.promise.then(() => delay(600)).then(over.resolve);
    });
  const received: string[] = [];
  const { outcome } = await ask(answer, {
    limits: { firstTokenMs: 60_000, tokenGapMs: 200 },
    onEvent: async (event) => {
      if (!("token" in event)) return;
      received.push(event.token);
      if (event.token !== "b") return;
      paused.resolve();
      await over.promise;
    },
  });
  assertEquals(received.slice(0, 3), ["a", "b", "c"]);
  assertEquals((outcome as { stop_reason: string }).stop_reason, "eos");
});

Deno.test("no further token in time: the worker is told, and what came is kept", async () => {
  const asked = await ask(() => events((writer) => sendTokens(writer, ["a"])), {
    limits: { firstTokenMs: 60_000, tokenGapMs: 50 },
  });
  const error = failureOf(asked);
  assertEquals([error.code, error.message], [
    "REQUEST_TIMEOUT",
    "No token came for 0.05 s; the request was canceled",
  ]);
  assertEquals([error.details.tokens_generated, error.details.max_tokens, asked.canceled], [1, 20, 1]);
});

Deno.test("no first token in time: the worker is told, and no empty file is left", async () => {
  const asked = await ask(() => events(() => {}), { limits: { firstTokenMs: 50, tokenGapMs: 60_000 } });
  const error = failureOf(asked);
  assertEquals([error.code, error.details.partial_path, asked.canceled], ["REQUEST_TIMEOUT", undefined, 1]);
});

Deno.test("an event that can't be read ends the answer, at the worker too", async () => {
  const body = (text: string) => () => new Response(text, { headers: SSE_HEADERS });
  const noJson = await ask(body(`${formatEvent({ token: "a", index: 0, id: 0 })}data: {oops\n\n`));
  assertStringIncludes(failureOf(noJson).message, "sent an event that can't be read");
  assertEquals([failureOf(noJson).details.tokens_generated, noJson.canceled], [1, 1]);
  const noEvent = await ask(body(`${formatEvent({ surprise: true })}${DONE_EVENT}`));
  assertStringIncludes(failureOf(noEvent).message, "malformed answer to POST /v1/inference");
});

Deno.test("a stream that ends without its terminal event is a dead worker", async () => {
  const asked = await ask(() =>
    events((writer) => {
      sendTokens(writer, ["a"]);
      writer.end();
    })
  );
  assertEquals(failureOf(asked).code, "WORKER_CRASHED");
});

Deno.test("an answer that somebody else canceled is no answer", async () => {
  const asked = await ask(() => answerOf(["a"], { stop_reason: "canceled" }));
  assertEquals([failureOf(asked).code, failureOf(asked).details.tokens_generated], ["REQUEST_CANCELED", 1]);
});

Deno.test("a worker that is not there, or not the one it was, is told apart from one that fails", async () => {
  const closed = standInWorker();
  await closed[Symbol.asyncDispose]();
  assertInstanceOf((await ask(closed)).outcome, WorkerGone);
  const other = await assertRejects(async () => {
    await using worker = standInWorker();
    const stranger = { id: "w-1", node: "n", url: worker.url, apiKey: "another-key", model: modelFacts() };
    return await generate(stranger, { prompt: "x" }, {
      output: new Output({ stdout: SILENT, stderr: SILENT }),
      signal: new AbortController().signal,
      correlationId: "test",
      retries: 0,
      limits: { tokenGapMs: TOKEN_GAP_TIMEOUT_MS },
      onEvent: () => Promise.resolve(),
    });
  });
  assertInstanceOf(other, WorkerGone);
});

Deno.test("output that nobody takes does not keep Ctrl+C from being heard", async () => {
  const controller = new AbortController();
  const { outcome, canceled } = await ask(() => events((writer) => sendTokens(writer, ["a", "b"])), {
    signal: controller.signal,
    onEvent: () => {
      controller.abort(new RbeeError("REQUEST_TIMEOUT", "enough"));
      return new Promise(() => {});
    },
  });
  assertEquals([(outcome as RbeeError).message, canceled], ["enough", 1]);
});

Deno.test("EC6: the pauses double from one second, up to half a minute", () => {
  assertEquals([0, 1, 2, 3, 9].map(busyDelayMs), [1_000, 2_000, 4_000, 8_000, 30_000]);
});

Deno.test("EC5: nothing more is shown after Ctrl+C, and the worker is told before the command ends", async () => {
  const controller = new AbortController();
  const shown: string[] = [];
  const { outcome, canceled } = await ask(() => events((writer) => sendTokens(writer, ["a", "b", "c"])), {
    signal: controller.signal,
    onEvent: (event) => {
      if ("token" in event) shown.push(event.token);
      controller.abort(new Interrupted());
      return Promise.resolve();
    },
  });
  assertInstanceOf(outcome, Interrupted);
  assertEquals([shown, canceled, outcome.message], [["a"], 1, "Canceled."]);
});
