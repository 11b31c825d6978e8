import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { fieldErrors } from "./errors.ts";
import { MAX_JSON_SCHEMA_DEPTH, MAX_STOP_STRINGS } from "./limits.ts";
import {
  type InferenceInput,
  InferenceRequest,
  MAX_SEED,
  RequestId,
  ShutdownRequest,
} from "./worker_requests.ts";
import { InferenceEvent, LoadingEvent, ReadyResponse } from "./worker_schemas.ts";

/** Any UTF-16 there is, half characters included. */
const anyText = (constraints: fc.ArrayConstraints = {}) =>
  fc.array(fc.integer({ min: 0, max: 0xffff }), constraints).map((units) => String.fromCharCode(...units));

/** The bad fields of a request, by name; none when it is good. */
function badFields(request: unknown): string[] {
  const result = InferenceRequest.safeParse(request, { reportInput: true });
  return result.success ? [] : fieldErrors(result.error).map(({ field }) => field).sort();
}

Deno.test("a prompt alone is a request, with the defaults of SPEC §5", () => {
  assertEquals(InferenceRequest.parse({ prompt: "x" }), {
    prompt: "x",
    temperature: 0.7,
    top_p: 0.95,
    top_k: 40,
    min_p: 0.05,
    repetition_penalty: 1,
    presence_penalty: 0,
    frequency_penalty: 0,
    stop: [],
    logit_bias: [],
    strict: false,
    speculative: "auto",
    stream: true,
  });
});

Deno.test("each limit is itself allowed and the next value beyond is not", () => {
  const limits: Record<string, { good: unknown[]; bad: unknown[] }> = {
    prompt: { good: ["x", " ", "\n", "🐝"], bad: ["", 5, null, ["x"], {}] },
    max_tokens: { good: [1, 100_000], bad: [0, -1, 1.5, "5", null] },
    temperature: { good: [0, 2, 0.01], bad: [-0.01, 2.01, "0.7", null] },
    top_p: { good: [0, 1], bad: [-0.1, 1.1] },
    top_k: { good: [0, 1, 1_000_000], bad: [-1, 0.5, 1_000_001] },
    min_p: { good: [0, 1], bad: [-0.1, 1.1] },
    repetition_penalty: { good: [0.01, 1, 10], bad: [0, -1, 10.1] },
    presence_penalty: { good: [-2, 2], bad: [-2.1, 2.1] },
    frequency_penalty: { good: [-2, 2], bad: [-2.1, 2.1] },
    seed: { good: [0, MAX_SEED], bad: [-1, MAX_SEED + 1, 0.5, "1"] },
    stop: {
      good: [[], ["x"], Array(MAX_STOP_STRINGS).fill("x"), ["x".repeat(1024)]],
      bad: [Array(MAX_STOP_STRINGS + 1).fill("x"), "x", null],
    },
    grammar: { good: ['root ::= "x"'], bad: ["", 5] },
    json_schema: { good: [{}, { type: "object" }], bad: [[], "x", null, true] },
    logit_bias: {
      good: [[], [{ token: 0, bias: -1000 }], [{ token: 0x7fff_ffff, bias: 1000 }]],
      bad: [{}, "x", null],
    },
    logprobs: { good: [0, 20], bad: [-1, 21, true] },
    strict: { good: [true, false], bad: ["true", 1, null] },
    speculative: { good: ["auto", "on", "off"], bad: ["", "ON", true, null] },
    stream: { good: [true, false], bad: ["true", 1, null] },
    request_id: {
      good: ["a", "A-z_9", "x".repeat(64)],
      bad: ["", "x".repeat(65), "a/b", "a b", "ä", "../x", "a\n"],
    },
  };
  assertEquals(
    Object.keys(limits).concat("messages").sort(),
    Object.keys(InferenceRequest.shape).sort(),
    "a field is not tested here",
  );
  for (const [field, { good, bad }] of Object.entries(limits)) {
    for (const value of good) {
      assertEquals(badFields({ prompt: "x", [field]: value }), [], `${field}=${value}`);
    }
    for (const value of bad) {
      assertEquals(badFields({ prompt: "x", [field]: value }), [field], `${field}=${JSON.stringify(value)}`);
    }
  }
  assertEquals(badFields({ prompt: "x", stop: ["ok", ""] }), ["stop.1"]);
  assertEquals(badFields({ prompt: "x", stop: ["x".repeat(1025)] }), ["stop.0"]);
});

Deno.test("prompt or messages, never both and never neither", () => {
  const messages = [{ role: "user", content: "hi" }];
  assertEquals(badFields({ messages }), []);
  assertEquals(badFields({ prompt: "x", messages }), ["prompt"]);
  assertEquals(badFields({}), ["prompt"]);
  assertEquals(badFields({ temperature: 9 }), ["prompt", "temperature"]);
  assertEquals(badFields({ temperature: "hot" }), ["prompt", "temperature"]);
});

Deno.test("messages: a known role and text, nothing else, at least one", () => {
  assertEquals(badFields({ messages: [] }), ["messages"]);
  assertEquals(badFields({ messages: [{ role: "robot", content: "x" }] }), ["messages.0.role"]);
  assertEquals(badFields({ messages: [{ role: "user" }] }), ["messages.0.content"]);
  assertEquals(badFields({ messages: [{ role: "user", content: "x", name: "y" }] }), ["messages.0.name"]);
  assertEquals(badFields({ messages: ["x"] }), ["messages.0"]);
  assertEquals(badFields({ messages: Array(4097).fill({ role: "user", content: "" }) }), ["messages"]);
});

Deno.test("grammar or json_schema, not both", () => {
  assertEquals(badFields({ prompt: "x", grammar: "root ::= x", json_schema: {} }), ["grammar"]);
});

Deno.test("unknown fields are refused by name, also the names that every object has", () => {
  assertEquals(badFields({ prompt: "x", max_token: 5, Temperature: 1 }), ["Temperature", "max_token"]);
  assertEquals(badFields(JSON.parse('{"prompt":"x","__proto__":{"stream":false}}')), ["__proto__"]);
  assertEquals(badFields({ prompt: "x", constructor: 1, toString: 2 }), ["constructor", "toString"]);
});

Deno.test("all bad fields of a request are named at once", () => {
  assertEquals(
    badFields({ prompt: 5, max_tokens: 0, stop: [1], seed: "x", nonsense: 1, request_id: "!" }),
    ["max_tokens", "nonsense", "prompt", "request_id", "seed", "stop.0"],
  );
});

Deno.test("a json_schema may be as deep as the limit and no deeper, objects and arrays alike", () => {
  const nested = (levels: number, wrap: (inside: unknown) => unknown) => {
    let value: unknown = {};
    for (let level = 1; level < levels; level++) value = wrap(value);
    return value;
  };
  const wraps = [(inside: unknown) => ({ items: inside }), (inside: unknown) => ({ a: 1, anyOf: [inside] })];
  assertEquals(badFields({ prompt: "x", json_schema: nested(MAX_JSON_SCHEMA_DEPTH, wraps[0]) }), []);
  assertEquals(badFields({ prompt: "x", json_schema: nested(MAX_JSON_SCHEMA_DEPTH + 1, wraps[0]) }), [
    "json_schema",
  ]);
  assertEquals(badFields({ prompt: "x", json_schema: nested(MAX_JSON_SCHEMA_DEPTH, wraps[1]) }), [
    "json_schema",
  ]);
  assertEquals(badFields({ prompt: "x", json_schema: nested(100_000, wraps[0]) }), ["json_schema"]);
  const wide = Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`k${i}`, { type: "string" }]));
  assertEquals(badFields({ prompt: "x", json_schema: { properties: wide } }), []);
});

Deno.test("a checked request, sent on, is checked to the same", () => {
  const good: fc.Arbitrary<InferenceInput> = fc.record({
    prompt: fc.string({ minLength: 1 }),
    max_tokens: fc.integer({ min: 1 }),
    temperature: fc.double({ min: 0, max: 2, noNaN: true }),
    top_k: fc.integer({ min: 0, max: 1_000_000 }),
    seed: fc.integer({ min: 0, max: MAX_SEED }),
    stop: fc.array(fc.string({ minLength: 1, maxLength: 20 }), { maxLength: MAX_STOP_STRINGS }),
    stream: fc.boolean(),
  }, { requiredKeys: ["prompt"] });
  fc.assert(fc.property(good, (request) => {
    const once = InferenceRequest.parse(JSON.parse(JSON.stringify(request)));
    assertEquals(InferenceRequest.parse(JSON.parse(JSON.stringify(once))), once);
  }));
});

Deno.test("nothing but an object is a request, and hostile JSON is refused or accepted but never throws", () => {
  for (const value of [null, 5, "x", [], true, undefined]) assert(badFields(value).length > 0);
  fc.assert(fc.property(fc.jsonValue(), (value) => void InferenceRequest.safeParse(value)));
});

Deno.test("request ids are safe in URLs, file names and logs", () => {
  fc.assert(fc.property(anyText({ maxLength: 70 }), (text) => {
    assertEquals(
      RequestId.safeParse(text).success,
      /^[A-Za-z0-9_-]{1,64}$/.test(text) && !text.endsWith("\n"),
    );
  }));
});

Deno.test("the events of an answer are told apart, and those of a newer worker are still read", () => {
  const token = InferenceEvent.parse({ token: "Once", index: 0, id: 7, later_field: 1 });
  assert("token" in token);
  const error = InferenceEvent.parse({ error: { code: "WORKER_CRASHED", message: "m" } });
  assert("error" in error && error.error.code === "WORKER_CRASHED");
  const done = InferenceEvent.parse({
    done: true,
    total_tokens: 1,
    duration_ms: 2.5,
    stop_reason: "eos",
    prompt_tokens: 3,
    cached_tokens: 0,
    time_to_first_token_ms: 1,
    resumed_tokens: 0,
    draft_tokens: 0,
    draft_accepted_tokens: 0,
    tokens_per_second: 0,
    seed: 1,
  });
  assert("done" in done);
  for (const other of [{}, { token: "x" }, { token: "x", index: -1, id: 1 }, { done: true }, "x", null]) {
    assertEquals(InferenceEvent.safeParse(other).success, false, JSON.stringify(other));
  }
});

Deno.test("readiness and load progress hang together: no state without its facts", () => {
  assert(ReadyResponse.safeParse({ ready: false, state: "loading", progress_url: "/p" }).success);
  assert(!ReadyResponse.safeParse({ ready: true, state: "loading", progress_url: "/p" }).success);
  assert(!ReadyResponse.safeParse({ ready: true, state: "idle" }).success);
  assert(!ReadyResponse.safeParse({ ready: false, state: "elsewhere" }).success);
  assert(LoadingEvent.safeParse({ stage: "ready" }).success);
  assert(!LoadingEvent.safeParse({ stage: "error" }).success);
  assert(
    !LoadingEvent.safeParse({ stage: "loading_to_vram", layers_loaded: 1.5, layers_total: 2, vram_mb: 1 })
      .success,
  );
});

Deno.test("a shutdown takes a whole number of ms or nothing, and no other word", () => {
  assertEquals(ShutdownRequest.parse({}), {});
  assert(ShutdownRequest.safeParse({ if_idle_ms: 0 }).success);
  for (const bad of [{ if_idle_ms: -1 }, { if_idle_ms: 1.5 }, { if_idle_ms: "1" }, { force: true }, []]) {
    assertEquals(ShutdownRequest.safeParse(bad).success, false, JSON.stringify(bad));
  }
});
