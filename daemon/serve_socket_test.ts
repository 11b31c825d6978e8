import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import * as z from "zod";
import { ErrorEnvelopeSchema } from "../protocol/errors.ts";
import { MAX_CONTROL_BODY_BYTES } from "../protocol/limits.ts";
import { eventually } from "../tests/helpers/eventually.ts";
import { keptLog } from "../tests/helpers/log_lines.ts";
import { type RawAnswer, rawExchange } from "../tests/helpers/raw_http.ts";
import { startServer } from "./lifecycle.ts";
import { createApp } from "./serve.ts";

const KEY = "rbee-key-for-tests";
const AUTH = `Authorization: Bearer ${KEY}\r\n`;

/** A real server on a free port. */
function serve() {
  const kept = keptLog();
  const app = createApp({
    apiKey: KEY,
    log: kept.log,
    routes: [
      { spec: { method: "GET", path: "/health", auth: "none" }, handle: () => Response.json({ ok: true }) },
      { spec: { method: "GET", path: "/w/:id" }, handle: ({ params }) => Response.json(params) },
      {
        spec: { method: "POST", path: "/echo" },
        handle: async ({ body, log }) => {
          log.info("reading");
          return Response.json(await body(z.strictObject({ a: z.string().optional() })));
        },
      },
    ],
  });
  const server = startServer(app, {
    listen: { hostname: "127.0.0.1", port: 0 },
    log: kept.log,
    drainTimeoutMs: 1000,
  });
  return {
    ...kept,
    port: server.address.port,
    send: (text: string | Uint8Array) => rawExchange(server.address.port, text),
    [Symbol.asyncDispose]: () => server.close(),
  };
}

/** The envelope's code, after a look at the rest of the envelope. */
function codeOf(answer: RawAnswer | undefined): string {
  assert(answer !== undefined, "closed without an answer");
  const { error } = ErrorEnvelopeSchema.parse(JSON.parse(answer.body));
  assertEquals(answer.headers.get("X-Correlation-Id"), error.correlation_id);
  return `${answer.status} ${error.code}`;
}

Deno.test("odd but readable requests get the envelope", async () => {
  await using server = serve();
  const cases: Record<string, string> = {
    [`OPTIONS * HTTP/1.1\r\nHost: x\r\n${AUTH}`]: "404 NOT_FOUND",
    [`CONNECT host:1 HTTP/1.1\r\nHost: x\r\n${AUTH}`]: "404 NOT_FOUND",
    [`TRACE /health HTTP/1.1\r\nHost: x\r\n${AUTH}`]: "405 METHOD_NOT_ALLOWED",
    [`BREW /health HTTP/1.1\r\nHost: x\r\n${AUTH}`]: "405 METHOD_NOT_ALLOWED",
    [`get /health HTTP/1.1\r\nHost: x\r\n${AUTH}`]: "405 METHOD_NOT_ALLOWED",
    [`GET //health HTTP/1.1\r\nHost: x\r\n${AUTH}`]: "404 NOT_FOUND",
    [`GET /w/%ff HTTP/1.1\r\nHost: x\r\n${AUTH}`]: "400 INVALID_REQUEST",
    [`GET /w/x HTTP/1.1\r\nHost: x\r\n`]: "401 MISSING_API_KEY",
  };
  for (const [head, expected] of Object.entries(cases)) {
    assertEquals(codeOf(await server.send(`${head}\r\n`)), expected, head);
  }
  assertEquals(server.lines.filter(({ level }) => level === "error"), []);
});

Deno.test("a Host header or target that is no address is a 400 with the envelope, never a 500", async () => {
  await using server = serve();
  for (
    const head of [
      "GET /health HTTP/1.1\r\nHost: a b",
      "GET /health HTTP/1.1\r\nHost: [::",
      "GET /health HTTP/1.1\r\nHost: x:99999",
      "GET http://other:99999/health HTTP/1.1\r\nHost: x",
    ]
  ) {
    assertEquals(codeOf(await server.send(`${head}\r\n\r\n`)), "400 INVALID_REQUEST", head);
  }
  assertEquals(server.lines.filter(({ level }) => level === "error"), []);
});

Deno.test("health answers a client of 1996 and one that names no host", async () => {
  await using server = serve();
  for (
    const head of [
      "GET /health HTTP/1.0",
      "GET /health HTTP/1.1",
      "GET http://other/health HTTP/1.1\r\nHost: x",
    ]
  ) {
    assertEquals((await server.send(`${head}\r\n\r\n`))?.status, 200, head);
  }
});

Deno.test("HEAD is answered without a body and does not confuse the next request", async () => {
  await using server = serve();
  const answer = await server.send(
    `HEAD /health HTTP/1.1\r\nHost: x\r\n${AUTH}\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\n${AUTH}\r\n`,
  );
  assertEquals(answer?.status, 405);
  assertEquals(answer?.headers.get("Allow"), "GET");
});

Deno.test("a declared body over the limit is refused with its envelope at once, without waiting for it", async () => {
  await using server = serve();
  const head = `POST /echo HTTP/1.1\r\nHost: x\r\n${AUTH}Content-Length: ${
    MAX_CONTROL_BODY_BYTES + 1
  }\r\n\r\n{`;
  assertEquals(codeOf(await server.send(head)), "413 PAYLOAD_TOO_LARGE");
});

Deno.test("a chunked body over the limit is refused with its envelope", async () => {
  await using server = serve();
  const size = MAX_CONTROL_BODY_BYTES + 1;
  const head = `POST /echo HTTP/1.1\r\nHost: x\r\n${AUTH}Transfer-Encoding: chunked\r\n\r\n`;
  const chunk = `${size.toString(16)}\r\n${" ".repeat(size)}\r\n`;
  assertEquals(codeOf(await server.send(head + chunk)), "413 PAYLOAD_TOO_LARGE");
});

Deno.test("a fetch that sends too much reads the refusal instead of a reset", async () => {
  await using server = serve();
  const response = await fetch(`http://127.0.0.1:${server.port}/echo`, {
    method: "POST",
    headers: { Authorization: `Bearer ${KEY}` },
    body: " ".repeat(3 * MAX_CONTROL_BODY_BYTES),
  });
  assertEquals([response.status, (await response.json()).error.code], [413, "PAYLOAD_TOO_LARGE"]);
});

Deno.test("a caller that dies within its body is no defect of the server", async () => {
  await using server = serve();
  const head = `POST /echo HTTP/1.1\r\nHost: x\r\n${AUTH}`;
  for (const rest of ["Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n5\r\n{"]) {
    server.lines.length = 0;
    const logged = (message: string) => server.lines.find((line) => line.message === message);
    using connection = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
    await connection.write(new TextEncoder().encode(head + rest));
    await eventually("the handler to read", () => logged("reading"));
    await connection.closeWrite();
    const line = await eventually("the request to be over", () => logged("request"));
    assertEquals(line.status, 499);
    assertEquals(server.lines.filter(({ level }) => level === "error"), []);
  }
  assertEquals((await server.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n"))?.status, 200);
});

Deno.test("bytes that are no HTTP at all are refused, and the server lives on", async () => {
  await using server = serve();
  const junk = [
    "garbage\r\n\r\n",
    "\x00\x01\x02\r\n\r\n",
    "GET\r\n\r\n",
    "GET / HTTP/9.9\r\n\r\n",
    "\x16\x03\x01\r\n\r\n",
  ];
  for (const bytes of junk) {
    const status = (await server.send(bytes))?.status;
    assert(status === undefined || (status >= 400 && status < 500), `${JSON.stringify(bytes)}: ${status}`);
  }
  assertEquals((await server.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n"))?.status, 200);
});

Deno.test("no request line, header or body makes the server answer 500 or log a defect", async () => {
  await using server = serve();
  const soup = fc.array(
    fc.constantFrom(
      ...'/%.?#:@ ab\t\x7f\xff\x00[]{}"\\;,',
      "..",
      "%2e",
      "%00",
      "%ff",
      "health",
      "echo",
      "w/",
      "http://",
    ),
    { maxLength: 12 },
  ).map((parts) => parts.join(""));
  const request = fc.record({
    method: fc.constantFrom("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "X", "get"),
    target: fc.oneof(soup, soup.map((text) => `/${text}`), fc.constantFrom("/health", "/echo", "/w/1", "*")),
    host: fc.oneof(soup, fc.constant("x")),
    header: fc.tuple(
      fc.constantFrom("Authorization", "X-Correlation-Id", "Content-Type", "Expect", "Cookie"),
      soup,
    ),
    body: soup,
  });
  const statuses = new Set<number>();
  await fc.assert(
    fc.asyncProperty(request, async ({ method, target, host, header, body }) => {
      const answer = await server.send(
        `${method} ${target} HTTP/1.1\r\nHost: ${host}\r\n${header[0]}: ${header[1]}\r\n` +
          `${
            header[0] === "Authorization" ? "" : AUTH
          }Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
      );
      if (answer === undefined) return;
      statuses.add(answer.status);
      assert(answer.status < 500, `${answer.status}: ${answer.body}`);
      const fromApp = answer.headers.has("X-Correlation-Id");
      if (fromApp && answer.status >= 400 && method !== "HEAD") codeOf(answer);
      if (!fromApp) {
        assertEquals([answer.status, answer.body], [400, ""], "only an unreadable request has no envelope");
      }
    }),
    {
      numRuns: 400,
      // Of four hundred at random it may be that none is a plain one.
      examples: [[{ method: "GET", target: "/health", host: "x", header: ["Cookie", ""], body: "" }]],
    },
  );
  for (const status of [200, 400, 404, 405]) {
    assert(statuses.has(status), `no ${status} among ${[...statuses]}`);
  }
  assertEquals(server.lines.filter(({ level }) => level === "error"), []);
});

Deno.test("what the app throws in spite of all is answered with the envelope of a defect", async () => {
  const { log, lines } = keptLog();
  const server = startServer(() => Promise.reject(new Error("secret")), {
    listen: { hostname: "127.0.0.1", port: 0 },
    log,
  });
  const response = await fetch(`http://127.0.0.1:${server.address.port}/`);
  const { error } = await response.json();
  assertEquals([response.status, error.code], [500, "INTERNAL"]);
  assert(!error.message.includes("secret"));
  assertEquals(lines[0].correlation_id, error.correlation_id);
  assertStringIncludes(JSON.stringify(lines[0]), "secret");
  await server.close();
});
