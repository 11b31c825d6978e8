import { assert, assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { eventually } from "../tests/helpers/eventually.ts";
import { keptLog } from "../tests/helpers/log_lines.ts";
import {
  type ConnectionFacts,
  type ConnectionLimits,
  Connections,
  connectionsMaxFor,
  connectionToDrop,
  isOverdue,
} from "./connections.ts";

const LIMITS: ConnectionLimits = { headerTimeoutMs: 10, idleTimeoutMs: 100 };
const NEVER: ConnectionLimits = {
  headerTimeoutMs: Infinity,
  idleTimeoutMs: Infinity,
};
const REQUEST = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

const facts = (over: Partial<ConnectionFacts>): ConnectionFacts => ({
  answering: 0,
  requests: 0,
  changedMs: 0,
  ...over,
});

function serve(
  how: { answer?: () => Promise<Response>; connectionsMax?: number; limits?: ConnectionLimits },
) {
  const { answer = () => Promise.resolve(new Response("hello")), connectionsMax, limits = NEVER } = how;
  const { log, lines } = keptLog();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const connections = new Connections(listener, {
    answer,
    onError: () => new Response(null, { status: 500 }),
    log,
    connectionsMax,
    limits,
  });
  const { port } = listener.addr as Deno.NetAddr;
  return {
    connect: async (text: string) => {
      const connection = await Deno.connect({ hostname: "127.0.0.1", port });
      await connection.write(new TextEncoder().encode(text));
      return connection;
    },
    lines,
    [Symbol.asyncDispose]: () => connections.close(1000),
  };
}

/** What the server sends next; empty when it has closed the connection. */
async function heard(connection: Deno.Conn): Promise<string> {
  const buffer = new Uint8Array(4096);
  const count = await connection.read(buffer).catch(() => null);
  return new TextDecoder().decode(buffer.subarray(0, count ?? 0));
}

Deno.test("a connection is overdue by what it is at: a first request or the next one", () => {
  assert(!isOverdue(facts({}), LIMITS, 10) && isOverdue(facts({}), LIMITS, 11));
  assert(!isOverdue(facts({ requests: 1 }), LIMITS, 100) && isOverdue(facts({ requests: 1 }), LIMITS, 101));
  assert(
    !isOverdue(facts({ requests: 1, answering: 1 }), LIMITS, 1e9),
    "an answer takes the time that it takes",
  );
});

Deno.test("room is made by whoever never asked, then by whoever is idle for longest, never by one at work", () => {
  const connection = fc.record({
    answering: fc.nat(1),
    requests: fc.nat(2),
    changedMs: fc.nat(50),
  });
  fc.assert(fc.property(fc.array(connection, { maxLength: 20 }), (all) => {
    const dropped = connectionToDrop(all);
    const quiet = all.filter(({ answering }) => answering === 0);
    if (dropped === undefined) return quiet.length === 0;
    const silent = quiet.filter(({ requests }) => requests === 0);
    const candidates = silent.length > 0 ? silent : quiet;
    return candidates.includes(dropped) && candidates.every((other) => other.changedMs >= dropped.changedMs);
  }));
});

Deno.test("connections take less than half of the descriptors, whatever the limit is and whenever it is looked for", () => {
  assertEquals([connectionsMaxFor(200), connectionsMaxFor(1024)], [68, 480]);
  assertEquals([connectionsMaxFor(16), connectionsMaxFor(1e6)], [8, 8192]);
  fc.assert(fc.property(fc.nat(20_000), fc.nat(8_000), (free, open) => {
    const max = connectionsMaxFor(free, open);
    // Those that are open may each want one more, those that come two.
    return max <= Math.max(8, open) || open + 2 * (max - open) + 64 <= free;
  }));
});

Deno.test("a connection that sends nothing, or half a header, is closed; one that was answered stays", async () => {
  await using server = serve({ limits: { ...NEVER, headerTimeoutMs: 0 } });
  // The limit of 0 ms counts from each look at the connections; what is answered before the first one is idle then.
  using asked = await server.connect(REQUEST);
  const first = heard(asked);
  for (const text of ["", "GET / HTTP/1.1\r\nHos"]) {
    using connection = await server.connect(text);
    assertEquals(await heard(connection), "", JSON.stringify(text));
  }
  assert((await first).startsWith("HTTP/1.1 200"));
});

Deno.test("a connection that is idle between two requests is closed", async () => {
  await using server = serve({ limits: { ...NEVER, idleTimeoutMs: 0 } });
  using connection = await server.connect(REQUEST);
  assert((await heard(connection)).startsWith("HTTP/1.1 200"));
  assertEquals(await heard(connection), "");
});

Deno.test("a large answer that is not taken within the idle limit is cut", async () => {
  const bytes = 64 * 1024 * 1024;
  const answer = () => Promise.resolve(new Response(new Uint8Array(bytes)));
  await using server = serve({ answer, limits: { ...NEVER, idleTimeoutMs: 0 } });
  using connection = await server.connect(REQUEST);
  const buffer = new Uint8Array(64 * 1024);
  let total = 0;
  await eventually("the end of what came", async () => {
    const count = await connection.read(buffer).catch(() => null);
    total += count ?? 0;
    return count === null;
  });
  assert(total > 0 && total < bytes, `${total} bytes`);
});

Deno.test("at the limit a new connection is served in place of a silent one, and the log says so once", async () => {
  await using server = serve({ connectionsMax: 3 });
  const silent = [];
  for (let i = 0; i < 5; i++) silent.push(await server.connect("GET /"));
  using asking = await server.connect(REQUEST);
  assert((await heard(asking)).startsWith("HTTP/1.1 200"));
  assertEquals(await heard(silent[0]), "", "the oldest is gone");
  assertEquals(server.lines.filter(({ message }) => message === "connections are at their limit").length, 1);
  for (const connection of silent) connection.close();
});

Deno.test("at the limit a connection at work is not dropped", async () => {
  const answers = Promise.withResolvers<Response>();
  await using server = serve({ answer: () => answers.promise, connectionsMax: 1 });
  using working = await server.connect(REQUEST);
  const answer = heard(working);
  await eventually("the refusal", async () => {
    using refused = await server.connect(REQUEST);
    return await heard(refused) === "";
  });
  answers.resolve(new Response("done"));
  assert((await answer).startsWith("HTTP/1.1 200"));
});

Deno.test("who asks once is answered before connections that sent thousands of requests at once", async () => {
  let answered = 0;
  const answer = () => {
    answered++;
    return Promise.resolve(new Response("hello"));
  };
  await using server = serve({ answer });
  const floods = [];
  for (let i = 0; i < 20; i++) floods.push(await server.connect(REQUEST.repeat(5_000)));
  const reading = floods.map((flood) => readAll(flood));
  using asking = await server.connect("");
  await eventually("the flood", () => answered > 100);
  const before = answered;
  await asking.write(new TextEncoder().encode(REQUEST));
  assert((await heard(asking)).startsWith("HTTP/1.1 200"));
  assert(answered - before < 2_000, `${answered - before} came first`);
  for (const flood of floods) flood.close();
  await Promise.all(reading);
});

async function readAll(connection: Deno.TcpConn): Promise<void> {
  const buffer = new Uint8Array(65_536);
  while (await connection.read(buffer).catch(() => null) !== null);
}
