/**
 * A daemon's connections: accepted within a bound, each with a limit on how long it may say nothing, and served by
 * Deno's own HTTP. `Deno.serve` has no such bounds: it stops for good when the process runs out of descriptors, and a
 * connection that sends half a header holds its descriptor for ever.
 */
import { nextTurn } from "./clock.ts";
import {
  ACCEPT_RETRY_DELAY_MS,
  CONNECTION_SWEEP_INTERVAL_MS,
  CONNECTIONS_MAX,
  CONNECTIONS_MAX_FIRST,
  DESCRIPTORS_RESERVED,
  HEADER_TIMEOUT_MS,
  IDLE_CONNECTION_TIMEOUT_MS,
  LIMIT_LOG_INTERVAL_MS,
  REQUESTS_PER_TURN,
} from "./limits.ts";
import type { Logger } from "./log.ts";

/** What decides when a connection must go. Times are in ms of `performance.now`. */
export interface ConnectionFacts {
  /** Requests that are being answered. */
  readonly answering: number;
  /** Requests so far. */
  readonly requests: number;
  /** When it was accepted, or when its last request began or was answered. */
  readonly changedMs: number;
}

/** Limits that {@linkcode isOverdue} checks. */
export interface ConnectionLimits {
  /** From the accept to the end of the first request's header. */
  headerTimeoutMs: number;
  /** From one answer to the end of the next request's header; an answer of known length is sent meanwhile. */
  idleTimeoutMs: number;
}

/** Whether a connection has asked for nothing for too long. A stream watches over its reader by itself. */
export function isOverdue(facts: ConnectionFacts, limits: ConnectionLimits, nowMs: number): boolean {
  if (facts.answering > 0) return false;
  return nowMs - facts.changedMs > (facts.requests === 0 ? limits.headerTimeoutMs : limits.idleTimeoutMs);
}

/**
 * Which connection makes room for a new one: of those that have never asked for anything the oldest, else the one that
 * has been idle for longest. Undefined when all of them are at work.
 */
export function connectionToDrop<C extends ConnectionFacts>(connections: Iterable<C>): C | undefined {
  let chosen: C | undefined;
  for (const connection of connections) {
    if (connection.answering > 0) continue;
    if (chosen === undefined || goesBefore(connection, chosen)) chosen = connection;
  }
  return chosen;
}

function goesBefore(a: ConnectionFacts, b: ConnectionFacts): boolean {
  if ((a.requests === 0) !== (b.requests === 0)) return a.requests === 0;
  return a.changedMs < b.changedMs;
}

/**
 * How many connections may be held, when `open` are open and so many descriptors can be opened besides: an answer may
 * need a second one, to a worker or a file, which those that are open may not have yet; and some are kept for the
 * daemon's own files and calls.
 */
export function connectionsMaxFor(descriptorsFree: number, open = 0): number {
  const more = Math.max(0, Math.floor((descriptorsFree - open - DESCRIPTORS_RESERVED) / 2));
  return Math.max(8, Math.min(CONNECTIONS_MAX, open + more));
}

/**
 * How many descriptors can still be opened; counts to `most` at most. They are opened for a moment: Deno reads the limit
 * itself (`/proc/self/limits`) for nobody but a program with every permission, and ends the process when its own code
 * runs out of descriptors, so that the limit can't be learnt by hitting it later.
 */
function descriptorsFree(most: number): number {
  const files: Deno.FsFile[] = [];
  try {
    while (files.length < most) files.push(Deno.openSync("/dev/null"));
  } catch {
    // That was the last one.
  }
  for (const file of files) file.close();
  return files.length;
}

/** What Deno gives the one answer that it asks for. */
interface ServeInfo {
  /**
   * Settles when a stream has come to its end, or an answer of known length is handed to the system; rejects when the
   * caller went away.
   */
  completed: Promise<void>;
}

type Answer = (request: Request, info: ServeInfo) => Promise<Response>;

/** Deno's HTTP on a connection that somebody else has accepted; its own `node:http` stood on this. */
type ServeOnConnection = (
  connection: Deno.Conn,
  signal: Pick<AbortSignal, "addEventListener">,
  handler: Answer,
  onError: (error: unknown) => Response,
  onListen: () => void,
) => Deno.HttpServer;

function serveOnConnection(): ServeOnConnection {
  const { internal } = Deno as unknown as { internal: symbol };
  const internals =
    (Deno as unknown as Record<symbol, { serveHttpOnConnection?: ServeOnConnection }>)[internal];
  const serve = internals?.serveHttpOnConnection;
  if (serve === undefined) {
    throw new Error(`Deno ${Deno.version.deno} cannot serve a connection by itself. Install Deno 2.9.`);
  }
  return serve;
}

/** Options of {@linkcode Connections}. */
export interface ConnectionsOptions {
  /** Answers requests; must not throw. */
  answer: Answer;
  /** Answers in place of `answer` when that throws. */
  onError: (error: unknown) => Response;
  /** Told when a limit is hit. */
  log: Logger;
  /** Overrides what the process's own limit on descriptors allows. */
  connectionsMax?: number;
  /** Overrides the limits of `limits.ts`. */
  limits?: ConnectionLimits;
}

/**
 * Cuts one connection. Stands in for an `AbortController`: the listener that Deno adds throws when the connection has
 * just ended by itself, and out of a real signal's listener that would end the process.
 */
class Cut {
  #listener = () => {};

  readonly signal = {
    addEventListener: (_type: "abort", listener: () => void) => {
      this.#listener = listener;
    },
  } as unknown as Pick<AbortSignal, "addEventListener">;

  now(): void {
    try {
      this.#listener();
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
  }
}

class Connection implements ConnectionFacts {
  readonly cut = new Cut();
  server!: Deno.HttpServer;
  answering = 0;
  requests = 0;
  changedMs = performance.now();
  /** In which it asked last, see {@linkcode Turns}. */
  turn = 0;
}

/**
 * Turns of the event loop. A connection may send thousands of requests at once, and those that are there already would all
 * be answered before anybody else's is read.
 */
class Turns {
  #now = 1;
  #requests = 0;
  #next: Promise<void> | undefined;

  /** Resolves when a connection's request may be answered; undefined: now. */
  take(connection: Connection): Promise<void> | undefined {
    const again = connection.turn === this.#now;
    connection.turn = this.#now;
    const next = this.#next ??= nextTurn().then(() => this.#turn());
    this.#requests++;
    if (!again || this.#requests <= REQUESTS_PER_TURN) return undefined;
    return next.then(() => this.take(connection));
  }

  #turn(): void {
    this.#now++;
    this.#requests = 0;
    this.#next = undefined;
  }
}

/** Accepts what comes to one listener, until {@linkcode close}. */
export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #listener: Deno.TcpListener;
  readonly #serve = serveOnConnection();
  #max: number;
  #maxIsFinal: boolean;
  readonly #limits: ConnectionLimits;
  readonly #open = new Set<Connection>();
  readonly #accepting: Promise<void>;
  readonly #sweep: ReturnType<typeof setInterval>;
  readonly #turns = new Turns();
  #lastLoggedMs = -Infinity;
  #closed = false;

  /** Begins at once. The listener is closed by {@linkcode close}. */
  constructor(listener: Deno.TcpListener, options: ConnectionsOptions) {
    this.#listener = listener;
    this.#options = options;
    this.#max = options.connectionsMax ?? 0;
    this.#maxIsFinal = options.connectionsMax !== undefined;
    this.#raiseMax();
    this.#limits = options.limits ?? {
      headerTimeoutMs: HEADER_TIMEOUT_MS,
      idleTimeoutMs: IDLE_CONNECTION_TIMEOUT_MS,
    };
    this.#sweep = setInterval(() => this.#dropOverdue(), CONNECTION_SWEEP_INTERVAL_MS);
    this.#accepting = this.#acceptAll();
  }

  /**
   * Stops accepting and lets go of all connections. With `graceMs`, what is handed to the system is given that long to
   * be sent; the rest is cut at once, since nothing can cut a connection whose shutdown has begun.
   */
  async close(graceMs: number): Promise<void> {
    this.#closed = true;
    clearInterval(this.#sweep);
    this.#listener.close();
    await this.#accepting;
    const gone = [...this.#open].map((connection) => {
      const sent = graceMs > 0 && connection.requests > 0 && connection.answering === 0;
      if (sent) void connection.server.shutdown().catch(() => {});
      else connection.cut.now();
      return connection.server.finished.catch(() => {});
    });
    let late: ReturnType<typeof setTimeout> | undefined;
    await Promise.race([
      Promise.all(gone),
      new Promise((resolve) => late = setTimeout(resolve, graceMs)),
    ]);
    clearTimeout(late);
  }

  async #acceptAll(): Promise<void> {
    while (!this.#closed) {
      let accepted: Deno.TcpConn;
      try {
        accepted = await this.#listener.accept();
      } catch (error) {
        if (this.#closed) return;
        // Out of descriptors, most likely. One of them is given back, and the rest is a matter of time.
        this.#limitReached("no connection can be accepted", { error });
        connectionToDrop(this.#open)?.cut.now();
        await new Promise((resolve) => setTimeout(resolve, ACCEPT_RETRY_DELAY_MS));
        continue;
      }
      if (this.#open.size >= this.#max) this.#raiseMax();
      if (this.#open.size >= this.#max) {
        this.#limitReached("connections are at their limit", { connections: this.#max });
        const dropped = connectionToDrop(this.#open);
        if (dropped === undefined) {
          accepted.close();
          continue;
        }
        this.#open.delete(dropped);
        dropped.cut.now();
      }
      this.#take(accepted);
    }
  }

  /** Doubles the limit, if there are descriptors for that: looking for all of them at once would delay every start. */
  #raiseMax(): void {
    if (this.#maxIsFinal) return;
    const open = this.#open.size;
    const wanted = Math.min(CONNECTIONS_MAX, Math.max(CONNECTIONS_MAX_FIRST, 2 * open));
    const most = 2 * wanted - open + DESCRIPTORS_RESERVED;
    const free = descriptorsFree(most);
    this.#max = Math.max(this.#max, connectionsMaxFor(free, open));
    this.#maxIsFinal = free < most || this.#max >= CONNECTIONS_MAX;
  }

  #take(accepted: Deno.TcpConn): void {
    const connection = new Connection();
    const gone = () => void this.#open.delete(connection);
    try {
      // Small events must not wait for the acknowledgement of earlier ones.
      accepted.setNoDelay(true);
      connection.server = this.#serve(
        accepted,
        connection.cut.signal,
        (request, info) => this.#answer(connection, { request, info }),
        this.#options.onError,
        () => {},
      );
    } catch {
      // Its caller is gone already.
      accepted.close();
      return;
    }
    this.#open.add(connection);
    connection.server.finished.then(gone, gone);
  }

  async #answer(connection: Connection, asked: { request: Request; info: ServeInfo }): Promise<Response> {
    connection.requests++;
    connection.answering++;
    connection.changedMs = performance.now();
    const over = () => {
      connection.answering--;
      connection.changedMs = performance.now();
    };
    asked.info.completed.then(over, over);
    const turn = this.#turns.take(connection);
    if (turn !== undefined) await turn;
    return await this.#options.answer(asked.request, asked.info);
  }

  #dropOverdue(): void {
    const nowMs = performance.now();
    for (const connection of this.#open) {
      if (isOverdue(connection, this.#limits, nowMs)) connection.cut.now();
    }
  }

  #limitReached(message: string, fields: Record<string, unknown>): void {
    const nowMs = performance.now();
    if (nowMs - this.#lastLoggedMs < LIMIT_LOG_INTERVAL_MS) return;
    this.#lastLoggedMs = nowMs;
    this.#options.log.warn(message, fields);
  }
}
