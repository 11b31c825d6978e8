import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { RbeeError } from "../protocol/errors.ts";
import { eventStream } from "../protocol/sse.ts";
import { keptLog } from "../tests/helpers/log_lines.ts";
import { rawExchange } from "../tests/helpers/raw_http.ts";
import { runShutdown, type ShutdownStep, startServer, untilShutdown } from "./lifecycle.ts";
import { type App, eventResponse } from "./serve.ts";

const listen = { hostname: "127.0.0.1", port: 0 };
const never = () => new Promise<never>(() => {});
const answers = (body: BodyInit): App => () => Promise.resolve(new Response(body));

function start(app: App, drainTimeoutMs?: number) {
  const kept = keptLog();
  const server = startServer(app, { listen, log: kept.log, drainTimeoutMs });
  return { server, port: server.address.port, url: `http://127.0.0.1:${server.address.port}/`, ...kept };
}

Deno.test("a server on port 0 says which port it got, and answers there until it is closed", async () => {
  const { server, url } = start(answers("hello"));
  assert(server.address.port > 0);
  assertEquals(server.address.hostname, "127.0.0.1");
  assertEquals(await (await fetch(url)).text(), "hello");
  await server.close();
  await assertRejects(() => fetch(url), TypeError);
});

Deno.test("a taken address is named, with what to do", async () => {
  const { server, port } = start(answers(""));
  const { log } = keptLog();
  const again = () => startServer(answers(""), { listen: { ...listen, port }, log });
  const error = assertThrows(again, RbeeError, `127.0.0.1:${port} is in use`);
  assertEquals(error.code, "INVALID_REQUEST");
  assertStringIncludes(error.message, "another port");
  await server.close();
  await again().close();
});

Deno.test("an address of another machine, and a name that is none, are named", () => {
  const { log } = keptLog();
  for (const hostname of ["192.0.2.1", "no-such-host.invalid"]) {
    const listening = () => startServer(answers(""), { listen: { hostname, port: 0 }, log });
    assertEquals(
      assertThrows(listening, RbeeError, `Cannot listen on ${hostname}:0`).code,
      "INVALID_REQUEST",
    );
  }
});

Deno.test("an answer that is under way when the server closes is finished, and what comes then is refused", async () => {
  const answer = Promise.withResolvers<Response>();
  const called = Promise.withResolvers<void>();
  const { server, url, port } = start(() => {
    called.resolve();
    return answer.promise;
  }, 10_000);
  const call = fetch(url);
  await called.promise;
  const closed = server.close();
  const refused = await rawExchange(port, "GET / HTTP/1.1\r\nHost: x\r\nX-Correlation-Id: c1\r\n\r\n");
  const { error } = JSON.parse(refused!.body);
  assertEquals([refused?.status, error.code, error.correlation_id], [503, "SHUTTING_DOWN", "c1"]);
  assertEquals([refused?.headers.get("Retry-After"), refused?.headers.get("Connection")], ["5", "close"]);
  answer.resolve(new Response("finished"));
  assertEquals(await (await call).text(), "finished");
  await closed;
});

Deno.test("a large answer that is still being sent is sent whole", async () => {
  const bytes = 32 * 1024 * 1024;
  const { server, url } = start(answers(new Uint8Array(bytes)), 10_000);
  const response = await fetch(url);
  const closed = server.close();
  assertEquals((await response.arrayBuffer()).byteLength, bytes);
  await closed;
});

Deno.test("a caller that does not read its large answer does not hold the server up", async () => {
  const { server, url } = start(answers(new Uint8Array(32 * 1024 * 1024)), 30);
  const response = await fetch(url);
  await server.close();
  await response.body!.cancel();
});

Deno.test("a stream without end is cut when its moment is over, and its source is told", async () => {
  const canceled = Promise.withResolvers<void>();
  const { server, url } = start(() => {
    const stream = eventStream((writer) => writer.send(1), { onCancel: () => canceled.resolve() });
    return Promise.resolve(eventResponse(stream));
  }, 50);
  const reader = (await fetch(url)).body!.getReader();
  await reader.read();
  const started = performance.now();
  await server.close();
  const tookMs = performance.now() - started;
  assert(tookMs >= 45 && tookMs < 2000, `${tookMs} ms`);
  await assertRejects(() => reader.read());
  await canceled.promise;
});

Deno.test("a handler that never answers does not hold the server up", async () => {
  const called = Promise.withResolvers<void>();
  const { server, url } = start(() => {
    called.resolve();
    return never();
  }, 20);
  const call = assertRejects(() => fetch(url), TypeError);
  await called.promise;
  await server.close();
  await call;
});

Deno.test("a caller that went away is not waited for, an idle connection neither", async () => {
  const { server, url, port } = start(answers(eventStream((writer) => writer.send(1))), 60_000);
  const gone = new AbortController();
  await (await fetch(url, { signal: gone.signal })).body!.getReader().read();
  gone.abort();
  using _idle = await Deno.connect({ hostname: "127.0.0.1", port });
  await server.close();
});

Deno.test("an answer that broke in mid-stream is over, and closing goes its way", async () => {
  const broken = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new Uint8Array(10)),
    pull: (controller) => controller.error(new Error("source failed")),
  }, { highWaterMark: 0 });
  const { server, url } = start(answers(broken), 60_000);
  await assertRejects(() => fetch(url).then((response) => response.arrayBuffer()), TypeError);
  await server.close();
});

Deno.test("closing twice is closing once", async () => {
  const { server } = start(answers(""));
  assert(server.close() === server.close());
  await server.close();
});

Deno.test("shutdown steps run one after the other, in order", async () => {
  const { log, lines } = keptLog();
  const order: string[] = [];
  const step = (name: string): ShutdownStep => ({
    name,
    timeoutMs: 10_000,
    run: async () => {
      order.push(`${name} begins`);
      await new Promise((resolve) => setTimeout(resolve, 0));
      order.push(`${name} ends`);
    },
  });
  await runShutdown([step("a"), step("b")], log);
  assertEquals(order, ["a begins", "a ends", "b begins", "b ends"]);
  assertEquals(lines, []);
});

Deno.test("a step that is late is told so and left behind; one that fails, too; the next ones run", async () => {
  const { log, lines } = keptLog();
  let late: AbortSignal | undefined;
  const ran: string[] = [];
  await runShutdown([
    {
      name: "late",
      timeoutMs: 20,
      run: (signal) => {
        late = signal;
        return never();
      },
    },
    { name: "rejects", timeoutMs: 10_000, run: () => Promise.reject(new Error("one")) },
    {
      name: "throws",
      timeoutMs: 10_000,
      run: () => {
        throw new Error("two");
      },
    },
    { name: "last", timeoutMs: 10_000, run: () => void ran.push("last") },
  ], log);
  assertEquals(ran, ["last"]);
  assertEquals(late?.aborted, true);
  assertEquals(lines.map(({ step }) => step), ["late", "rejects", "throws"]);
  assertStringIncludes(JSON.stringify(lines[1]), "one");
});

Deno.test("a late step that fails afterwards does no harm", async () => {
  const { log } = keptLog();
  const failed = Promise.withResolvers<void>();
  await runShutdown([{
    name: "late",
    timeoutMs: 5,
    run: (signal) =>
      new Promise((_, reject) => {
        signal.addEventListener("abort", () =>
          setTimeout(() => {
            reject(new Error("too late"));
            failed.resolve();
          }, 0));
      }),
  }], log);
  await failed.promise;
});

Deno.test("all steps together have a limit too: what is left then is called, but not waited for", async () => {
  const { log, lines } = keptLog();
  const called: string[] = [];
  const hangs = (name: string): ShutdownStep => ({
    name,
    timeoutMs: 60_000,
    run: () => {
      called.push(name);
      return never();
    },
  });
  await runShutdown([hangs("a"), hangs("b"), hangs("c")], log, { timeoutMs: 30 });
  assertEquals(called, ["a", "b", "c"]);
  assertEquals(lines.map(({ step }) => step), ["a", "b", "c"]);
});

Deno.test("a daemon leaves on request with code 0, after its steps", async () => {
  const { log, lines } = keptLog();
  const ran: string[] = [];
  const steps = [{ name: "a", timeoutMs: 1000, run: () => void ran.push("a") }];
  assertEquals(await untilShutdown(steps, { log, leave: Promise.resolve() }), 0);
  assertEquals(ran, ["a"]);
  assertEquals(lines.map(({ message }) => message), ["shutting down", "stopped"]);
});

Deno.test("a daemon that fails leaves with code 1, after its steps all the same", async () => {
  const { log, lines } = keptLog();
  const ran: string[] = [];
  const steps = [{ name: "a", timeoutMs: 1000, run: () => void ran.push("a") }];
  assertEquals(await untilShutdown(steps, { log, leave: Promise.reject(new Error("the disk is gone")) }), 1);
  assertEquals(ran, ["a"]);
  assertStringIncludes(JSON.stringify(lines[0]), "the disk is gone");
});
