import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import * as z from "zod";
import { openStream } from "./client.ts";
import { RbeeError } from "./errors.ts";
import type { RouteSpec } from "./routes.ts";
import { eventStream, formatEvent, SSE_HEADERS, StreamCutError } from "./sse.ts";

const ROUTE: RouteSpec = { method: "GET", path: "/events" };
const Event = z.object({ n: z.int() });

/** A real server on a free port; disposing cuts whatever is open. */
function serve(handler: (request: Request) => Response | Promise<Response>) {
  const cut = new AbortController();
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, signal: cut.signal, onListen: () => {} },
    handler,
  );
  return {
    client: { baseUrl: `http://127.0.0.1:${server.addr.port}` },
    async [Symbol.asyncDispose]() {
      cut.abort();
      await server.finished;
    },
  };
}

/** A server that answers one request with these bytes and then closes the connection. */
function serveRaw(text: string) {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const served = (async () => {
    using connection = await listener.accept();
    await connection.read(new Uint8Array(4096));
    await connection.write(new TextEncoder().encode(text));
    await connection.closeWrite();
    while (await connection.read(new Uint8Array(4096)).catch(() => null) !== null);
  })();
  return {
    client: { baseUrl: `http://127.0.0.1:${listener.addr.port}` },
    async [Symbol.asyncDispose]() {
      listener.close();
      await served;
    },
  };
}

/** One chunk of an answer whose end never comes. */
function chunkedAnswer(...events: string[]): string {
  const chunks = events.map((text) => `${new TextEncoder().encode(text).length.toString(16)}\r\n${text}\r\n`);
  return `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${chunks.join("")}`;
}

Deno.test("events come typed, with the answer's headers beside them", async () => {
  await using server = serve(() => {
    const stream = eventStream((writer) => {
      writer.send({ n: 1 });
      writer.send({ n: 2, later: true });
      writer.end();
    });
    return new Response(stream, { headers: { ...SSE_HEADERS, "X-Request-Id": "r1" } });
  });
  const { headers, events } = await openStream(server.client, { route: ROUTE, schema: Event });
  assertEquals(headers.get("X-Request-Id"), "r1");
  assertEquals(await Array.fromAsync(events), [{ n: 1 }, { n: 2 }]);
});

Deno.test("an error instead of a stream is the peer's error", async () => {
  await using server = serve(() =>
    Response.json({ error: { code: "ALL_SLOTS_BUSY", message: "m", details: { slots_total: 4 } } }, {
      status: 503,
    })
  );
  const error = await assertRejects(
    () => openStream(server.client, { route: ROUTE, schema: Event }),
    RbeeError,
  );
  assertEquals([error.code, error.details], ["ALL_SLOTS_BUSY", { slots_total: 4 }]);
});

Deno.test("an event that does not fit is a malformed answer, after those before it", async () => {
  await using server = serve(() => new Response(formatEvent({ n: 1 }) + formatEvent({ n: "two" })));
  const { events } = await openStream(server.client, { route: ROUTE, schema: Event });
  assertEquals((await events.next()).value, { n: 1 });
  const error = await assertRejects(() => events.next(), RbeeError);
  assertEquals(error.code, "INTERNAL");
  assertStringIncludes(error.message, "GET /events");
});

Deno.test("a connection lost in mid-stream is StreamCutError, after every event that came", async () => {
  const payloads = [
    chunkedAnswer(formatEvent({ n: 1 }), formatEvent({ n: 2 })),
    chunkedAnswer(formatEvent({ n: 1 }), formatEvent({ n: 2 }), 'data: {"n":3'),
    `HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n${formatEvent({ n: 1 })}${formatEvent({ n: 2 })}data: {"n`,
  ];
  for (const payload of payloads) {
    await using server = serveRaw(payload);
    const { events } = await openStream(server.client, { route: ROUTE, schema: Event });
    const seen: unknown[] = [];
    await assertRejects(async () => {
      for await (const event of events) seen.push(event);
    }, StreamCutError);
    assertEquals(seen, [{ n: 1 }, { n: 2 }]);
  }
});

Deno.test("leaving the loop closes the connection: the server notices", async () => {
  const gone = Promise.withResolvers<void>();
  await using server = serve(() =>
    new Response(eventStream((writer) => writer.send({ n: 1 }), { onCancel: () => gone.resolve() }))
  );
  const { events } = await openStream(server.client, { route: ROUTE, schema: Event });
  for await (const _ of events) break;
  await gone.promise;
});

Deno.test("the caller's abort ends an open stream with its own reason and closes the connection", async () => {
  const gone = Promise.withResolvers<void>();
  await using server = serve(() =>
    new Response(eventStream((writer) => writer.send({ n: 1 }), { onCancel: () => gone.resolve() }))
  );
  const caller = new AbortController();
  const { events } = await openStream(server.client, { route: ROUTE, schema: Event, signal: caller.signal });
  await events.next();
  const next = events.next().catch((error) => error);
  const reason = { why: "no longer wanted" };
  caller.abort(reason);
  assert(await next === reason);
  await gone.promise;
});

Deno.test("the time limit is for the headers: what comes after may take longer", async () => {
  const late = Promise.withResolvers<void>();
  await using server = serve(() =>
    new Response(eventStream((writer) => {
      writer.send({ n: 1 });
      void late.promise.then(() => {
        writer.send({ n: 2 });
        writer.end();
      });
    }))
  );
  const limit = AbortSignal.timeout(2000);
  const { events } = await openStream(server.client, {
    route: ROUTE,
    schema: Event,
    timeoutMs: 100,
    signal: limit,
  });
  await events.next();
  setTimeout(() => late.resolve(), 200);
  assertEquals((await events.next()).value, { n: 2 });
  assertEquals((await events.next()).done, true);
});

Deno.test("no headers in time is CONNECTION_TIMEOUT; a caller's abort before them is the caller's reason", async () => {
  await using server = serve(() => new Promise<Response>(() => {}));
  const call = { route: ROUTE, schema: Event };
  const error = await assertRejects(() => openStream(server.client, { ...call, timeoutMs: 50 }), RbeeError);
  assertEquals(error.code, "CONNECTION_TIMEOUT");
  assertStringIncludes(error.message, new URL(server.client.baseUrl).host);
  for (
    const reason of [new Error("mine"), new RbeeError("CONNECTION_TIMEOUT", "mine"), new TypeError("mine")]
  ) {
    const signal = AbortSignal.abort(reason);
    assert(await openStream(server.client, { ...call, signal }).catch((error) => error) === reason);
  }
});

Deno.test("keep-alive comments are signs of life but no events", async () => {
  const end = Promise.withResolvers<void>();
  await using server = serve(() =>
    new Response(eventStream((writer) => void end.promise.then(() => writer.end()), { keepAliveMs: 5 }))
  );
  let signs = 0;
  const onActivity = () => {
    if (++signs === 3) end.resolve();
  };
  const { events } = await openStream(server.client, { route: ROUTE, schema: Event, onActivity });
  assertEquals(await Array.fromAsync(events), []);
  assert(signs >= 3);
});
