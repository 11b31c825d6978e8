import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { createLogger } from "../daemon/log.ts";
import { startServer } from "../daemon/lifecycle.ts";
import type { App } from "../daemon/serve.ts";
import { ErrorEnvelopeSchema, RbeeError } from "../protocol/errors.ts";
import { MAX_BODY_BYTES, MAX_CONTROL_BODY_BYTES, MAX_RELAY_BODY_BYTES } from "../protocol/limits.ts";
import { type RouteSpec, WORKER_ROUTES } from "../protocol/routes.ts";
import { readEvents } from "../protocol/sse.ts";
import {
  DoneEvent,
  InferenceEvent,
  InferenceResponse,
  LoadingEvent,
  ReadyResponse,
} from "../protocol/worker_schemas.ts";
import { loadEngine } from "../tests/helpers/engine.ts";
import { sharedModel, STORIES } from "../tests/helpers/test_models.ts";
import { createWorkerApp } from "./app.ts";
import { modelFingerprint } from "./exported_answer.ts";
import { WorkerMetrics } from "./metrics.ts";
import { type LoadEngine, Worker } from "./worker.ts";

const KEY = "key-of-the-worker";
const ENDLESS = `root ::= [a-z]{600}`;
const stories260k = sharedModel("stories260K-F32.gguf");
const log = createLogger({ part: "test", level: "error", format: "json", write: () => {} });

interface Setup extends AsyncDisposable {
  worker: Worker;
  app: App;
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Response>;
}

async function setup(
  load: LoadEngine | "none" = () => loadEngine(STORIES),
  model = STORIES,
): Promise<Setup> {
  const metrics = new WorkerMetrics();
  const worker = new Worker({
    modelRef: "builtin:stories",
    fingerprint: () => modelFingerprint(model),
    metrics,
    log,
  });
  const app = createWorkerApp({ worker, metrics, apiKey: KEY, log });
  if (load !== "none") await worker.load(load);
  return {
    worker,
    app,
    call: (method, path, body, headers = {}) =>
      app(
        new Request(`http://worker${path}`, {
          method,
          headers: { Authorization: `Bearer ${KEY}`, ...headers },
          body: body === undefined || typeof body === "string" || body instanceof Uint8Array
            ? body as BodyInit | undefined
            : JSON.stringify(body),
        }),
      ),
    async [Symbol.asyncDispose]() {
      await worker.drain(AbortSignal.abort());
      await worker.close();
    },
  };
}

async function eventsOf(response: Response): Promise<InferenceEvent[]> {
  return (await Array.fromAsync(readEvents(response.body!))).map((event) => InferenceEvent.parse(event));
}

async function errorOf(response: Response) {
  return ErrorEnvelopeSchema.parse(await response.json()).error;
}

Deno.test("a stream has one event per token, one terminal event, and [DONE]", async () => {
  await using worker = await setup();
  const response = await worker.call("POST", "/v1/inference", {
    prompt: "Once upon a time",
    max_tokens: 12,
    temperature: 0,
    request_id: "story-1",
  });
  assertEquals(response.status, 200);
  assertEquals(response.headers.get("X-Request-Id"), "story-1");
  assertStringIncludes(response.headers.get("Content-Type")!, "text/event-stream");
  const events = await eventsOf(response);
  assertEquals(events.length, 13);
  assertEquals(events.slice(0, -1).map((event) => "index" in event ? event.index : -1), [
    ...Array(12).keys(),
  ]);
  const done = DoneEvent.parse(events.at(-1));
  assertEquals(done.total_tokens, 12);
  assertEquals(done.stop_reason, "length");
  assert(done.prompt_tokens > 0 && done.duration_ms > 0 && done.time_to_first_token_ms > 0);
});

Deno.test("without streaming the same text comes as one object", async () => {
  await using worker = await setup();
  const request = { prompt: "Once upon a time", max_tokens: 12, temperature: 0 };
  const streamed = await eventsOf(await worker.call("POST", "/execute", request));
  const whole = InferenceResponse.parse(
    await (await worker.call("POST", "/v1/inference", { ...request, stream: false })).json(),
  );
  assertEquals(whole.text, streamed.map((event) => "token" in event ? event.token : "").join(""));
  assertEquals(whole.token_ids.length, 12);
});

Deno.test("a reader that goes away frees the slot", async () => {
  await using worker = await setup();
  const server = startServer(worker.app, { listen: { hostname: "127.0.0.1", port: 0 }, log });
  const leave = new AbortController();
  const response = await fetch(`http://127.0.0.1:${server.address.port}/v1/inference`, {
    method: "POST",
    headers: { Authorization: `Bearer ${KEY}` },
    body: JSON.stringify({ prompt: "Once", grammar: ENDLESS, max_tokens: 500 }),
    signal: leave.signal,
  });
  const reader = response.body!.getReader();
  await reader.read();
  assertEquals(worker.worker.status().state, "busy");
  leave.abort();
  await reader.read().catch(() => {});
  while (worker.worker.status().state === "busy") await new Promise((resolve) => setTimeout(resolve, 1));
  await server.close();
});

Deno.test("DELETE cancels a running answer, any other id is fine as well", async () => {
  await using worker = await setup();
  const response = await worker.call("POST", "/v1/inference", {
    prompt: "Once",
    grammar: ENDLESS,
    max_tokens: 500,
    request_id: "long",
  });
  const canceled = await worker.call("DELETE", "/v1/inference/long");
  assertEquals(canceled.status, 204);
  const done = DoneEvent.parse((await eventsOf(response)).at(-1));
  assertEquals(done.stop_reason, "canceled");
  assertEquals((await worker.call("DELETE", "/v1/inference/long")).status, 204);
  assertEquals((await worker.call("POST", "/cancel", { request_id: "never-seen" })).status, 202);
});

Deno.test("a deadline ends an answer, one in the past refuses it, and a malformed one is named", async () => {
  await using worker = await setup();
  const request = { prompt: "Once", grammar: ENDLESS, max_tokens: 500 };
  const cut = await worker.call("POST", "/v1/inference", request, { "X-Deadline": "20" });
  assertEquals(DoneEvent.parse((await eventsOf(cut)).at(-1)).stop_reason, "deadline");
  const past = await worker.call("POST", "/v1/inference", request, {
    "X-Request-Deadline": "2020-01-01T00:00:00Z",
  });
  assertEquals((await errorOf(past)).code, "REQUEST_TIMEOUT");
  const malformed = await worker.call("POST", "/v1/inference", request, { "X-Deadline": "soon" });
  assertEquals(malformed.status, 400);
});

Deno.test("full slots answer 503 with the numbers and when to come back", async () => {
  await using worker = await setup();
  const request = { prompt: "Once", grammar: ENDLESS, max_tokens: 500 };
  const running = await Promise.all([1, 2].map(() => worker.call("POST", "/v1/inference", request)));
  const refused = await worker.call("POST", "/v1/inference", request);
  assertEquals(refused.status, 503);
  assertEquals(refused.headers.get("Retry-After"), "1");
  const { error } = await refused.json();
  assertEquals(error.code, "ALL_SLOTS_BUSY");
  assertEquals([error.slots_total, error.slots_busy], [2, 2]);
  assertEquals(error.details, { slots_total: 2, slots_busy: 2 });
  await Promise.all(running.map((response) => response.body!.cancel()));
});

Deno.test("a request id in use is refused", async () => {
  await using worker = await setup();
  const request = { prompt: "Once", grammar: ENDLESS, max_tokens: 500, request_id: "same" };
  const first = await worker.call("POST", "/v1/inference", request);
  assertEquals((await errorOf(await worker.call("POST", "/v1/inference", request))).code, "INVALID_REQUEST");
  await first.body!.cancel();
});

Deno.test("every bad field is named at once, and the prompt is not echoed", async () => {
  await using worker = await setup();
  const response = await worker.call("POST", "/v1/inference", {
    prompt: "a secret of mine",
    max_tokens: 0,
    temperature: 3,
    top_p: "high",
    shiny: true,
  });
  assertEquals(response.status, 400);
  const text = await response.text();
  const { details } = ErrorEnvelopeSchema.parse(JSON.parse(text)).error;
  const fields = (details.errors as { field: string }[]).map((error) => error.field);
  assertEquals(fields.sort(), ["max_tokens", "shiny", "temperature", "top_p"]);
  assert(!text.includes("secret"));
});

Deno.test("while loading, progress is told to early and late listeners, and requests wait their turn", async () => {
  const proceed = Promise.withResolvers<void>();
  await using worker = await setup("none");
  const loaded = worker.worker.load(async ({ onProgress }) => {
    onProgress({ stage: "loading_to_vram", layers_loaded: 3, layers_total: 6, vram_mb: 1.5 });
    await proceed.promise;
    return await loadEngine(STORIES);
  });
  assertEquals(ReadyResponse.parse(await (await worker.call("GET", "/v1/ready")).json()).state, "loading");
  assertEquals(
    (await errorOf(await worker.call("POST", "/v1/inference", { prompt: "x" }))).code,
    "NOT_READY",
  );
  assertEquals((await worker.call("GET", "/health/ready")).status, 503);
  const late = await worker.call("GET", "/v1/loading/progress");
  proceed.resolve();
  const events = (await Array.fromAsync(readEvents(late.body!))).map((event) => LoadingEvent.parse(event));
  assertEquals(events.map((event) => event.stage), ["loading_to_vram", "ready"]);
  assertEquals(events[0].stage === "loading_to_vram" && events[0].layers_loaded, 3);
  await loaded;
  const after = await worker.call("GET", "/v1/loading/progress");
  assertEquals(await Array.fromAsync(readEvents(after.body!)), [{ stage: "ready" }]);
});

Deno.test("a load that fails is told by readiness, progress and every request", async () => {
  await using worker = await setup(() => Promise.reject(new RbeeError("INVALID_MODEL", "It is broken.")));
  const ready = ReadyResponse.parse(await (await worker.call("GET", "/v1/ready")).json());
  assertEquals(ready.state === "failed" && ready.error.code, "INVALID_MODEL");
  const [event] = await Array.fromAsync(readEvents((await worker.call("GET", "/v1/loading/progress")).body!));
  assertEquals(LoadingEvent.parse(event).stage, "error");
  assertEquals(
    (await errorOf(await worker.call("POST", "/v1/inference", { prompt: "x" }))).code,
    "INVALID_MODEL",
  );
});

Deno.test("a shutdown on the condition of idleness only happens when nothing ran for that long", async () => {
  await using worker = await setup();
  const ask = async (body: unknown) => await (await worker.call("POST", "/v1/admin/shutdown", body)).json();
  assertEquals((await ask({ if_idle_ms: 60_000 })).accepted, false);
  const running = await worker.call("POST", "/v1/inference", {
    prompt: "x",
    grammar: ENDLESS,
    max_tokens: 500,
  });
  assertEquals(await ask({ if_idle_ms: 0 }), { accepted: false, idle_ms: 0 });
  await running.body!.cancel();
});

Deno.test("after a shutdown was asked for, running answers finish and new ones are refused", async () => {
  await using worker = await setup();
  const running = await worker.call("POST", "/v1/inference", {
    prompt: "Once",
    max_tokens: 60,
    temperature: 0,
  });
  assertEquals((await (await worker.call("POST", "/v1/admin/shutdown")).json()).accepted, true);
  await worker.worker.shutdownAsked;
  const refused = await worker.call("POST", "/v1/inference", { prompt: "x" });
  assertEquals((await errorOf(refused)).code, "SHUTTING_DOWN");
  const drained = worker.worker.drain(new AbortController().signal);
  assertEquals(DoneEvent.parse((await eventsOf(running)).at(-1)).total_tokens, 60);
  await drained;
});

Deno.test("metrics count answers and tokens and show memory", async () => {
  await using worker = await setup();
  await eventsOf(
    await worker.call("POST", "/v1/inference", { prompt: "Once", max_tokens: 7, temperature: 0 }),
  );
  const text = await (await worker.call("GET", "/metrics")).text();
  assertStringIncludes(text, `rbee_worker_requests_total{outcome="length"} 1`);
  assertStringIncludes(text, "rbee_worker_generated_tokens_total 7");
  assertMatch(text, /rbee_worker_memory_bytes\{kind="weights"\} [1-9]/);
});

Deno.test("an answer moves from one worker to another in mid-stream, and is whole", async () => {
  await using first = await setup();
  await using second = await setup();
  const body = {
    prompt: "Once",
    temperature: 1,
    seed: 5,
    max_tokens: 200,
    request_id: "a",
    grammar: ENDLESS,
  };
  const uncut = await eventsOf(await first.call("POST", "/v1/inference", body));
  const stream = await first.call("POST", "/v1/inference", body);
  const exported = await first.call("POST", "/v1/inference/a/export", { kv: true });
  assertEquals(exported.status, 200);
  assertEquals(exported.headers.get("Content-Type"), "application/octet-stream");
  const state = await exported.arrayBuffer();
  const begun = await eventsOf(stream);
  const resumed = await second.call("POST", "/v1/inference/resume", new Uint8Array(state));
  assert(resumed.headers.get("X-Request-Id"));
  const rest = await eventsOf(resumed);
  assertEquals([...begun.slice(0, -1), ...rest.slice(0, -1)], uncut.slice(0, -1));
  assertEquals(DoneEvent.parse(begun.at(-1)).stop_reason, "canceled");
  assertEquals(DoneEvent.parse(rest.at(-1)).total_tokens, 200);
  assertStringIncludes(
    await (await second.call("GET", "/metrics")).text(),
    `rbee_worker_generated_tokens_total ${rest.length - 1}\n`,
  );
});

Deno.test({
  name: "another model's answer is refused with the reason, as is one that is not running",
  ignore: stories260k === undefined,
  fn: async () => {
    await using first = await setup();
    await using second = await setup(() => loadEngine(stories260k!), stories260k);
    const body = { prompt: "Once", max_tokens: 400, request_id: "a", grammar: ENDLESS };
    const stream = await first.call("POST", "/v1/inference", body);
    const exported = await first.call("POST", "/v1/inference/a/export", {});
    const state = new Uint8Array(await exported.arrayBuffer());
    await stream.body?.cancel();
    const refused = await second.call("POST", "/v1/inference/resume", state);
    assertEquals(refused.status, 400);
    assertStringIncludes((await errorOf(refused)).message, "another model");
    const gone = await first.call("POST", "/v1/inference/a/export", {});
    assertEquals(gone.status, 404);
    await gone.body?.cancel();
  },
});

for (const [name, route] of Object.entries<RouteSpec>(WORKER_ROUTES)) {
  Deno.test(`bad input to ${name} gets the envelope and never a 500`, async () => {
    await using worker = await setup();
    const path = route.path.replace(":request_id", "some-id");
    const wrongMethod = route.method === "POST" ? "GET" : "POST";
    const tooLarge = {
      prompt: MAX_BODY_BYTES,
      tokens: MAX_BODY_BYTES,
      relay: MAX_RELAY_BODY_BYTES,
      state: 0,
      control: MAX_CONTROL_BODY_BYTES,
    };
    const huge = "x".repeat(tooLarge[route.body ?? "control"]);
    const tries: [number[], Response][] = [
      [[405], await worker.call(wrongMethod, path)],
      [[400, 404, 405], await worker.call(route.method, `${path}/%FF`)],
    ];
    if (route.auth !== "none") {
      tries.push(
        [[401], await worker.call(route.method, path, undefined, { Authorization: "" })],
        [[401], await worker.call(route.method, path, undefined, { Authorization: "Bearer wrong" })],
        [
          [400],
          await worker.call(route.method, path, undefined, { Authorization: `Bearer ${"k".repeat(9000)}` }),
        ],
      );
    }
    if (route.method === "POST") {
      tries.push(
        [[400], await worker.call("POST", path, "{broken")],
        [[400], await worker.call("POST", path, [1, 2])],
        [[400], await worker.call("POST", path, { unknown_field: 1 })],
        [[400], await worker.call("POST", path, { prompt: 7, request_id: {}, if_idle_ms: "x" })],
        [[400], await worker.call("POST", path, "[".repeat(100_000))],
        [[route.body === "state" ? 400 : 413], await worker.call("POST", path, { prompt: huge })],
      );
    }
    if (name === "cancel") tries.push([[400], await worker.call("DELETE", "/v1/inference/a%20b")]);
    for (const [expected, response] of tries) {
      const error = await errorOf(response);
      assert(expected.includes(response.status), `${response.status} ${error.message}`);
      assertEquals(error.correlation_id, response.headers.get("X-Correlation-Id"));
    }
  });
}
