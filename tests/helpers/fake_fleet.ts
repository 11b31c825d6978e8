/**
 * A queen in this process, and workers that speak just enough HTTP to be asked by it. What a request makes of a worker
 * stands in its text: `kills-at-N` ends the worker once the answer has N tokens (at once where nothing is generated),
 * `gated` waits after its third token, `leaves-N` is broken off there in order, N times; `hangs` gets no answer, `huge` one
 * that is larger than a queen reads, `long-tokens` one of tokens that have megabytes of text.
 */
import { createLogger } from "../../daemon/log.ts";
import { ConfigSchema } from "../../home/config_schema.ts";
import { MAX_ANSWER_BYTES } from "../../protocol/limits.ts";
import { createQueen, type Queen } from "../../queen/queen.ts";
import { WORKER_ROUTES } from "../../protocol/routes.ts";
import { formatMark, type RelayRequest } from "../../protocol/relay_schemas.ts";
import type { HealthResponse, InferenceStats } from "../../protocol/worker_schemas.ts";
import type { TempHome } from "./temp_home.ts";

/** The queen's own key. */
export const FLEET_KEY = "key-of-the-queen";
/** Kills like `kills-at-0` where a request has numbers and no text. */
export const KILLING_TOKEN = 66_600;
/** The one model of all workers. */
export const FLEET_MODEL = "builtin:stories";
/** Tokens of every answer that comes to its end. */
export const FLEET_TOKENS = 8;
/** After so many a gated answer waits. */
const GATE_AT = 3;
/** Eight of them are more than may be left unread, and one is less. */
const LONG_TOKEN_CHARS = 3 * 1024 * 1024;
const CHUNK = new Uint8Array(1024 * 1024).fill(0x20);

/** A queen in this process; it can be stopped more than once. */
export interface FleetQueen extends AsyncDisposable {
  readonly queen: Queen;
  /** Lines of its log. */
  readonly log: { message: string; [field: string]: unknown }[];
  /** Calls it with its own key, or another. */
  call(path: string, body?: unknown, headers?: Record<string, string>): Promise<Response>;
}

/** Starts a queen. */
export async function fleetQueen(
  home: TempHome,
  config: Readonly<Record<string, unknown>> = {},
): Promise<FleetQueen> {
  const log: FleetQueen["log"] = [];
  const queen = await createQueen({
    home: home.rbeeHome,
    config: ConfigSchema.parse({ queen: config }),
    apiKey: FLEET_KEY,
    env: { get: (name) => name === "XDG_RUNTIME_DIR" ? `${home.path}/tmp` : undefined },
    ownUrl: () => "http://127.0.0.1:9",
    log: createLogger({
      ...{ part: "queen", level: "info", format: "json" },
      write: (line) => void log.push(JSON.parse(line)),
    }),
  });
  await queen.start();
  let stopping: Promise<void> | undefined;
  const stop = async () => {
    await queen.drain(AbortSignal.timeout(10_000));
    await queen.close();
  };
  return {
    queen,
    log,
    call: (path, body, headers = {}) =>
      queen.app(
        new Request(`http://queen${path}`, {
          method: body === undefined ? "GET" : "POST",
          headers: { Authorization: `Bearer ${FLEET_KEY}`, ...headers },
          body: typeof body === "string" || body === undefined ? body : JSON.stringify(body),
        }),
      ),
    [Symbol.asyncDispose]: () => stopping ??= stop(),
  };
}

/** A worker of a {@linkcode FakeFleet}. */
interface FleetWorker {
  readonly id: string;
  readonly listener: Deno.TcpListener;
  readonly connections: Set<Deno.TcpConn>;
}

/** Workers of one machine, which tells a queen of them. */
export class FakeFleet implements AsyncDisposable {
  /** The queen that they report to. */
  queen: Pick<FleetQueen, "call">;
  /** Requests that reached a worker, by the worker. */
  readonly seen: { worker: string; text: string }[] = [];
  readonly #alive = new Map<string, FleetWorker>();
  readonly #open = Promise.withResolvers<void>();
  readonly #slots: number;
  readonly #tokens: number;
  #started = 0;
  #brokenOff = 0;

  /** `tokens`: of every answer. */
  constructor(queen: Pick<FleetQueen, "call">, options: { slots?: number; tokens?: number } = {}) {
    this.queen = queen;
    this.#slots = options.slots ?? 4;
    this.#tokens = options.tokens ?? FLEET_TOKENS;
  }

  /** Ids of the workers that live. */
  get alive(): string[] {
    return [...this.#alive.keys()];
  }

  /** Lets gated answers go on. */
  openGate(): void {
    this.#open.resolve();
  }

  /** Starts so many more. */
  async start(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const worker = { id: `w${++this.#started}`, listener, connections: new Set<Deno.TcpConn>() };
      this.#alive.set(worker.id, worker);
      this.#serve(worker);
    }
    await this.report();
  }

  /** Tells the queen what there is; with `gone`, also of workers that are not there. */
  async report(gone: readonly { id: string; port: number }[] = []): Promise<void> {
    const there = [...this.#alive.values()].map(({ id, listener }) => ({ id, port: listener.addr.port }));
    const response = await this.queen.call("/v2/hives/heartbeat", {
      ...{ node_name: "n", instance: "i", hive_url: "http://127.0.0.1:9", api_key: "k", version: "0" },
      ...{ memory: { total_mb: 0, free_mb: 0, reserve_mb: 0 }, devices: [], models: [] },
      workers: [...gone, ...there].map(({ id, port }) => ({
        ...{ worker_id: id, url: `http://127.0.0.1:${port}`, api_key: "k", model_ref: FLEET_MODEL },
        ...{ backend: "cpu", device: 0, state: "idle", slots_total: this.#slots, memory_mb: 1 },
        ...{ slots_available: this.#slots, pinned: false, last_activity_unix: 0 },
      })),
    });
    if (!response.ok) throw new Error(await response.text());
    await response.body?.cancel();
  }

  /** Ends a worker as a crash does: its port and all of its connections are gone. */
  async kill(id: string): Promise<void> {
    this.#end(id);
    await this.report();
  }

  [Symbol.asyncDispose](): Promise<void> {
    for (const id of this.alive) this.#end(id);
    return Promise.resolve();
  }

  #end(id: string): void {
    const worker = this.#alive.get(id);
    if (worker === undefined) return;
    this.#alive.delete(id);
    worker.listener.close();
    for (const connection of worker.connections) close(connection);
  }

  async #serve(worker: FleetWorker): Promise<void> {
    for await (const connection of worker.listener) {
      worker.connections.add(connection);
      // Whoever hangs up ends an answer in its middle.
      this.#answerAll(worker, connection).catch(() => {}).finally(() => {
        worker.connections.delete(connection);
        close(connection);
      });
    }
  }

  /** As a real worker: a connection is used again, so `fetch` keeps it. */
  async #answerAll(worker: FleetWorker, connection: Deno.TcpConn): Promise<void> {
    for (;;) await this.#answer(worker, connection);
  }

  async #answer(worker: FleetWorker, connection: Deno.TcpConn): Promise<void> {
    const { path, body } = await readRequest(connection);
    const write = (text: string | Uint8Array) => writeAll(connection, text);
    if (path === WORKER_ROUTES.v1Health.path) return await write(wholeAnswer(HEALTH));
    this.seen.push({ worker: worker.id, text: body });
    if (/\bhangs\b/.test(body)) return await this.#open.promise;
    if (path === WORKER_ROUTES.relay.path) {
      await write(`HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n`);
      const writeChunk = (text: string) => write(`${text.length.toString(16)}\r\n${text}\r\n`);
      await this.#generate(JSON.parse(body), { worker, write: writeChunk });
      return await writeChunk("");
    }
    if (/\bkills-at-|\b66600\b/.test(body)) return await this.kill(worker.id);
    if (/\bhuge\b/.test(body)) {
      await write(`HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n`);
      for (let sent = 0; sent <= MAX_ANSWER_BYTES; sent += CHUNK.length) await write(CHUNK);
      return close(connection);
    }
    await write(wholeAnswer({ answered: path }));
  }

  async #generate(
    asked: RelayRequest,
    at: { worker: FleetWorker; write: (text: string) => Promise<void> },
  ): Promise<void> {
    const { path, request, begun } = asked;
    const { worker, write } = at;
    const text = JSON.stringify(request);
    const killsAt = /\bkills-at-(\d+)/.exec(text)?.[1];
    const told = request.stream === true;
    await write(formatMark({ accepted: { prompt_tokens: 3, seeds: [1], blocks: [] } }));
    for (let index = begun?.[0].generated.length ?? 0; index < this.#tokens; index++) {
      if (index === Number(killsAt)) return await this.kill(worker.id);
      const breaksOff = index === GATE_AT && this.#brokenOff < Number(/\bleaves-(\d+)/.exec(text)?.[1] ?? 0);
      if (breaksOff) {
        this.#brokenOff++;
        return await write(formatMark({ failed: "SHUTTING_DOWN" }));
      }
      if (index === GATE_AT && /\bgated\b/.test(text)) await this.#open.promise;
      const token = /\blong-tokens\b/.test(text) ? "x".repeat(LONG_TOKEN_CHARS) : "x";
      const event = path === WORKER_ROUTES.inference.path ? { token, index, id: index } : { text: token };
      await write(
        (told ? `data: ${JSON.stringify(event)}\n\n` : "") +
          formatMark({ choice: 0, ids: [index], held: [], draws: index + 1 }),
      );
    }
    const end = path === WORKER_ROUTES.inference.path ? { done: true, ...STATS } : { end: true };
    const over = formatMark({ over: [STATS] });
    const whole = `data: ${JSON.stringify({ answered: path })}\n\n`;
    await write(`${told ? `data: ${JSON.stringify(end)}\n\n${over}` : `${over}${whole}`}data: [DONE]\n\n`);
  }
}

const HEALTH: HealthResponse = { status: "alive", version: "0", api_version: "1" };

function wholeAnswer(value: unknown): string {
  const text = JSON.stringify(value);
  return `HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`;
}

const STATS: InferenceStats = {
  ...{
    total_tokens: FLEET_TOKENS,
    duration_ms: 1,
    stop_reason: "length",
    prompt_tokens: 3,
    cached_tokens: 0,
  },
  ...{ time_to_first_token_ms: 1, resumed_tokens: 0, draft_tokens: 0, draft_accepted_tokens: 0 },
  ...{ tokens_per_second: 1, seed: 1 },
};

async function readRequest(connection: Deno.TcpConn): Promise<{ path: string; body: string }> {
  const buffer = new Uint8Array(65_536);
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const headEnd = text.indexOf("\r\n\r\n");
    const length = Number(/^content-length: (\d+)/im.exec(text.slice(0, headEnd))?.[1] ?? 0);
    // Whatever is asked here is ASCII.
    if (headEnd >= 0 && text.length >= headEnd + 4 + length) {
      return { path: text.split(" ")[1], body: text.slice(headEnd + 4) };
    }
    const count = await connection.read(buffer);
    if (count === null) throw new Error("The connection ended before the request did.");
    text += decoder.decode(buffer.subarray(0, count), { stream: true });
  }
}

async function writeAll(connection: Deno.TcpConn, text: string | Uint8Array): Promise<void> {
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

function close(connection: Deno.TcpConn): void {
  try {
    connection.close();
  } catch {
    // It was closed before.
  }
}
