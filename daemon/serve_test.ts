import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { RbeeError } from "../protocol/errors.ts";
import { eventStream } from "../protocol/sse.ts";
import { keptLog } from "../tests/helpers/log_lines.ts";
import { createApp, eventResponse, type Handler, type Route } from "./serve.ts";

const KEY = "rbee-key-for-tests";

/** An app of these routes, and a caller with the key. */
function appOf(...routes: Route[]) {
  const kept = keptLog();
  const app = createApp({ routes, apiKey: KEY, log: kept.log });
  const call = async (target: string, init: RequestInit = {}) => {
    const [method, path] = target.split(" ");
    const headers = new Headers(init.headers);
    if (!headers.has("Authorization")) headers.set("Authorization", `Bearer ${KEY}`);
    const response = await app(new Request(`http://host${path}`, { ...init, method, headers }));
    const text = await response.text();
    return {
      response,
      status: response.status,
      text,
      json: text.startsWith("{") ? JSON.parse(text) : undefined,
    };
  };
  return { app, call, ...kept };
}

const route = (target: string, handle: Handler): Route => {
  const [method, path] = target.split(" ");
  return { spec: { method: method as "GET", path }, handle };
};
const ok: Handler = () => Response.json({ ok: true });

Deno.test("the caller's correlation id goes to the handler, into its log, and back", async () => {
  const { call, lines } = appOf(route("GET /x", ({ correlationId, log }) => {
    log.info("handled");
    return Response.json({ correlationId });
  }));
  const { response, json } = await call("GET /x", { headers: { "X-Correlation-Id": "abc-1" } });
  assertEquals(json.correlationId, "abc-1");
  assertEquals(response.headers.get("X-Correlation-Id"), "abc-1");
  assertEquals(lines.map(({ correlation_id }) => correlation_id), ["abc-1", "abc-1"]);
});

Deno.test("a bad or missing correlation id is replaced, the same in header, envelope and log", async () => {
  for (const id of [undefined, "a b", "x".repeat(65), "<b>", "a_b"]) {
    const { call, lines } = appOf();
    const { response, json } = await call("GET /none", id ? { headers: { "X-Correlation-Id": id } } : {});
    const given = response.headers.get("X-Correlation-Id")!;
    assertMatch(given, /^[a-zA-Z0-9-]{1,64}$/);
    assert(given !== id);
    assertEquals([json.error.correlation_id, lines[0].correlation_id], [given, given]);
  }
});

Deno.test("an unknown path is NOT_FOUND, near misses of a path too", async () => {
  const { call } = appOf(route("GET /v1/thing", ok));
  for (
    const path of [
      "/",
      "/v1",
      "/v1/thing/",
      "/V1/thing",
      "/v1/thing2",
      "//v1/thing",
      "/v1/%74hing",
      "/v1//thing",
    ]
  ) {
    const { status, json } = await call(`GET ${path}`);
    assertEquals([status, json.error.code], [404, "NOT_FOUND"], path);
  }
  const { json } = await call(`GET /${"x".repeat(5000)}`);
  assert(json.error.message.length < 300, "a long path is not sent back whole");
});

Deno.test("dots in a path are resolved before it is matched", async () => {
  const { call } = appOf(route("GET /v1/thing", ok));
  for (const path of ["/v1/other/../thing", "/v1/./thing", "/../v1/thing", "/v1/x/%2e%2e/thing"]) {
    assertEquals((await call(`GET ${path}`)).status, 200, path);
  }
});

Deno.test("the wrong method is METHOD_NOT_ALLOWED with every method the path takes", async () => {
  const { call } = appOf(
    route("GET /x", ok),
    route("POST /x", ok),
    route("DELETE /:id", ok),
    route("GET /y", ok),
  );
  for (const method of ["PUT", "PATCH", "HEAD", "OPTIONS", "BREW"]) {
    const { response, status } = await call(`${method} /x`);
    assertEquals([status, response.headers.get("Allow")], [405, "GET, POST, DELETE"], method);
  }
  const { json } = await call("POST /y");
  assertEquals([json.error.code, json.error.details.allowed], ["METHOD_NOT_ALLOWED", "DELETE, GET"]);
});

Deno.test("parameters come unescaped and stay within their segment", async () => {
  const { call } = appOf(route("GET /m/:ref/files/:name", ({ params }) => Response.json(params)));
  const { json } = await call("GET /m/hf%3Aa%2Fb%3AQ4/files/%C3%BC%20%F0%9F%90%9D");
  assertEquals(json, { ref: "hf:a/b:Q4", name: "ü 🐝" });
  assertEquals((await call("GET /m/..%2f..%2fetc/files/x")).json.ref, "../../etc");
  assertEquals((await call("GET /m/a/b/files/x")).status, 404);
  assertEquals((await call("GET /m//files/x")).status, 404);
});

Deno.test("an escape that is no UTF-8 is the caller's mistake", async () => {
  const { call } = appOf(route("GET /m/:ref", ok));
  for (const path of ["/m/%ff", "/m/%c3", "/m/%", "/m/%zz", "/m/%ed%a0%80"]) {
    const { status, json } = await call(`GET ${path}`);
    assertEquals([status, json.error.code], [400, "INVALID_REQUEST"], path);
  }
});

Deno.test("routes are tried in their order: a fixed path before a pattern that would take it too", async () => {
  const say = (who: string): Handler => () => new Response(who);
  const { call } = appOf(route("GET /w/list", say("list")), route("GET /w/:id", say("one")));
  assertEquals((await call("GET /w/list")).text, "list");
  assertEquals((await call("GET /w/other")).text, "one");
});

Deno.test("the query is given decoded", async () => {
  const { call } = appOf(
    route("GET /q", ({ query }) => Response.json({ id: query.get("id"), no: query.get("no") })),
  );
  assertEquals((await call("GET /q?id=a%26b+c&x=1")).json, { id: "a&b c", no: null });
});

Deno.test("an RbeeError is answered with its status, envelope and Retry-After", async () => {
  const { call, lines } = appOf(route("GET /x", () => {
    throw new RbeeError("QUEUE_FULL", "Full.", { details: { length: 100 }, retryAfterSeconds: 9 });
  }));
  const { response, status, json } = await call("GET /x", { headers: { "X-Correlation-Id": "c1" } });
  assertEquals([status, response.headers.get("Retry-After")], [429, "9"]);
  assertEquals(response.headers.get("Content-Type"), "application/json");
  assertEquals(json, {
    error: { code: "QUEUE_FULL", message: "Full.", details: { length: 100 }, correlation_id: "c1" },
  });
  assertEquals(lines.map(({ level }) => level), ["debug"], "an error of the caller is no error of the log");
});

Deno.test("codes without a time to come back send no Retry-After, and only 401 challenges", async () => {
  const { call } = appOf(route("GET /x", () => {
    throw new RbeeError("MODEL_NOT_FOUND", "None.");
  }));
  const { response } = await call("GET /x");
  for (const name of ["Retry-After", "WWW-Authenticate", "Allow"]) {
    assertEquals(response.headers.get(name), null, name);
  }
});

Deno.test("ALL_SLOTS_BUSY has its numbers in error and in details, and comes back in a second", async () => {
  const { call } = appOf(route("POST /x", () => {
    throw new RbeeError("ALL_SLOTS_BUSY", "Busy.", { details: { slots_total: 4, slots_busy: 4 } });
  }));
  const { response, status, json } = await call("POST /x");
  assertEquals([status, response.headers.get("Retry-After")], [503, "1"]);
  assertEquals([json.error.slots_total, json.error.slots_busy], [4, 4]);
  assertEquals(json.error.details, { slots_total: 4, slots_busy: 4 });
});

Deno.test("a defect is INTERNAL without its text, and the log has all of it under the same id", async () => {
  for (const thrown of [new Error("secret /etc/path"), "secret", { secret: 1 }, null, undefined]) {
    for (const how of ["thrown", "rejected"]) {
      const { call, lines } = appOf(route("GET /x", () => {
        if (how === "rejected") return Promise.reject(thrown);
        throw thrown;
      }));
      const { status, json, text } = await call("GET /x");
      assertEquals([status, json.error.code], [500, "INTERNAL"]);
      assert(!text.includes("secret"));
      const logged = lines.find(({ level }) => level === "error")!;
      assertEquals(logged.correlation_id, json.error.correlation_id);
      if (thrown) assertStringIncludes(JSON.stringify(logged), "secret");
    }
  }
});

Deno.test("a handler that waited for its caller's sake and was aborted with it is no defect", async () => {
  const gone = new AbortController();
  const waits: Handler = ({ request }) =>
    new Promise((_, reject) => {
      request.signal.addEventListener("abort", () => reject(request.signal.reason));
    });
  const { app, lines } = appOf(route("GET /x", waits));
  const headers = { Authorization: `Bearer ${KEY}` };
  const answer = app(new Request("http://host/x", { headers, signal: gone.signal }));
  gone.abort();
  const response = await answer;
  assertEquals([response.status, (await response.json()).error.code], [499, "REQUEST_CANCELED"]);
  assertEquals(lines.map(({ level }) => level), ["debug"]);
});

Deno.test("a defect stays a defect even when the caller has gone", async () => {
  const gone = new AbortController();
  const { app, lines } = appOf(route("GET /x", () => {
    gone.abort();
    throw new TypeError("x is not a function");
  }));
  const headers = { Authorization: `Bearer ${KEY}` };
  await app(new Request("http://host/x", { headers, signal: gone.signal }));
  assertEquals(lines.map(({ level }) => level), ["error", "debug"]);
});

Deno.test("an answer whose headers can't be changed, as fetch gives them, is passed on with its id", async () => {
  const origin = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response("relayed", { status: 202, headers: { "X-Request-Id": "r1" } }),
  );
  const { call } = appOf(route("GET /x", () => fetch(`http://127.0.0.1:${origin.addr.port}`)));
  const { response, text } = await call("GET /x", { headers: { "X-Correlation-Id": "c1" } });
  assertEquals([response.status, text, response.headers.get("X-Request-Id")], [202, "relayed", "r1"]);
  assertEquals(response.headers.get("X-Correlation-Id"), "c1");
  await origin.shutdown();
});

Deno.test("a stream is answered as one that no proxy should hold up", async () => {
  const { call } = appOf(
    route("GET /x", () => eventResponse(eventStream((w) => w.end()), { "X-Request-Id": "r1" })),
  );
  const { response, text } = await call("GET /x");
  assertEquals(text, "data: [DONE]\n\n");
  assertEquals(response.headers.get("Content-Type"), "text/event-stream; charset=utf-8");
  assertStringIncludes(response.headers.get("Cache-Control")!, "no-cache");
  assertEquals(response.headers.get("X-Accel-Buffering"), "no");
  assertEquals(response.headers.get("X-Request-Id"), "r1");
  assertMatch(response.headers.get("X-Correlation-Id")!, /./);
});

Deno.test("each request is one line of the log, without query, headers or key", async () => {
  const { call, lines, text } = appOf(route("GET /v1/thing", ok));
  await call("GET /v1/thing?token=secret-in-query", { headers: { "X-Other": "secret-header" } });
  await call("GET /v1/thing", { headers: { Authorization: "Bearer secret-wrong-key" } });
  assertEquals(lines.map(({ message, method, path, status }) => [message, method, path, status]), [
    ["request", "GET", "/v1/thing", 200],
    ["request", "GET", "/v1/thing", 401],
  ]);
  for (const { duration_ms } of lines) assertEquals(typeof duration_ms, "number");
  assert(!text().includes("secret") && !text().includes(KEY), text());
});
