import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import * as z from "zod";
import {
  ERROR_STATUS,
  type ErrorCode,
  ErrorEnvelopeSchema,
  errorFromBody,
  fieldErrors,
  invalidRequest,
  isErrorCode,
  MAX_FIELD_CHARS,
  MAX_FIELD_ERRORS,
  RbeeError,
  toRbeeError,
} from "./errors.ts";
import { InferenceRequest } from "./worker_requests.ts";

const CODES = Object.keys(ERROR_STATUS) as ErrorCode[];

function failOf(schema: z.ZodType, value: unknown): z.ZodError {
  const result = schema.safeParse(value, { reportInput: true });
  assert(!result.success, "the value was expected to be refused");
  return result.error;
}

Deno.test("every error survives the wire: code, message, details and correlation id", () => {
  const details = fc.dictionary(fc.string().filter((key) => key !== "__proto__"), fc.jsonValue());
  fc.assert(fc.property(fc.constantFrom(...CODES), fc.string(), details, (code, message, details) => {
    const sent = { error: new RbeeError(code, message, { details }).toBody("abc-1") };
    const wire = JSON.parse(JSON.stringify(sent));
    const received = errorFromBody(ErrorEnvelopeSchema.parse(wire).error);
    assertEquals(received.code, code);
    assertEquals(received.message, message);
    assertEquals(received.correlationId, "abc-1");
    assertEquals(received.details, JSON.parse(JSON.stringify(details)));
    assertEquals(received.status, ERROR_STATUS[code]);
  }));
});

Deno.test("SPEC §4: every code has the status of the table", () => {
  const expected: Record<number, ErrorCode[]> = {
    400: ["INVALID_REQUEST", "BACKEND_UNAVAILABLE", "DEVICE_NOT_FOUND"],
    401: ["MISSING_API_KEY", "INVALID_API_KEY"],
    403: ["FORBIDDEN", "MODEL_ACCESS_DENIED"],
    404: [
      "NODE_NOT_FOUND",
      "WORKER_NOT_FOUND",
      "MODEL_NOT_FOUND",
      "DOWNLOAD_NOT_FOUND",
      "TASK_NOT_FOUND",
      "NOT_FOUND",
    ],
    405: ["METHOD_NOT_ALLOWED"],
    408: ["REQUEST_TIMEOUT", "LOADING_TIMEOUT", "CONNECTION_TIMEOUT"],
    409: ["VERSION_MISMATCH", "MODEL_IN_USE", "NODE_NAME_TAKEN"],
    413: ["PAYLOAD_TOO_LARGE"],
    429: ["RATE_LIMITED", "QUEUE_FULL"],
    499: ["REQUEST_CANCELED"],
    500: ["INTERNAL"],
    502: [
      "DOWNLOAD_FAILED",
      "DOWNLOAD_TIMEOUT",
      "CHECKSUM_MISMATCH",
      "WORKER_CRASHED",
      "WORKER_START_FAILED",
      "REQUEST_POISONED",
      "INVALID_MODEL",
    ],
    503: ["ALL_SLOTS_BUSY", "MODEL_UNREACHABLE", "NODE_UNREACHABLE", "SHUTTING_DOWN", "NOT_READY"],
    507: ["INSUFFICIENT_RAM", "VRAM_EXHAUSTED", "INSUFFICIENT_DISK"],
  };
  for (const [status, codes] of Object.entries(expected)) {
    for (const code of codes) assertEquals(ERROR_STATUS[code], Number(status), code);
  }
  assertEquals(Object.values(expected).flat().sort(), CODES.toSorted(), "a code is missing from this table");
});

Deno.test("codes that pass by themselves say when to come back", () => {
  for (const code of CODES) {
    const error = new RbeeError(code, "x");
    const temporary = error.status === 429 || error.status === 503;
    assertEquals(error.retryAfterSeconds !== undefined, temporary, code);
  }
  assertEquals(new RbeeError("ALL_SLOTS_BUSY", "x").retryAfterSeconds, 1);
  assertEquals(new RbeeError("QUEUE_FULL", "x", { retryAfterSeconds: 17 }).retryAfterSeconds, 17);
});

Deno.test("a code from a newer peer becomes INTERNAL and is not lost", () => {
  const error = errorFromBody({
    code: "SUN_WENT_OUT",
    message: "dark",
    details: { at: 3 },
    correlation_id: "c",
  });
  assertEquals(error.code, "INTERNAL");
  assertEquals(error.message, "dark");
  assertEquals(error.details, { at: 3, code: "SUN_WENT_OUT" });
});

Deno.test("names that every object has are no error codes", () => {
  for (const name of ["constructor", "toString", "__proto__", "hasOwnProperty", ""]) {
    assertEquals(isErrorCode(name), false, name);
    assertEquals(
      errorFromBody({ code: name, message: "m", details: {}, correlation_id: "" }).code,
      "INTERNAL",
    );
  }
});

Deno.test("ALL_SLOTS_BUSY carries its numbers in error and in details, and they can't replace code or message", () => {
  const details = { slots_total: 4, slots_busy: 4, code: "EVIL", message: "evil" };
  const body = new RbeeError("ALL_SLOTS_BUSY", "busy", { details }).toBody("c");
  assertEquals(
    body,
    {
      slots_total: 4,
      slots_busy: 4,
      code: "ALL_SLOTS_BUSY",
      message: "busy",
      details,
      correlation_id: "c",
    } as typeof body,
  );
});

Deno.test("an error that came from another part keeps its correlation id", () => {
  assertEquals(
    new RbeeError("NOT_FOUND", "x", { correlationId: "theirs" }).toBody("mine").correlation_id,
    "theirs",
  );
  assertEquals(new RbeeError("NOT_FOUND", "x").toBody("mine").correlation_id, "mine");
});

Deno.test("what was not meant to be seen becomes INTERNAL without its text", () => {
  for (const thrown of [new Error("/secret/path"), "secret", { secret: 1 }, null, undefined, 7]) {
    const error = toRbeeError(thrown);
    assertEquals(error.code, "INTERNAL");
    assert(!JSON.stringify(error.toBody("c")).includes("secret"));
    assertEquals(error.cause, thrown);
  }
  const meant = new RbeeError("NOT_FOUND", "x");
  assert(toRbeeError(meant) === meant);
});

Deno.test("an envelope without details or id is still an error, one that is none is refused", () => {
  const lenient = ErrorEnvelopeSchema.parse({ error: { code: "NOT_FOUND", message: "x", extra: 1 } });
  assertEquals(lenient.error.details, {});
  assertEquals(lenient.error.correlation_id, "");
  for (
    const other of [
      {},
      { error: "x" },
      { error: { code: 5, message: "x" } },
      { error: { code: "X" } },
      null,
      [],
    ]
  ) {
    assertEquals(ErrorEnvelopeSchema.safeParse(other).success, false, JSON.stringify(other));
  }
});

Deno.test("a failed check names every bad field at once: missing, unknown, nested, wrong type", () => {
  const schema = z.strictObject({
    name: z.string(),
    count: z.int(),
    inner: z.strictObject({ list: z.array(z.number()) }),
  });
  const error = invalidRequest(
    failOf(schema, { count: "many", inner: { list: [1, "two"], more: 1 }, extra: 1, "a.b": 2 }),
  );
  assertEquals(error.code, "INVALID_REQUEST");
  const errors = error.details.errors as { field: string; constraint: string }[];
  assertEquals(errors.map(({ field, constraint }) => `${field} ${constraint}`).sort(), [
    "a.b unknown",
    "count invalid_type",
    "extra unknown",
    "inner.list.1 invalid_type",
    "inner.more unknown",
    "name required",
  ]);
  for (const { field } of errors) assertStringIncludes(error.message, `${field}: `);
});

Deno.test("a wrong type is never called missing, even when the parse kept its input back", () => {
  const result = z.object({ name: z.string() }).safeParse({ name: 5 });
  assertEquals(fieldErrors(result.error!)[0].constraint, "invalid_type");
});

Deno.test("why a key is bad is told, not just that it is", () => {
  const schema = z.record(z.string().regex(/^[a-z]+$/, "lower-case letters only"), z.number());
  const [error] = fieldErrors(failOf(schema, { UP: 1 }));
  assertEquals(error, { field: "UP", constraint: "invalid_key", message: "lower-case letters only" });
});

Deno.test("a body that is no object is named as the body", () => {
  for (const value of [null, 5, "text", ["a"]]) {
    const error = invalidRequest(failOf(z.strictObject({ a: z.string() }), value));
    assertStringIncludes(error.message, "body: ");
    assertEquals((error.details.errors as unknown[]).length, 1);
  }
});

Deno.test("a flood of bad fields is answered briefly, with the number of those left out", () => {
  const flood = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`key${i}`, i]));
  const error = invalidRequest(failOf(z.strictObject({}), flood));
  assertEquals((error.details.errors as unknown[]).length, MAX_FIELD_ERRORS);
  assertStringIncludes(error.message, `and ${5000 - MAX_FIELD_ERRORS} more`);
});

Deno.test("a long or hostile field name does not fill or steer the caller's terminal", () => {
  const hostile = "\u001b[2J\u009b31m\r\n\u202e" + "x".repeat(100_000);
  const error = invalidRequest(failOf(z.strictObject({}), { [hostile]: 1 }));
  assert(error.message.length < 2 * MAX_FIELD_CHARS + 200, `${error.message.length} characters`);
  assert(!/[\p{Cc}\u202e]/u.test(error.message), "control characters in the message");
  assertEquals((error.details.errors as { field: string }[])[0].field.length, MAX_FIELD_CHARS);
});

Deno.test("no bad InferenceRequest makes the prompt come back", () => {
  const secret = "Zq7-the-prompt-nobody-may-see-7qZ";
  const anything = fc.oneof(
    { weight: 3, arbitrary: fc.jsonValue() },
    fc.constantFrom(secret, [secret], { text: secret }, [{ role: "user", content: secret }]),
    fc.constantFrom([{ role: secret, content: secret }], [{ role: "user", content: { text: secret } }]),
    fc.double(),
  );
  const fields = fc.dictionary(
    fc.oneof(fc.constantFrom(...Object.keys(InferenceRequest.shape)), fc.string({ maxLength: 8 })),
    anything,
    { maxKeys: 8 },
  );
  let refused = 0;
  fc.assert(
    fc.property(fc.oneof({ weight: 9, arbitrary: fields }, anything), (body) => {
      const holds = body !== null && typeof body === "object" && !Array.isArray(body)
        ? { prompt: secret, ...body }
        : body;
      const result = InferenceRequest.safeParse(holds, { reportInput: true });
      if (result.success) return;
      refused++;
      const error = invalidRequest(result.error);
      assert(!error.message.includes(secret), error.message);
      assert(!JSON.stringify(error.details).includes(secret), JSON.stringify(error.details));
      assert((error.details.errors as unknown[]).length > 0);
    }),
    { numRuns: 2000 },
  );
  assert(refused > 500, `only ${refused} of 2000 were refused: the test tests little`);
});
