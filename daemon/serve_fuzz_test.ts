import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import type * as z from "zod";
import { ERROR_STATUS, ErrorEnvelopeSchema, isErrorCode } from "../protocol/errors.ts";
import { DownloadRequest, ReadyCallback } from "../protocol/hive_schemas.ts";
import { HIVE_ROUTES, type RouteSpec, WORKER_ROUTES } from "../protocol/routes.ts";
import { CancelRequest, InferenceRequest, ShutdownRequest } from "../protocol/worker_requests.ts";
import { SpawnRequest } from "../protocol/spawn_request.ts";
import { keptLog } from "../tests/helpers/log_lines.ts";
import { createApp, type Route } from "./serve.ts";

const KEY = "rbee-key-for-tests";
const SECRET = "the-prompt-nobody-may-see";

const BODIES: Record<string, z.ZodType> = {
  "/v1/inference": InferenceRequest,
  "/execute": InferenceRequest,
  "/cancel": CancelRequest,
  "/v1/admin/shutdown": ShutdownRequest,
  "/v1/models/download": DownloadRequest,
  "/v1/workers/spawn": SpawnRequest,
  "/v1/workers/ready": ReadyCallback,
};

/** Every route there is, with the real schema where it takes a body. */
const ROUTES: Route[] = Object.values<RouteSpec>({ ...WORKER_ROUTES, ...HIVE_ROUTES }).map((spec) => ({
  spec,
  handle: async ({ body, params, query }) => {
    const schema = BODIES[spec.path];
    return Response.json({ params, query: [...query], body: schema ? await body(schema) : undefined });
  },
}));

const jsonBody = fc.oneof(
  fc.json(),
  fc.dictionary(fc.constantFrom(...Object.keys(InferenceRequest.shape), "model_ref", "x"), fc.jsonValue())
    .map((fields) => JSON.stringify({ prompt: SECRET, ...fields })),
  fc.constantFrom(
    "",
    "{",
    "[[[[",
    '{"prompt":"x"}',
    '{"model_ref":"builtin:stories"}',
    '{"__proto__":{"a":1}}',
    "null",
  ),
);
const body = fc.oneof<fc.Arbitrary<BodyInit>[]>(
  jsonBody,
  fc.string(),
  fc.uint8Array({ maxLength: 40 }).map((bytes) => new Uint8Array(bytes)),
);
const segment = fc.oneof(
  fc.constantFrom(
    "",
    ".",
    "..",
    "%2e%2e",
    "%00",
    "%ff",
    "%",
    "v1",
    "models",
    "workers",
    "list",
    "download",
    "ready",
  ),
  fc.string({ maxLength: 6 }),
);
const path = fc.oneof(
  fc.constantFrom(...ROUTES.map(({ spec }) => spec.path.replace(/:\w+/, "some-id"))),
  fc.array(segment, { maxLength: 6 }).map((parts) => `/${parts.join("/")}`),
);
const headerValue = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.constantFrom("x".repeat(9000), `Bearer ${KEY}`, "1e999"),
);
const headers = fc.dictionary(
  fc.constantFrom(
    "Authorization",
    "X-Correlation-Id",
    "Content-Length",
    "Content-Type",
    "Accept",
    "X-Deadline",
  ),
  headerValue,
  { maxKeys: 3 },
);

Deno.test("whatever comes in, a success or the envelope goes out, never a 500", async () => {
  const { log, lines, text } = keptLog();
  const app = createApp({ routes: ROUTES, apiKey: KEY, log });
  const statuses = new Map<number, number>();
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom("GET", "POST", "POST", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "BREW"),
      path,
      headers,
      body,
      fc.integer({ min: 0, max: 3 }),
      async (method, path, given, body, keyless) => {
        let request: Request;
        try {
          const headers = new Headers(keyless > 0 ? { Authorization: `Bearer ${KEY}`, ...given } : given);
          const hasBody = method !== "GET" && method !== "HEAD";
          request = new Request(`http://host${path}`, { method, headers, body: hasBody ? body : undefined });
        } catch {
          return; // No request that could be made.
        }
        const response = await app(request);
        statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
        const correlationId = response.headers.get("X-Correlation-Id");
        assert(correlationId !== null && /^[a-zA-Z0-9-]{1,64}$/.test(correlationId), `${correlationId}`);
        const json = await response.json();
        if (response.ok) return;
        const { error } = ErrorEnvelopeSchema.parse(json);
        assert(isErrorCode(error.code), error.code);
        assertEquals(ERROR_STATUS[error.code], response.status);
        assert(response.status < 500, `${response.status} ${error.message}`);
        assertEquals(error.correlation_id, correlationId);
        assert(!JSON.stringify(json).includes(SECRET), "the prompt was sent back");
        if (response.status === 401) assertEquals(response.headers.get("WWW-Authenticate"), "Bearer");
        if (response.status === 405) assert(response.headers.get("Allow"));
      },
    ),
    { numRuns: 3000 },
  );
  for (const status of [200, 400, 401, 404, 405]) {
    assert((statuses.get(status) ?? 0) >= 20, `too few ${status}: ${JSON.stringify([...statuses])}`);
  }
  assertEquals(lines.filter(({ level }) => level !== "debug"), []);
  assert(!text().includes(KEY) && !text().includes(SECRET), "key or prompt in the log");
});
