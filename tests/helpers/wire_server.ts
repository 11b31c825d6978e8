// A small HTTP/1.1 server on bare TCP, for answers that a proper server refuses to give.

import { type AddressInfo, createServer, type Server, type Socket } from "node:net";

/** A request as it came over the wire. Bodies are not read: a request that has one is refused. */
export interface WireRequest {
  readonly method: string;
  /** Path and query as sent. */
  readonly target: string;
  readonly headers: Headers;
  /** Number of the TCP connection, counted from 1. */
  readonly connection: number;
  /** Aborted when the connection is gone: whatever waits on behalf of this request should stop. */
  readonly signal: AbortSignal;
}

/** What happens to the connection after the body: kept for the next request, closed, or reset (TCP RST). */
export type WireEnding = "keep" | "close" | "reset";

/** An answer. The headers go out as given: `Content-Length` is the handler's business, true or not. */
export interface WireReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: AsyncIterable<Uint8Array>;
  readonly ending?: WireEnding;
  /** Leave out status line and headers, so that the client sees the connection end without any answer. */
  readonly headless?: boolean;
}

export type WireHandler = (request: WireRequest) => WireReply | Promise<WireReply>;

const MAX_HEAD_BYTES = 64 * 1024;
const MAX_CONNECTIONS = 256;
const HEAD_END = new TextEncoder().encode("\r\n\r\n");

const REASONS: Readonly<Record<number, string>> = {
  200: "OK",
  206: "Partial Content",
  302: "Found",
  307: "Temporary Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  416: "Range Not Satisfiable",
  429: "Too Many Requests",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

/** Listens on a free port of 127.0.0.1 from `start` to disposal. */
export class WireServer implements AsyncDisposable {
  /** `http://127.0.0.1:PORT`. */
  readonly origin: string;
  #server: Server;
  #handler: WireHandler;
  #connections = new Map<Socket, Promise<void>>();
  #connectionCount = 0;

  private constructor(server: Server, options: { port: number; handler: WireHandler }) {
    this.origin = `http://127.0.0.1:${options.port}`;
    this.#handler = options.handler;
    this.#server = server;
    server.on("connection", (socket) => this.#accept(socket));
  }

  static async start(handler: WireHandler): Promise<WireServer> {
    const server = createServer();
    server.maxConnections = MAX_CONNECTIONS;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(0, "127.0.0.1", resolve);
    });
    const { port } = server.address() as AddressInfo;
    return new WireServer(server, { port, handler });
  }

  /** Stops listening, cuts every connection and waits until all are gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#connections.keys()) socket.destroy();
    await Promise.all(this.#connections.values());
    await closed;
  }

  #accept(socket: Socket): void {
    const connection = new Connection(socket, { handler: this.#handler, id: ++this.#connectionCount });
    const served = connection.serve().finally(() => this.#connections.delete(socket));
    this.#connections.set(socket, served);
  }
}

class Connection {
  #socket: Socket;
  #handler: WireHandler;
  #id: number;
  #gone = new AbortController();
  #closed: Promise<void>;
  #received = new Uint8Array(0);
  #wake: () => void = () => {};

  constructor(socket: Socket, options: { handler: WireHandler; id: number }) {
    this.#socket = socket;
    this.#handler = options.handler;
    this.#id = options.id;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Uint8Array) => this.#receive(chunk));
    // A client that resets is an ordinary event here; "close" follows in any case.
    socket.on("error", () => {});
    this.#closed = new Promise((resolve) => {
      socket.on("close", () => {
        this.#gone.abort();
        this.#wake();
        resolve();
      });
    });
  }

  /** Answers requests until the connection ends. Never rejects. */
  async serve(): Promise<void> {
    try {
      let ending: WireEnding = "keep";
      while (ending === "keep") {
        const head = await this.#nextHead();
        if (head === undefined) break;
        ending = await this.#answer(head);
      }
      if (ending === "reset") this.#socket.resetAndDestroy();
      else this.#socket.end();
    } catch (error) {
      if (!this.#gone.signal.aborted) console.error("stand-in server:", error);
      this.#socket.destroy();
    }
    await this.#closed;
  }

  async #answer(head: string): Promise<WireEnding> {
    const request = this.#parse(head);
    if (request === undefined) {
      await this.#write(renderHead({ status: 400, headers: { "Content-Length": "0" } }));
      return "close";
    }
    const reply = await this.#handler(request);
    if (!reply.headless) await this.#write(renderHead(reply));
    if (reply.body !== undefined && request.method !== "HEAD") {
      for await (const chunk of reply.body) {
        if (this.#gone.signal.aborted) break;
        await this.#write(chunk);
      }
    }
    if (this.#gone.signal.aborted) return "close";
    const closeWished = request.headers.get("connection")?.toLowerCase() === "close";
    return reply.ending ?? (closeWished ? "close" : "keep");
  }

  #parse(head: string): WireRequest | undefined {
    const [requestLine, ...lines] = head.split("\r\n");
    const match = /^([A-Z]+) (\/\S*) HTTP\/1\.1$/.exec(requestLine);
    if (match === null) return undefined;
    const headers = new Headers();
    for (const line of lines) {
      const colon = line.indexOf(":");
      if (colon < 1) return undefined;
      headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
    }
    const hasBody = headers.has("transfer-encoding") || Number(headers.get("content-length") ?? 0) > 0;
    if (hasBody) return undefined;
    return { method: match[1], target: match[2], headers, connection: this.#id, signal: this.#gone.signal };
  }

  #receive(chunk: Uint8Array): void {
    const joined = new Uint8Array(this.#received.length + chunk.length);
    joined.set(this.#received);
    joined.set(chunk, this.#received.length);
    this.#received = joined;
    if (joined.length > MAX_HEAD_BYTES) this.#socket.destroy();
    this.#wake();
  }

  /** The next request's lines without the empty one, or nothing when the connection has ended. */
  async #nextHead(): Promise<string | undefined> {
    while (!this.#gone.signal.aborted) {
      const end = indexOfHeadEnd(this.#received);
      if (end >= 0) {
        const head = new TextDecoder("latin1").decode(this.#received.subarray(0, end));
        this.#received = this.#received.slice(end + HEAD_END.length);
        return head;
      }
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    return undefined;
  }

  /** Resolves when the kernel has taken the bytes, or when nobody wants them any more. */
  async #write(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0 || this.#gone.signal.aborted) return;
    const written = new Promise<void>((resolve) => this.#socket.write(bytes, () => resolve()));
    await Promise.race([written, this.#closed]);
  }
}

function renderHead(reply: WireReply): Uint8Array {
  const lines = [`HTTP/1.1 ${reply.status} ${REASONS[reply.status] ?? "Status"}`];
  for (const [name, value] of Object.entries(reply.headers)) lines.push(`${name}: ${value}`);
  if (reply.ending === "close") lines.push("Connection: close");
  return new TextEncoder().encode(lines.join("\r\n") + "\r\n\r\n");
}

function indexOfHeadEnd(bytes: Uint8Array): number {
  for (let at = 0; at + 4 <= bytes.length; at++) {
    if (HEAD_END.every((byte, i) => bytes[at + i] === byte)) return at;
  }
  return -1;
}
