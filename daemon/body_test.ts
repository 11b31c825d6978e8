import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import * as z from "zod";
import { RbeeError } from "../protocol/errors.ts";
import { MAX_BODY_BYTES, MAX_CONTROL_BODY_BYTES } from "../protocol/limits.ts";
import { InferenceRequest } from "../protocol/worker_requests.ts";
import { keptLog } from "../tests/helpers/log_lines.ts";
import { readBody } from "./body.ts";
import { createApp } from "./serve.ts";

const Body = z.strictObject({ name: z.string().optional(), inner: z.unknown().optional() });
const encoder = new TextEncoder();

const post = (body: BodyInit | null, headers: Record<string, string> = {}) =>
  new Request("http://host/x", { method: "POST", body, headers });

const read = (body: BodyInit | null, limits: { maxBytes?: number; timeoutMs?: number } = {}) =>
  readBody(post(body), { schema: Body, maxBytes: 1000, maxValues: 100, timeoutMs: 10_000, ...limits });

const failure = (call: () => Promise<unknown>) => assertRejects(call, RbeeError);

Deno.test("a body is parsed and checked, in UTF-8 with or without its mark", async () => {
  assertEquals(await read('{"name":"ü 🐝"}'), { name: "ü 🐝" });
  assertEquals(await read('\ufeff {"name":"x"}\r\n'), { name: "x" });
});

Deno.test("no body, an empty one and one of white space count as {}", async () => {
  for (const body of [null, "", " \r\n\t", new Uint8Array()]) assertEquals(await read(body), {});
});

Deno.test("what is no JSON is refused as such, without a word of it sent back", async () => {
  for (
    const body of [
      "{",
      "secret",
      '{"name":',
      "{'name':1}",
      '{"name":1,}',
      "[1,]",
      "NaN",
      '{"a":"secret\n"}',
      "\u0000",
    ]
  ) {
    const error = await failure(() => read(body));
    assertEquals(error.code, "INVALID_REQUEST", body);
    assertEquals(error.details, { errors: [{ field: "", constraint: "json", message: "is no valid JSON" }] });
    assert(!Deno.inspect(error).includes("secret"));
  }
});

Deno.test("what is no UTF-8 is refused as such", async () => {
  const bad = [[0xff], [0xc3], [0x22, 0xed, 0xa0, 0x80, 0x22], [0x22, 0xc0, 0xaf, 0x22], [
    0xff,
    0xfe,
    0x7b,
    0x00,
  ]];
  for (const bytes of bad) {
    const error = await failure(() => read(new Uint8Array(bytes)));
    assertEquals(error.code, "INVALID_REQUEST");
    assertStringIncludes(error.message, "no valid UTF-8");
  }
});

Deno.test("a body that does not fit names every bad field", async () => {
  const error = await failure(() => read('{"name":5,"other":1,"__proto__":{"x":1}}'));
  const errors = error.details.errors as { field: string; constraint: string }[];
  assertEquals(errors.map(({ field, constraint }) => `${field} ${constraint}`).sort(), [
    "__proto__ unknown",
    "name invalid_type",
    "other unknown",
  ]);
  for (const body of ["null", "5", '"text"', "[]", "true"]) {
    assertStringIncludes((await failure(() => read(body))).message, "expected object");
  }
});

Deno.test("a missing field is called required", async () => {
  const schema = z.strictObject({ id: z.string() });
  const error = await failure(() =>
    readBody(post("{}"), { schema, maxBytes: 100, maxValues: 100, timeoutMs: 1000 })
  );
  assertEquals((error.details.errors as { constraint: string }[])[0].constraint, "required");
});

Deno.test("nesting without end is refused, and overflows nothing", async () => {
  const deep = "[".repeat(200_000) + "]".repeat(200_000);
  const limits = { maxBytes: 1_000_000 };
  assertEquals((await failure(() => read(`{"name":${deep}}`, limits))).code, "INVALID_REQUEST");
  assertEquals((await failure(() => read(deep, limits))).code, "INVALID_REQUEST");
  assertEquals((await failure(() => read("[".repeat(500_000), limits))).code, "INVALID_REQUEST");
  assertEquals((await failure(() => read(`{"inner":${deep}}`, limits))).code, "INVALID_REQUEST");
  const prompt = await failure(() =>
    readBody(post(`{"prompt":"x","json_schema":{"a":${"[".repeat(100)}${"]".repeat(100)}}}`), {
      ...limits,
      schema: InferenceRequest,
      maxValues: 1000,
      timeoutMs: 5000,
    })
  );
  assertStringIncludes(prompt.message, "json_schema: must not be nested deeper");
});

Deno.test("a body may be as large as its limit, and not a byte larger, declared or streamed", async () => {
  const sized = (bytes: number) => `{"name":"${"x".repeat(bytes - 11)}"}`;
  const streamed = (text: string) =>
    new ReadableStream<Uint8Array>({
      start(controller) {
        for (let at = 0; at < text.length; at += 77) {
          controller.enqueue(encoder.encode(text.slice(at, at + 77)));
        }
        controller.close();
      },
    });
  for (const form of [(text: string) => text, streamed]) {
    await read(form(sized(1000)));
    const error = await failure(() => read(form(sized(1001))));
    assertEquals([error.code, error.details], ["PAYLOAD_TOO_LARGE", { limit_bytes: 1000 }]);
  }
});

Deno.test("a body that declares too much is refused before it is read", async () => {
  let pulled = 0;
  let canceled = false;
  const body = new ReadableStream<Uint8Array>({
    pull: () => void pulled++,
    cancel: () => void (canceled = true),
  }, { highWaterMark: 0 });
  const request = post(body, { "Content-Length": "1001" });
  await failure(() => readBody(request, { schema: Body, maxBytes: 1000, maxValues: 100, timeoutMs: 10_000 }));
  assertEquals([pulled, canceled], [0, true]);
});

Deno.test("a body without end is let go of at its limit", async () => {
  const canceled = Promise.withResolvers<void>();
  let sent = 0;
  const endless = new ReadableStream<Uint8Array>({
    pull(controller) {
      sent += 100;
      controller.enqueue(new Uint8Array(100).fill(0x20));
    },
    cancel: () => canceled.resolve(),
  });
  assertEquals((await failure(() => read(endless))).code, "PAYLOAD_TOO_LARGE");
  await canceled.promise;
  assert(sent <= 1500, `${sent} bytes were taken`);
});

Deno.test("a body that does not arrive in time is let go of", async () => {
  const canceled = Promise.withResolvers<void>();
  const stalled = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(encoder.encode('{"name":')),
    cancel: () => canceled.resolve(),
  });
  const error = await failure(() => read(stalled, { timeoutMs: 20 }));
  assertEquals([error.code, error.status], ["REQUEST_TIMEOUT", 408]);
  await canceled.promise;
});

Deno.test({
  name: "a body that arrived in time leaves no timer behind",
  sanitizeOps: true,
  fn: async () => void await read("{}"),
});

Deno.test("a body that breaks off is its sender's doing, not a defect", async () => {
  const broken = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(encoder.encode('{"na')),
    pull: (controller) => controller.error(new TypeError("connection reset")),
  }, { highWaterMark: 0 });
  assertEquals((await failure(() => read(broken))).code, "REQUEST_CANCELED");
});

Deno.test("the app allows prompts 16 MiB and everything else 1 MiB, and passes its own time limit on", async () => {
  const { log } = keptLog();
  const handle = async ({ body }: { body: (schema: z.ZodType) => Promise<unknown> }) => {
    await body(z.unknown());
    return new Response("read");
  };
  const appWith = (bodyTimeoutMs?: number) =>
    createApp({
      apiKey: "x",
      log,
      bodyTimeoutMs,
      routes: [
        { spec: { method: "POST", path: "/prompt", auth: "none", body: "prompt" }, handle },
        { spec: { method: "POST", path: "/control", auth: "none" }, handle },
      ],
    });
  const status = async (path: string, body: BodyInit, bodyTimeoutMs?: number) =>
    (await appWith(bodyTimeoutMs)(new Request(`http://host${path}`, { method: "POST", body }))).status;
  const json = (bytes: number) => `"${"x".repeat(bytes - 2)}"`;
  assertEquals(await status("/control", json(MAX_CONTROL_BODY_BYTES)), 200);
  assertEquals(await status("/control", json(MAX_CONTROL_BODY_BYTES + 1)), 413);
  assertEquals(await status("/prompt", json(MAX_BODY_BYTES)), 200);
  assertEquals(await status("/prompt", json(MAX_BODY_BYTES + 1)), 413);
  assertEquals(await status("/control", new ReadableStream(), 20), 408);
});
