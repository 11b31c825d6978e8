import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import * as z from "zod";
import { callRoute, callRouteEmpty, type ClientOptions, type RetryPlan } from "./client.ts";
import { RbeeError } from "./errors.ts";
import type { RouteSpec } from "./routes.ts";
import { freePort } from "../tests/helpers/free_port.ts";

const GET: RouteSpec = { method: "GET", path: "/v1/thing/:id" };
const POST: RouteSpec = { method: "POST", path: "/v1/things" };
const Answer = z.object({ ok: z.boolean() });
const KEY = "rbee-secret-key-1";

/** A real server on a free port; disposing cuts whatever is open. */
function serve(handler: (request: Request, turn: number) => Response | Promise<Response>) {
  const cut = new AbortController();
  // Copies: a request can't be looked at once it is answered.
  const requests: { method: string; url: string; headers: Headers }[] = [];
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, signal: cut.signal, onListen: () => {} },
    (request) => {
      const { method, url, headers } = request;
      return handler(request, requests.push({ method, url, headers: new Headers(headers) }));
    },
  );
  return {
    client: { baseUrl: `http://127.0.0.1:${server.addr.port}` } as ClientOptions,
    host: `127.0.0.1:${server.addr.port}`,
    requests,
    async [Symbol.asyncDispose]() {
      cut.abort();
      await server.finished;
    },
  };
}

const never = () => new Promise<Response>(() => {});
const get = (client: ClientOptions, options: Partial<Parameters<typeof callRoute>[1]> = {}) =>
  callRoute(client, { route: GET, schema: Answer, params: { id: "x" }, ...options });
const failure = (call: () => Promise<unknown>) => assertRejects(call, RbeeError);

Deno.test("a call carries method, path, query, body, key and correlation id", async () => {
  await using server = serve(async (request) => Response.json({ ok: true, heard: await request.text() }));
  const route: RouteSpec = { method: "POST", path: "/v1/models/:ref" };
  const answer = await callRoute({ ...server.client, apiKey: KEY, correlationId: "abc-1" }, {
    route,
    schema: z.object({ heard: z.string() }),
    params: { ref: "hf:a/b" },
    query: { q: "a&b=ä", none: undefined },
    body: { x: "ü" },
    headers: { "X-Deadline": "5" },
  });
  const [request] = server.requests;
  assertEquals(request.method, "POST");
  assertEquals(request.url, `${server.client.baseUrl}/v1/models/hf%3Aa%2Fb?q=a%26b%3D%C3%A4`);
  assertEquals(answer.heard, '{"x":"ü"}');
  assertEquals(request.headers.get("Authorization"), `Bearer ${KEY}`);
  assertEquals(request.headers.get("X-Correlation-Id"), "abc-1");
  assertEquals(request.headers.get("Content-Type"), "application/json");
  assertEquals(request.headers.get("X-Deadline"), "5");
});

Deno.test("without a key none is sent; without an id a fresh one is; without a body no content type is", async () => {
  await using server = serve(() => Response.json({ ok: true }));
  await get(server.client);
  await get(server.client);
  const ids = server.requests.map(({ headers }) => headers.get("X-Correlation-Id") ?? "");
  for (const id of ids) assertMatch(id, /^[a-zA-Z0-9-]{1,64}$/);
  assert(ids[0] !== ids[1]);
  assertEquals(server.requests[0].headers.get("Authorization"), null);
  assertEquals(server.requests[0].headers.get("Content-Type"), null);
});

Deno.test("a value that would leave its path segment is refused before anything is sent", async () => {
  await using server = serve(() => Response.json({ ok: true }));
  assertEquals((await failure(() => get(server.client, { params: { id: ".." } }))).code, "INVALID_REQUEST");
  assertEquals(server.requests.length, 0);
});

Deno.test("a key that no header can carry is refused without being quoted", async () => {
  await using server = serve(() => Response.json({ ok: true }));
  const error = await failure(() => get({ ...server.client, apiKey: "sécret\nkey" }));
  assert(!Deno.inspect(error).includes("sécret"));
  assertEquals(server.requests.length, 0);
});

Deno.test("the peer's envelope is thrown as it was sent, with its Retry-After", async () => {
  await using server = serve(() => {
    const error = {
      code: "QUEUE_FULL",
      message: "Full.",
      details: { length: 100 },
      correlation_id: "theirs",
    };
    return Response.json({ error }, { status: 429, headers: { "Retry-After": "17" } });
  });
  const error = await failure(() => get(server.client));
  assertEquals([error.code, error.message, error.details], ["QUEUE_FULL", "Full.", { length: 100 }]);
  assertEquals([error.correlationId, error.retryAfterSeconds], ["theirs", 17]);
});

Deno.test("a Retry-After that is no number of seconds is left aside", async () => {
  for (const value of ["soon", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT", ""]) {
    await using server = serve(() =>
      Response.json({ error: { code: "RATE_LIMITED", message: "m" } }, {
        status: 429,
        headers: { "Retry-After": value },
      })
    );
    assertEquals((await failure(() => get(server.client))).retryAfterSeconds, 1, value);
  }
});

Deno.test("an error that is no envelope names the address and the status, and does not repeat the body", async () => {
  for (const body of ["<html>Bad Gateway</html>", "{}", '{"error":"text"}', "", "null"]) {
    await using server = serve(() => new Response(body, { status: 502 }));
    const error = await failure(() => get(server.client));
    assertEquals([error.code, error.details.status], ["INTERNAL", 502]);
    assertStringIncludes(error.message, server.host);
    assertStringIncludes(error.message, "502");
    assert(!error.message.includes("html"));
  }
});

Deno.test("an answer that is no JSON or does not fit is a malformed one, named by its route", async () => {
  for (const body of ["", "{", "nonsense", '{"ok":"yes"}', "null", "[]"]) {
    await using server = serve(() => new Response(body));
    const error = await failure(() => get(server.client));
    assertEquals(error.code, "INTERNAL", body);
    assertStringIncludes(error.message, "malformed answer to GET /v1/thing/:id");
    assertStringIncludes(error.message, server.host);
  }
});

Deno.test("what a newer peer adds to an answer is no error", async () => {
  await using server = serve(() => Response.json({ ok: true, later: 1 }));
  assertEquals(await get(server.client), { ok: true });
});

Deno.test("a redirect is not followed, the key goes nowhere else, and it is not tried again", async () => {
  await using stranger = serve(() => Response.json({ ok: true }));
  for (const status of [301, 302, 303, 307, 308]) {
    await using server = serve(() =>
      new Response(null, { status, headers: { Location: `${stranger.client.baseUrl}/v1/thing/x` } })
    );
    const retry = { delaysMs: [0, 0, 0] };
    const error = await failure(() => get({ ...server.client, apiKey: KEY }, { retry }));
    assertEquals([error.code, error.details.status], ["INTERNAL", status]);
    assertEquals(server.requests.length, 1);
  }
  assertEquals(stranger.requests.length, 0);
});

Deno.test("no answer in time is CONNECTION_TIMEOUT, for the headers and for the body", async () => {
  const bodyThatHangs = () =>
    new Response(
      new ReadableStream({ start: (controller) => controller.enqueue(new TextEncoder().encode('{"ok":')) }),
    );
  for (const handler of [never, bodyThatHangs]) {
    await using server = serve(handler);
    const error = await failure(() => get(server.client, { timeoutMs: 50 }));
    assertEquals(error.code, "CONNECTION_TIMEOUT");
    assertStringIncludes(error.message, server.host);
  }
});

Deno.test("a refused connection is NODE_UNREACHABLE and names the address", async () => {
  const port = freePort();
  const error = await failure(() => get({ baseUrl: `http://127.0.0.1:${port}` }));
  assertEquals(error.code, "NODE_UNREACHABLE");
  assertStringIncludes(error.message, `Cannot connect to 127.0.0.1:${port}`);
});

Deno.test("connections are tried again after the plan's delays, each failure is told, then it is over", async () => {
  const failures: { attempt: number; attempts: number; at: number }[] = [];
  const started = performance.now();
  const retry: RetryPlan = {
    delaysMs: [0, 40, 80],
    onFailure: ({ attempt, attempts, error }) => {
      assertEquals(error.code, "NODE_UNREACHABLE");
      failures.push({ attempt, attempts, at: performance.now() - started });
    },
  };
  const error = await failure(() => get({ baseUrl: `http://127.0.0.1:${freePort()}` }, { retry }));
  assertEquals(error.code, "NODE_UNREACHABLE");
  assertEquals(failures.map(({ attempt, attempts }) => [attempt, attempts]), [[1, 3], [2, 3], [3, 3]]);
  const [first, second, third] = failures.map(({ at }) => at);
  assert(second - first >= 39 && third - second >= 79, `${first}, ${second}, ${third}`);
});

Deno.test("an attempt without an answer in time is tried again, with the time anew", async () => {
  await using server = serve((_, turn) => turn < 3 ? never() : Response.json({ ok: true }));
  const codes: string[] = [];
  const retry: RetryPlan = { delaysMs: [0, 0, 0], onFailure: ({ error }) => codes.push(error.code) };
  assertEquals(await get(server.client, { timeoutMs: 200, retry }), { ok: true });
  assertEquals(codes, ["CONNECTION_TIMEOUT", "CONNECTION_TIMEOUT"]);
});

Deno.test("an answer is an answer: errors of the peer are never tried again, whatever their code", async () => {
  for (const code of ["NODE_UNREACHABLE", "CONNECTION_TIMEOUT", "INTERNAL", "ALL_SLOTS_BUSY"]) {
    await using server = serve(() => Response.json({ error: { code, message: "m" } }, { status: 503 }));
    const told: unknown[] = [];
    const retry: RetryPlan = { delaysMs: [0, 0, 0], onFailure: (it) => told.push(it) };
    assertEquals((await failure(() => get(server.client, { retry }))).code, code);
    assertEquals([server.requests.length, told.length], [1, 0], code);
  }
  await using malformed = serve(() => new Response("nonsense"));
  await failure(() => get(malformed.client, { retry: { delaysMs: [0, 0] } }));
  assertEquals(malformed.requests.length, 1);
});

Deno.test("a plan without delays is one attempt, not an endless loop", async () => {
  let told = 0;
  const retry: RetryPlan = { delaysMs: [], onFailure: () => told++ };
  await failure(() => get({ baseUrl: `http://127.0.0.1:${freePort()}` }, { retry }));
  assertEquals(told, 1);
});

Deno.test("an abort ends the call at once with the caller's own reason: before, while waiting, between attempts", async () => {
  await using server = serve(never);
  const reason = { why: "the user pressed Ctrl+C" };
  const thrown = (call: Promise<unknown>) =>
    call.then(() => assert(false, "did not reject"), (error) => error);

  assert(await thrown(get(server.client, { signal: AbortSignal.abort(reason) })) === reason);
  assertEquals(server.requests.length, 0);

  const waiting = new AbortController();
  const call = thrown(get(server.client, { signal: waiting.signal, retry: { delaysMs: [0, 0] } }));
  waiting.abort(reason);
  assert(await call === reason);

  const between = new AbortController();
  const retry: RetryPlan = {
    delaysMs: [0, 3_600_000],
    onFailure: () => setTimeout(() => between.abort(reason), 0),
  };
  const dead = { baseUrl: `http://127.0.0.1:${freePort()}` };
  assert(await thrown(get(dead, { signal: between.signal, retry })) === reason);
});

Deno.test("an abort is no failed connection, even when its reason looks like one", async () => {
  await using server = serve(never);
  const reason = new RbeeError("CONNECTION_TIMEOUT", "the caller's own limit");
  let told = 0;
  const caller = new AbortController();
  const retry: RetryPlan = { delaysMs: [0, 0], onFailure: () => told++ };
  const call = get(server.client, { signal: caller.signal, retry }).catch((error) => error);
  caller.abort(reason);
  assert(await call === reason);
  assertEquals(told, 0);
});

Deno.test("an abort within the answer's body is the caller's own reason too", async () => {
  const sent = Promise.withResolvers<void>();
  await using server = serve(() => {
    sent.resolve();
    return new Response(
      new ReadableStream({ start: (controller) => controller.enqueue(new TextEncoder().encode('{"ok":')) }),
    );
  });
  const reason = new Error("mine");
  const caller = new AbortController();
  const call = get(server.client, { signal: caller.signal }).catch((error) => error);
  await sent.promise;
  caller.abort(reason);
  assert(await call === reason);
});

Deno.test("a call whose success has no body takes any, and throws the peer's error", async () => {
  await using server = serve((_, turn) =>
    turn === 1
      ? new Response(null, { status: 204 })
      : turn === 2
      ? Response.json({ accepted: true }, { status: 202 })
      : Response.json({ error: { code: "WORKER_NOT_FOUND", message: "m" } }, { status: 404 })
  );
  await callRouteEmpty(server.client, { route: POST, body: {} });
  await callRouteEmpty(server.client, { route: POST });
  const error = await failure(() => callRouteEmpty(server.client, { route: POST }));
  assertEquals(error.code, "WORKER_NOT_FOUND");
});

/** An answer whose body is begun and then made of what `pull` gives. */
function begun(
  pull: (controller: ReadableStreamDefaultController<Uint8Array>) => void | Promise<void>,
  status = 200,
) {
  const start = (controller: ReadableStreamDefaultController<Uint8Array>) =>
    controller.enqueue(new TextEncoder().encode('{"ok": "'));
  return new Response(new ReadableStream({ start, pull }), { status });
}

Deno.test("a body that stalls in its middle is given up in time, and when the caller has enough", async () => {
  for (const status of [200, 500]) {
    await using server = serve(() => begun(() => new Promise(() => {}), status));
    assertEquals((await failure(() => get(server.client, { timeoutMs: 200 }))).code, "CONNECTION_TIMEOUT");
    const caller = new AbortController();
    const call = get(server.client, { signal: caller.signal });
    setTimeout(() => caller.abort(new Error("enough")), 50);
    await assertRejects(() => call, Error, "enough");
  }
});

Deno.test("a body without an end is not read to the end of memory", async () => {
  const chunk = new Uint8Array(1024 * 1024).fill(0x20);
  await using server = serve(() => begun((controller) => controller.enqueue(chunk)));
  assertStringIncludes((await failure(() => get(server.client))).message, "more than 67108864 bytes");
});
