/** Server-sent events: how every stream of rbee is written and read. */
import { ServerSentEventParseStream } from "@std/http";
import { concatBytes } from "./bytes.ts";
import { cancelOn } from "./cancel_on.ts";
import {
  KEEP_ALIVE_INTERVAL_MS,
  MAX_EVENT_BYTES,
  MAX_UNREAD_BYTES,
  STALLED_KEEP_ALIVES_MAX,
} from "./limits.ts";

/** The line that ends every stream which came to its own end. */
export const DONE = "[DONE]";

const encoder = new TextEncoder();
const LF = 0x0a;
const CR = 0x0d;
const NOTHING = new Uint8Array();
/** Largest packet that is read at once. */
const READ_BUFFER_BYTES = 16 * 1024;

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

/** How streams of others end and are kept alive, where that is not {@linkcode DONE_EVENT} and a comment. */
export const STREAM_TEXTS = {
  /** They end with their last event. */
  lastEvent: { end: "", keepAlive: ":\n\n" },
  anthropic: { end: "", keepAlive: 'event: ping\ndata: {"type":"ping"}\n\n' },
} as const;

/** Options of {@linkcode eventStream}. */
export interface EventStreamOptions {
  /** Called when the reader went away before the end, or was cut off because it does not read. */
  onCancel?: () => void;
  /** How often a comment line is sent, in ms. */
  keepAliveMs?: number;
  /** Overrides {@linkcode MAX_UNREAD_BYTES}. */
  maxUnreadBytes?: number;
  /** What `end` sends, and what keeps the connection alive, where it is not {@linkcode DONE_EVENT} and a comment. */
  texts?: { end: string; keepAlive: string };
}

/** The writing side of a stream made by {@linkcode eventStream}. After `end` or a gone reader, calls do nothing. */
export interface EventWriter {
  /** Sends ready-made event text; several events in one call are one chunk on the wire. */
  write(text: string): void;
  /** Sends one event. */
  send(data: unknown): void;
  /** Sends the last event and closes. */
  end(): void;
  /** Whether the reader is still there and `end` was not called. */
  readonly open: boolean;
}

/** The same for who writes no faster than its reader reads. */
export interface PacedEventWriter extends EventWriter {
  /** Resolves once no more than so many bytes are unread, or nobody reads any more. */
  taken(unreadBytes: number): Promise<void>;
}

/**
 * An event stream that is pushed to. A reader that leaves too much unread, or takes nothing for too long, is cut off as
 * one that went away: what happens on a machine has no end, and memory has one.
 */
export function eventStream(
  start: (writer: PacedEventWriter) => void,
  options: EventStreamOptions = {},
): ReadableStream<Uint8Array> {
  const { keepAliveMs = KEEP_ALIVE_INTERVAL_MS, maxUnreadBytes = MAX_UNREAD_BYTES } = options;
  const texts = options.texts ?? { end: DONE_EVENT, keepAlive: ":\n\n" };
  let timer: ReturnType<typeof setInterval> | undefined;
  let open = true;
  let waiting: { unreadBytes: number; resolve: () => void }[] = [];
  const letGo = (unreadBytes: number) => {
    if (waiting.length === 0) return;
    for (const waiter of waiting) if (unreadBytes <= waiter.unreadBytes) waiter.resolve();
    waiting = waiting.filter((waiter) => unreadBytes > waiter.unreadBytes);
  };
  const stop = () => {
    open = false;
    clearInterval(timer);
    letGo(0);
  };
  return new ReadableStream<Uint8Array>({
    start(controller) {
      const cut = (why: string) => {
        stop();
        controller.error(new Error(why));
        options.onCancel?.();
      };
      const write = (text: string) => {
        if (!open || text === "") return;
        controller.enqueue(encoder.encode(text));
        if (controller.desiredSize! < 0) cut(`The reader left more than ${maxUnreadBytes} bytes unread.`);
      };
      const writer: PacedEventWriter = {
        write,
        send: (data) => write(formatEvent(data)),
        end() {
          if (!open) return;
          write(texts.end);
          // That may have been too much for the reader.
          if (!open) return;
          stop();
          controller.close();
        },
        async taken(unreadBytes) {
          if (!open || maxUnreadBytes - controller.desiredSize! <= unreadBytes) return;
          await new Promise<void>((resolve) => waiting.push({ unreadBytes, resolve }));
        },
        get open() {
          return open;
        },
      };
      let unread = 0;
      let stalled = 0;
      timer = setInterval(() => {
        const before = unread;
        unread = maxUnreadBytes - controller.desiredSize!;
        // A reader that takes nothing leaves ever more: every keep-alive adds to it.
        stalled = before > 0 && unread > before ? stalled + 1 : 0;
        if (stalled === STALLED_KEEP_ALIVES_MAX) {
          return cut(`The reader has taken nothing for ${stalled} intervals of ${keepAliveMs} ms.`);
        }
        write(texts.keepAlive);
      }, keepAliveMs);
      try {
        start(writer);
      } catch (error) {
        stop();
        throw error;
      }
    },
    pull(controller) {
      letGo(maxUnreadBytes - controller.desiredSize!);
    },
    cancel() {
      stop();
      options.onCancel?.();
    },
  }, new ByteLengthQueuingStrategy({ highWaterMark: maxUnreadBytes }));
}

/** Thrown when a stream ends without `[DONE]`: the other side is gone. */
export class StreamCutError extends Error {
  /** `cause` is the network's error; none when the stream simply ended. */
  constructor(options?: ErrorOptions) {
    super("The stream ended before its [DONE].", options);
    this.name = "StreamCutError";
  }
}

/** Options of {@linkcode readEvents}. */
export interface ReadEventsOptions {
  /** Called for every chunk, keep-alive comments included: a sign of life. */
  onActivity?: () => void;
  /** Ends the reading and closes the connection. That of the `fetch` is not enough: see {@linkcode cancelOn}. */
  signal?: AbortSignal;
}

/**
 * Reads events up to `[DONE]`, each parsed as JSON. Breaking out of the loop closes the connection.
 *
 * @throws {StreamCutError} when the stream ends before `[DONE]` or the connection is lost.
 * @throws {SyntaxError} when an event is no JSON.
 * @throws {RangeError} when an event grows beyond {@linkcode MAX_EVENT_BYTES}.
 * The signal's reason when that aborts.
 */
export async function* readEvents(
  body: ReadableStream<Uint8Array>,
  options: ReadEventsOptions = {},
): AsyncGenerator<unknown, void> {
  let failure: unknown;
  const events = wholeEvents(body, { ...options, onFailure: (error) => failure = error })
    .pipeThrough(new ServerSentEventParseStream({ ignoreComments: true }));
  for await (const { data } of events) {
    if (data === undefined) continue;
    if (data === DONE) return;
    yield JSON.parse(data);
  }
  options.signal?.throwIfAborted();
  // A TypeError is how `fetch` reports a connection lost in mid-body.
  if (failure === undefined || failure instanceof TypeError) throw new StreamCutError({ cause: failure });
  throw failure;
}

/**
 * Reads whole events: bytes up to the last blank line, the rest held back. A stream that breaks off inside an event never
 * shows half of it, and no event grows without a bound. One chunk out holds one event at least, which spares a parser
 * from going over a long line again with every packet.
 */
export class EventChunks {
  readonly #reader: ChunkReader;
  readonly #hold = holdBack();
  readonly #canceling: Disposable;
  readonly #onActivity?: () => void;

  /** Takes the body for itself. */
  constructor(body: ReadableStream<Uint8Array>, options: ReadEventsOptions = {}) {
    this.#reader = chunkReader(body);
    this.#canceling = cancelOn(options.signal, this.#reader);
    this.#onActivity = options.onActivity;
  }

  /** The next; undefined at the end of the stream, or once it was canceled. Throws why it broke off. */
  async read(): Promise<Uint8Array | undefined> {
    for (;;) {
      const { done, value } = await this.#reader.read();
      if (done) {
        this.#canceling[Symbol.dispose]();
        return undefined;
      }
      this.#onActivity?.();
      const whole = this.#hold(value!);
      if (whole.length > 0) return whole;
    }
  }

  /** Lets go of the connection. */
  async cancel(reason?: unknown): Promise<void> {
    const canceled = this.#reader.cancel(reason);
    this.#canceling[Symbol.dispose]();
    await canceled;
  }
}

/**
 * The same as a stream. A failure is told aside and only ends it, because an error would throw away the events that are
 * still on their way to the reader.
 */
function wholeEvents(
  body: ReadableStream<Uint8Array>,
  options: ReadEventsOptions & { onFailure: (error: unknown) => void },
): ReadableStream<Uint8Array> {
  const chunks = new EventChunks(body, options);
  return new ReadableStream({
    async pull(controller) {
      try {
        const whole = await chunks.read();
        if (whole === undefined) controller.close();
        else controller.enqueue(whole);
      } catch (error) {
        options.onFailure(error);
        controller.close();
        await chunks.cancel(error).catch(() => {});
      }
    },
    cancel: (reason) => chunks.cancel(reason),
  });
}

/** Bytes of a stream, one chunk at a time. */
interface ChunkReader {
  /** What it gives is its reader's until the next call. */
  read(): Promise<{ done: boolean; value?: Uint8Array }>;
  cancel(reason?: unknown): Promise<void>;
}

/**
 * Reads into one buffer over and over where the stream can do that. A connection otherwise takes a new one of 64 KiB for
 * each of its packets, however small, and two hundred streams as many megabytes.
 */
function chunkReader(body: ReadableStream<Uint8Array>): ChunkReader {
  let reader: ReadableStreamBYOBReader;
  try {
    reader = body.getReader({ mode: "byob" });
  } catch {
    return body.getReader();
  }
  let buffer = new ArrayBuffer(READ_BUFFER_BYTES);
  return {
    async read() {
      const { done, value } = await reader.read(new Uint8Array(buffer));
      // The buffer goes over to the stream and comes back with what it holds.
      if (value !== undefined) buffer = value.buffer as ArrayBuffer;
      return { done, value };
    },
    cancel: (reason) => reader.cancel(reason),
  };
}

/** Takes chunks, gives back what has become whole events with them. */
function holdBack(): (chunk: Uint8Array) => Uint8Array {
  let held: Uint8Array[] = [];
  let heldBytes = 0;
  let lineIsEmpty = true;
  return (chunk) => {
    let end = 0;
    for (let i = 0; i < chunk.length; i++) {
      if (chunk[i] === LF) {
        if (lineIsEmpty) end = i + 1;
        lineIsEmpty = true;
      } else if (chunk[i] !== CR) {
        lineIsEmpty = false;
      }
    }
    let whole: Uint8Array = NOTHING;
    if (end > 0) {
      whole = concatBytes([...held, chunk.slice(0, end)]);
      held = [];
      heldBytes = 0;
    }
    // Whoever gave the chunk will use its memory again.
    if (end < chunk.length) held.push(chunk.slice(end));
    heldBytes += chunk.length - end;
    if (heldBytes > MAX_EVENT_BYTES) {
      throw new RangeError(`An event is larger than ${MAX_EVENT_BYTES} bytes.`);
    }
    return whole;
  };
}
