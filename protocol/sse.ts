/** Server-sent events: how every stream of rbee is written and read. */
import { ServerSentEventParseStream } from "@std/http";
import { KEEP_ALIVE_INTERVAL_MS, MAX_EVENT_BYTES } from "./limits.ts";

/** The line that ends every stream which came to its own end. */
export const DONE = "[DONE]";

const encoder = new TextEncoder();

/** Headers of an event stream. Proxies are told not to buffer. */
export const SSE_HEADERS: Readonly<Record<string, string>> = {
  "Content-Type": "text/event-stream; charset=utf-8",
  "Cache-Control": "no-cache, no-transform",
  "X-Accel-Buffering": "no",
};

/** One event as text. JSON has no raw newline, so one `data:` line is enough. */
export function formatEvent(data: unknown): string {
  return `data: ${JSON.stringify(data)}\n\n`;
}

/** The last event as text. */
export const DONE_EVENT = `data: ${DONE}\n\n`;

/** Options of {@linkcode eventStream}. */
export interface EventStreamOptions {
  /** Called when the reader went away before the end. */
  onCancel?: () => void;
  /** Pause after which a comment line is sent, in ms. */
  keepAliveMs?: number;
}

/** The writing side of a stream made by {@linkcode eventStream}. After `end` or a gone reader, calls do nothing. */
export interface EventWriter {
  /** Sends ready-made event text; several events in one call are one chunk on the wire. */
  write(text: string): void;
  /** Sends one event. */
  send(data: unknown): void;
  /** Sends `[DONE]` and closes. */
  end(): void;
  /** Whether the reader is still there and `end` was not called. */
  readonly open: boolean;
}

/**
 * An event stream that is pushed to. The queue has no bound of its own: every source in rbee is bounded (tokens by
 * `max_tokens`, progress by its rate), and a reader that stops reading loses its connection to the socket's limits.
 */
export function eventStream(
  start: (writer: EventWriter) => void,
  options: EventStreamOptions = {},
): ReadableStream<Uint8Array> {
  const keepAliveMs = options.keepAliveMs ?? KEEP_ALIVE_INTERVAL_MS;
  let timer: ReturnType<typeof setInterval> | undefined;
  let open = true;
  let quiet = true;
  const stop = () => {
    open = false;
    clearInterval(timer);
  };
  return new ReadableStream<Uint8Array>({
    start(controller) {
      const write = (text: string) => {
        if (!open) return;
        quiet = false;
        controller.enqueue(encoder.encode(text));
      };
      timer = setInterval(() => {
        if (quiet) write(":\n\n");
        quiet = true;
      }, keepAliveMs);
      start({
        write,
        send: (data) => write(formatEvent(data)),
        end() {
          if (!open) return;
          write(DONE_EVENT);
          stop();
          controller.close();
        },
        get open() {
          return open;
        },
      });
    },
    cancel() {
      stop();
      options.onCancel?.();
    },
  });
}

/** Thrown when a stream ends without `[DONE]`: the other side is gone. */
export class StreamCutError extends Error {
  /** No arguments: there is nothing more to tell. */
  constructor() {
    super("The stream ended before its [DONE].");
    this.name = "StreamCutError";
  }
}

/** Options of {@linkcode readEvents}. */
export interface ReadEventsOptions {
  /** Called for every chunk, keep-alive comments included: a sign of life. */
  onActivity?: () => void;
}

/**
 * Reads events up to `[DONE]`, each parsed as JSON. Breaking out of the loop closes the connection.
 *
 * @throws {StreamCutError} when the stream ends before `[DONE]`.
 * @throws {SyntaxError} when an event is no JSON.
 * @throws {RangeError} when a line grows beyond {@linkcode MAX_EVENT_BYTES}.
 */
export async function* readEvents(
  body: ReadableStream<Uint8Array>,
  options: ReadEventsOptions = {},
): AsyncGenerator<unknown, void> {
  let lineBytes = 0;
  const seen = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      options.onActivity?.();
      const lineEnd = chunk.lastIndexOf(0x0a);
      lineBytes = lineEnd < 0 ? lineBytes + chunk.length : chunk.length - 1 - lineEnd;
      if (lineBytes > MAX_EVENT_BYTES) {
        throw new RangeError(`An event is larger than ${MAX_EVENT_BYTES} bytes.`);
      }
      controller.enqueue(chunk);
    },
  });
  for await (const event of body.pipeThrough(seen).pipeThrough(new ServerSentEventParseStream())) {
    if (event.data === undefined) continue;
    if (event.data === DONE) return;
    yield JSON.parse(event.data);
  }
  throw new StreamCutError();
}
