/**
 * Stand-ins of hive and worker for the keeper's tests: real servers on free ports that speak the protocol, answer as
 * they are told, and remember who called. The real ones are tested together under `tests/`.
 */
import { newCorrelationId } from "../../protocol/correlation.ts";
import { type ErrorCode, RbeeError } from "../../protocol/errors.ts";
import { HIVE_ROUTES, type RouteSpec, WORKER_ROUTES } from "../../protocol/routes.ts";
import { eventStream, type EventWriter, SSE_HEADERS } from "../../protocol/sse.ts";
import { API_VERSION, VERSION } from "../../protocol/version.ts";
import type { ModelFacts } from "../../protocol/worker_schemas.ts";

/** A request as a stand-in saw it. */
export interface Call {
  /** `GET /v1/ready`. */
  route: string;
  /** The route's `:name` parameters. */
  params: Record<string, string | undefined>;
  headers: Headers;
  body: unknown;
}

/** Answers one route. */
export type Answer = (call: Call) => Response | Promise<Response>;
/** Answers by route: `on(HIVE_ROUTES.spawn)`. */
export type Answers = Record<string, Answer>;

/** A running stand-in. */
export interface StandIn extends AsyncDisposable {
  url: string;
  /** `host:port`. */
  address: string;
  /** In order of arrival. */
  calls: Call[];
  /** May be changed while it runs. */
  answers: Answers;
  /** How often a route was called. */
  count(route: RouteSpec): number;
}

/** The key of a route in {@linkcode Answers}. */
export function on(route: RouteSpec): string {
  return `${route.method} ${route.path}`;
}

/** The bearer that stand-ins of hives want. */
export const HIVE_KEY = "rbee-test-key-of-the-hive";
/** The bearer that stand-ins of workers want. */
export const WORKER_KEY = "rbee-test-key-of-the-worker";

/** Starts a server. Routes without an answer are 404s; those that are not open want the key. */
export function startStandIn(answers: Answers, options: { apiKey: string }): StandIn {
  const calls: Call[] = [];
  const handler = async (request: Request): Promise<Response> => {
    const url = new URL(request.url);
    const match = Object.keys(standIn.answers).flatMap((route) => {
      const [method, path] = route.split(" ");
      const found = new URLPattern({ pathname: path }).exec({ pathname: url.pathname });
      return found !== null && method === request.method ? [{ route, params: found.pathname.groups }] : [];
    })[0];
    const call = {
      route: match?.route ?? `${request.method} ${url.pathname}`,
      params: match?.params ?? {},
      headers: request.headers,
      body: await request.json().catch(() => undefined),
    };
    calls.push(call);
    const open = url.pathname.startsWith("/health");
    if (!open && request.headers.get("Authorization") !== `Bearer ${options.apiKey}`) {
      return failure("INVALID_API_KEY", "The key is not the one of this daemon.");
    }
    return await standIn.answers[match?.route ?? ""]?.(call) ??
      failure("NOT_FOUND", "There is no such route.");
  };
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: () => {},
    onError: () => new Response(null, { status: 500 }),
  }, handler);
  const address = `127.0.0.1:${server.addr.port}`;
  const standIn: StandIn = {
    url: `http://${address}`,
    address,
    calls,
    answers,
    count: (route) => calls.filter((call) => call.route === on(route)).length,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
  return standIn;
}

/** A hive that has the model, and one worker for every wish. */
export function standInHive(worker: StandIn, changes: Answers = {}): StandIn {
  const health = () => Response.json({ status: "alive", version: VERSION, api_version: API_VERSION });
  return startStandIn({
    [on(HIVE_ROUTES.live)]: health,
    [on(HIVE_ROUTES.v1Health)]: health,
    [on(HIVE_ROUTES.download)]: () => Response.json({ download_id: "cached", local_path: "/models/m.gguf" }),
    [on(HIVE_ROUTES.spawn)]: () => Response.json(spawned(worker), { status: 202 }),
    ...changes,
  }, { apiKey: HIVE_KEY });
}

/** The answer to a spawn. */
export function spawned(worker: StandIn, changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    worker_id: "w-1",
    url: worker.url,
    state: "loading",
    api_key: WORKER_KEY,
    backend: "cpu",
    device: 0,
    reused: false,
    ...changes,
  };
}

/** A worker that is idle and answers `Once upon a time`. */
export function standInWorker(changes: Answers = {}): StandIn {
  return startStandIn({
    [on(WORKER_ROUTES.ready)]: () => Response.json(idle()),
    [on(WORKER_ROUTES.loadingProgress)]: () =>
      events((writer) => {
        writer.send({ stage: "loading_to_vram", layers_loaded: 24, layers_total: 32, vram_mb: 100 });
        writer.send({ stage: "ready" });
        writer.end();
      }),
    [on(WORKER_ROUTES.inference)]: () => answerOf(["Once", " upon", " a", " time"]),
    [on(WORKER_ROUTES.cancel)]: () => new Response(null, { status: 204 }),
    ...changes,
  }, { apiKey: WORKER_KEY });
}

/** `GET /v1/ready` of a loaded worker. */
export function idle(model: Partial<ModelFacts> = {}): Record<string, unknown> {
  return {
    ready: true,
    state: "idle",
    model_loaded: true,
    model_ref: "builtin:stories",
    slots_total: 4,
    slots_available: 4,
    idle_ms: 1,
    model: {
      architecture: "llama",
      description: "stand-in",
      parameters: 1,
      size_bytes: 1,
      layers: 32,
      vocabulary: 1,
      embedding_length: 1,
      context_train: 1,
      context: 512,
      slots: 4,
      chat_template: true,
      recurrent: false,
      ...model,
    },
    memory: { weights_mb: 1, mapped_mb: 0, private_mb: 40, kv_mb: 1, compute_mb: 1, process_mb: 1 },
  };
}

/** An event stream as an answer. */
export function events(start: (writer: EventWriter) => void): Response {
  return new Response(eventStream(start), { headers: SSE_HEADERS });
}

/** A whole answer, token by token. */
export function answerOf(tokens: readonly string[], changes: Record<string, unknown> = {}): Response {
  return events((writer) => {
    sendTokens(writer, tokens);
    writer.send({ ...doneEvent(tokens.length), ...changes });
    writer.end();
  });
}

/** Token events. */
export function sendTokens(writer: EventWriter, tokens: readonly string[]): void {
  tokens.forEach((token, index) => writer.send({ token, index, id: index }));
}

/** The terminal event of an answer. */
export function doneEvent(tokens: number): Record<string, unknown> {
  return {
    done: true,
    total_tokens: tokens,
    duration_ms: 10,
    stop_reason: "eos",
    prompt_tokens: 3,
    cached_tokens: 0,
    time_to_first_token_ms: 5,
    resumed_tokens: 0,
    draft_tokens: 0,
    draft_accepted_tokens: 0,
    tokens_per_second: 1000,
    seed: 7,
  };
}

/** An answer that breaks off, as that of a process that was killed. */
export function cutAnswer(tokens: readonly string[]): Response {
  const whole = eventStream((writer) => sendTokens(writer, tokens)).getReader();
  let sent = 0;
  return new Response(
    new ReadableStream({
      async pull(controller) {
        if (sent++ < tokens.length) return controller.enqueue((await whole.read()).value);
        await whole.cancel();
        controller.error(new Error("killed"));
      },
    }),
    { headers: SSE_HEADERS },
  );
}

/** An error as an answer. */
export function failure(code: ErrorCode, message: string, details: Record<string, unknown> = {}): Response {
  const error = new RbeeError(code, message, { details });
  return Response.json({ error: error.toBody(newCorrelationId()) }, { status: error.status });
}
