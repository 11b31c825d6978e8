import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { MAX_EVENT_BYTES, STALLED_KEEP_ALIVES_MAX } from "./limits.ts";
import { DONE_EVENT, eventStream, type EventWriter, formatEvent, readEvents, StreamCutError } from "./sse.ts";

const encoder = new TextEncoder();

/** `bytes` in pieces of the given sizes, over and over. */
function inPieces(bytes: Uint8Array, sizes: readonly number[]): ReadableStream<Uint8Array> {
  let at = 0;
  let turn = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      const size = sizes[turn++ % sizes.length];
      controller.enqueue(bytes.slice(at, at += size));
    },
  });
}

function streamOf(text: string): ReadableStream<Uint8Array> {
  return inPieces(encoder.encode(text), [text.length || 1]);
}

/** What could be read before `error`. */
async function readAll(body: ReadableStream<Uint8Array>): Promise<{ events: unknown[]; error?: unknown }> {
  const events: unknown[] = [];
  try {
    for await (const event of readEvents(body)) events.push(event);
    return { events };
  } catch (error) {
    return { events, error };
  }
}

async function bytesOf(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A stream and the pen it is written with. */
function openStream(options: { onCancel?: () => void; keepAliveMs?: number; maxUnreadBytes?: number } = {}) {
  let writer: EventWriter | undefined;
  const stream = eventStream((given) => writer = given, options);
  return { stream, writer: writer! };
}

Deno.test("what is sent is read again, in any pieces, whatever the text", async () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 });
  const text = fc.array(
    fc.constantFrom("a", " ", "\n", "\r", ":", "data:", "[DONE]", "é", "日", "🐝", "\u2028", '"'),
  )
    .map((parts) => parts.join(""));
  const event = fc.oneof(fc.record({ token: text, index: fc.nat() }), fc.jsonValue());
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 12 }), sizes, async (events, sizes) => {
      const bytes = await bytesOf(eventStream((writer) => {
        for (const event of events) writer.send(event);
        writer.end();
      }));
      const read = await readAll(inPieces(bytes, sizes));
      assertEquals(read.error, undefined);
      assertEquals(read.events, JSON.parse(JSON.stringify(events)));
    }),
    { numRuns: 200 },
  );
});

Deno.test("an event that is just the text [DONE] does not end the stream", async () => {
  const read = await readAll(streamOf(formatEvent("[DONE]") + formatEvent(1) + DONE_EVENT));
  assertEquals(read, { events: ["[DONE]", 1] });
});

Deno.test("a character split over two packets arrives whole", async () => {
  const bytes = encoder.encode(formatEvent({ token: "🐝" }) + DONE_EVENT);
  const inside = bytes.indexOf(0xf0) + 2;
  assertEquals(await readAll(inPieces(bytes, [inside, 1000])), { events: [{ token: "🐝" }] });
});

Deno.test("comments, unknown fields, named events and CRLF are read over; nothing after [DONE] is read", async () => {
  const text = ":\n\n: keep\r\n\r\nid: 1\nretry: 5\n\nevent: token\r\ndata: 1\r\n\r\n:\ndata:2\n:x\n\n";
  assertEquals(await readAll(streamOf(text + DONE_EVENT + "data: nonsense\n\n")), { events: [1, 2] });
});

Deno.test("an event with CRLF ends is read when it is whole, not at the end of the stream", async () => {
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(encoder.encode("data: 1\r\n\r\n")),
  });
  for await (const event of readEvents(body)) {
    assertEquals(event, 1);
    break;
  }
});

Deno.test("a stream cut anywhere gives the whole events before it and then StreamCutError, never half an event", async () => {
  const events = [{ token: "Ünce", index: 0 }, { token: "🐝", index: 1 }];
  const bytes = encoder.encode(events.map(formatEvent).join(":\n\n") + DONE_EVENT);
  for (let length = 0; length < bytes.length; length++) {
    const read = await readAll(inPieces(bytes.slice(0, length), [7]));
    assert(read.error instanceof StreamCutError, `after ${length} bytes: ${read.error}`);
    assertEquals(read.events, events.slice(0, read.events.length), `after ${length} bytes`);
  }
});

Deno.test("a lost connection is a cut stream too, with the reason kept", async () => {
  const lost = new TypeError("error reading a body from connection");
  let turn = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (turn++ === 0) controller.enqueue(encoder.encode(formatEvent(1)));
      else controller.error(lost);
    },
  });
  const read = await readAll(body);
  assertEquals(read.events, [1]);
  assert(read.error instanceof StreamCutError);
  assertEquals(read.error.cause, lost);
});

Deno.test("the reason of an abort is not disguised as a cut stream", async () => {
  const reason = new DOMException("stop", "AbortError");
  const body = new ReadableStream<Uint8Array>({ pull: (controller) => controller.error(reason) });
  assertEquals((await readAll(body)).error, reason);
});

Deno.test("an event that is no JSON is the sender's fault and is told apart from a cut", async () => {
  const read = await readAll(streamOf(formatEvent(1) + 'data: {"half\n\n' + DONE_EVENT));
  assertEquals(read.events, [1]);
  assert(read.error instanceof SyntaxError);
});

Deno.test("an event without an end is refused at its limit, in one line or in many", async () => {
  for (
    const line of [
      "data: " + "x".repeat(65_530),
      "data: " + "x".repeat(58) + "\n",
      ":" + "x".repeat(62) + "\n",
    ]
  ) {
    const packet = encoder.encode(line.repeat(Math.ceil(65_536 / line.length)));
    let sent = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent += packet.length;
        controller.enqueue(packet);
      },
    });
    await assertRejects(() => Array.fromAsync(readEvents(endless)), RangeError, `${MAX_EVENT_BYTES}`);
    assert(sent < 2 * MAX_EVENT_BYTES, `${sent} bytes were taken`);
  }
});

Deno.test("a large event in small packets is read in time that grows with its size, not with its square", async () => {
  const event = "x".repeat(8 * 1024 * 1024);
  const started = performance.now();
  const read = await readAll(inPieces(encoder.encode(formatEvent(event) + DONE_EVENT), [4096]));
  assertEquals((read.events[0] as string).length, event.length);
  assert(performance.now() - started < 5000, `${performance.now() - started} ms`);
});

Deno.test("every packet is a sign of life, a comment too", async () => {
  let signs = 0;
  const bytes = encoder.encode(":\n\n".repeat(5) + DONE_EVENT);
  for await (const _ of readEvents(inPieces(bytes, [3]), { onActivity: () => signs++ })) assert(false);
  assert(signs >= 5, `${signs} signs`);
});

Deno.test("leaving the loop cancels the body", async () => {
  const canceled = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(encoder.encode(formatEvent(1))),
    cancel: () => canceled.resolve(),
  });
  for await (const _ of readEvents(body)) break;
  await canceled.promise;
});

Deno.test("[DONE] ends the reading even when the sender keeps the connection open, and closes it", async () => {
  const canceled = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(encoder.encode(DONE_EVENT)),
    cancel: () => canceled.resolve(),
  });
  assertEquals(await readAll(body), { events: [] });
  await canceled.promise;
});

Deno.test("several events written at once are one chunk on the wire", async () => {
  const { stream, writer } = openStream();
  writer.write(formatEvent(1) + formatEvent(2));
  writer.end();
  const chunks = await Array.fromAsync(stream);
  assertEquals(chunks.map((chunk) => new TextDecoder().decode(chunk)), [
    "data: 1\n\ndata: 2\n\n",
    DONE_EVENT,
  ]);
});

Deno.test("after its end, a writer is closed and does nothing", async () => {
  const { stream, writer } = openStream();
  assertEquals(writer.open, true);
  writer.send(1);
  writer.end();
  assertEquals(writer.open, false);
  writer.send(2);
  writer.end();
  assertEquals(await readAll(stream), { events: [1] });
});

Deno.test("a reader that goes away is told to the source once, and writing on does nothing", async () => {
  let canceled = 0;
  const { stream, writer } = openStream({ onCancel: () => canceled++ });
  writer.send(1);
  const reader = stream.getReader();
  await reader.read();
  await reader.cancel();
  assertEquals(canceled, 1);
  assertEquals(writer.open, false);
  writer.send(2);
  writer.end();
  assertEquals(canceled, 1);
});

Deno.test("a reader that leaves too much unread is cut off, once, and one that reads is not", async () => {
  let canceled = 0;
  const { stream, writer } = openStream({ onCancel: () => canceled++, maxUnreadBytes: 50 });
  const reader = stream.getReader();
  for (let n = 0; n < 20; n++) {
    writer.send("ten bytes");
    await reader.read();
  }
  assertEquals([writer.open, canceled], [true, 0]);
  for (let n = 0; n < 20; n++) writer.send("ten bytes");
  writer.end();
  assertEquals([writer.open, canceled], [false, 1]);
  await assertRejects(
    async () => {
      while (!(await reader.read()).done);
    },
    Error,
    "more than 50 bytes unread",
  );
});

Deno.test("a reader that takes nothing is cut off though little is unread, and one that reads now and then is not", async () => {
  const cut = Promise.withResolvers<void>();
  const { stream, writer } = openStream({ keepAliveMs: 1, onCancel: cut.resolve });
  const reader = stream.getReader();
  let chunks = 0;
  while (chunks < 4 * STALLED_KEEP_ALIVES_MAX) {
    await reader.read();
    chunks++;
  }
  assert(writer.open);
  await cut.promise;
  assertEquals(writer.open, false);
  await assertRejects(() => reader.read(), Error, "has taken nothing");
});

Deno.test("a stream read to its end tells of no cancel", async () => {
  let canceled = 0;
  const { stream, writer } = openStream({ onCancel: () => canceled++ });
  writer.end();
  await bytesOf(stream);
  assertEquals(canceled, 0);
});

Deno.test("comments come at the interval, on a quiet stream and on a busy one", async () => {
  for (const everyMs of [undefined, 1]) {
    const { stream, writer } = openStream({ keepAliveMs: 20 });
    const busy = everyMs && setInterval(() => writer.send("event"), everyMs);
    let comments = 0;
    let chunks = 0;
    for await (const chunk of stream) {
      if (new TextDecoder().decode(chunk) === ":\n\n") comments++;
      if (comments === 3) break;
      assert(++chunks < 1000, "events came, but no comments");
    }
    clearInterval(busy);
  }
});

Deno.test({
  name: "no timer is left behind: after the end, after a cancel, after a source that failed at its start",
  sanitizeOps: true,
  async fn() {
    const fail = () => {
      throw new Error("no such source");
    };
    assertThrows(() => eventStream(fail), Error, "no such source");
    openStream().writer.end();
    await openStream().stream.cancel();
  },
});

Deno.test("StreamCutError says what happened", () => {
  assertStringIncludes(new StreamCutError().message, "[DONE]");
});

Deno.test("what arrived before the connection was lost is read to its end, however slowly", async () => {
  const lost = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(encoder.encode([1, 2, 3, 4].map(formatEvent).join(""))),
    async pull(controller) {
      await lost.promise;
      controller.error(new TypeError("lost"));
    },
  });
  const events: unknown[] = [];
  await assertRejects(async () => {
    for await (const event of readEvents(body)) {
      events.push(event);
      lost.resolve();
      // The loss is noticed while the reader is busy with the first event.
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }, StreamCutError);
  assertEquals(events, [1, 2, 3, 4]);
});

Deno.test("an abort ends the reading and lets go of the body, also where the body has never heard of the signal", async () => {
  const left = Promise.withResolvers<unknown>();
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode(formatEvent({ n: 1 }))),
    cancel: left.resolve,
  });
  const leave = new AbortController();
  const reason = new Error("enough");
  const events = readEvents(body, { signal: leave.signal });
  assertEquals((await events.next()).value, { n: 1 });
  const next = assertRejects(() => events.next(), Error, "enough");
  leave.abort(reason);
  await next;
  assertEquals(await left.promise, reason);
});

Deno.test("a signal that has aborted before the reading began ends it at once", async () => {
  const body = new ReadableStream<Uint8Array>();
  const events = readEvents(body, { signal: AbortSignal.abort(new Error("too late")) });
  await assertRejects(() => events.next(), Error, "too late");
});
