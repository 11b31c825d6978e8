/**
 * From routes to one `Request → Response` function: matching, keys, bounded bodies, the error envelope, correlation
 * ids and the log line at the boundary. Handlers return or throw; nothing else turns errors into answers.
 */
import type * as z from "zod";
import { CORRELATION_HEADER, correlationIdOf } from "../protocol/correlation.ts";
import { RbeeError, toRbeeError } from "../protocol/errors.ts";
import {
  MAX_BODY_BYTES,
  MAX_CONTROL_BODY_BYTES,
  MAX_JSON_VALUES,
  MAX_RELAY_BODY_BYTES,
  MAX_STATE_BYTES,
  MAX_TOKEN_JSON_VALUES,
} from "../protocol/limits.ts";
import { type Dialect, errorIn } from "../protocol/dialects.ts";
import type { RouteSpec } from "../protocol/routes.ts";
import { SSE_HEADERS } from "../protocol/sse.ts";
import { type Caller, OWNER } from "../protocol/rights.ts";
import { type Clients, digestOf, requireKey } from "./auth.ts";
import { readBody, readBytes } from "./body.ts";
import { BodyBudget } from "./body_budget.ts";
import { BODIES_MAX_BYTES, BODY_TIMEOUT_MS } from "./limits.ts";
import type { Logger } from "./log.ts";

/** What a handler gets. */
export interface RequestContext {
  /** As it came in; its signal aborts when the caller goes away. */
  request: Request;
  /** The route's `:name` parameters, unescaped. */
  params: Record<string, string>;
  /** The query string. */
  query: URLSearchParams;
  /** Who calls; {@linkcode OWNER} where a route asks for no key. */
  caller: Caller;
  /** Logged at every hop. */
  correlationId: string;
  /** Carries the correlation id. */
  log: Logger;
  /** The body, read within the route's limit and checked, as {@linkcode readBody} does it. */
  body<T>(schema: z.ZodType<T>): Promise<T>;
  /** The body as it stands, read within the route's limit. */
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
}

/** Answers one route; may throw any {@linkcode RbeeError}. */
export type Handler = (context: RequestContext) => Response | Promise<Response>;

/** A route and who answers it. */
export interface Route {
  /** From the route table. */
  spec: RouteSpec;
  /** See {@linkcode Handler}. */
  handle: Handler;
}

/** Options of {@linkcode createApp}. */
export interface AppOptions {
  /** Matched in this order, those without parameters first. */
  routes: readonly Route[];
  /** The daemon's own key. */
  apiKey: string;
  /** Whose other keys are; each route says which of their rights it takes. */
  clients?: Clients;
  /** Asked before anything of the body is read; throws what refuses the request. */
  admit?: (caller: Caller, spec: RouteSpec) => void;
  /** Where requests are logged. */
  log: Logger;
  /** Overrides {@linkcode BODY_TIMEOUT_MS}. */
  bodyTimeoutMs?: number;
  /** Largest body of this caller, where that is less than the route's. */
  bodyLimitBytes?: (caller: Caller) => number;
  /** Overrides {@linkcode BODIES_MAX_BYTES}. */
  bodiesMaxBytes?: number;
  /** Told of each request to a route that ended in an error. */
  onRefused?: (spec: RouteSpec, error: RbeeError) => void;
}

/** By the kind that a route names. A state is no JSON. */
const BODY_LIMITS = {
  prompt: { maxBytes: MAX_BODY_BYTES, maxValues: MAX_JSON_VALUES },
  tokens: { maxBytes: MAX_BODY_BYTES, maxValues: MAX_TOKEN_JSON_VALUES },
  control: { maxBytes: MAX_CONTROL_BODY_BYTES, maxValues: MAX_JSON_VALUES },
  state: { maxBytes: MAX_STATE_BYTES, maxValues: 0 },
  relay: { maxBytes: MAX_RELAY_BODY_BYTES, maxValues: MAX_TOKEN_JSON_VALUES },
};

/**
 * A daemon's HTTP interface, testable without a socket. `sent` settles when the answer is over; without it that is when
 * it is made.
 */
export type App = (request: Request, sent?: Promise<unknown>) => Promise<Response>;

/** Builds the interface from its routes. */
export function createApp(options: AppOptions): App {
  const digest = digestOf(options.apiKey);
  const bodies = new BodyBudget(options.bodiesMaxBytes ?? BODIES_MAX_BYTES);
  const routes = options.routes.map((route) => ({
    ...route,
    pattern: new URLPattern({ pathname: route.spec.path }),
    fixed: !route.spec.path.includes(":"),
  }));
  const fixed = new Map(
    routes.toReversed().filter((route) => route.fixed).map((route) => [keyOf(route.spec), route]),
  );

  const answer = async (
    request: Request,
    meta: {
      correlationId: string;
      log: Logger;
      asks: (path: string) => void;
      speaks: (dialect: Dialect) => void;
      isFor: (spec: RouteSpec | undefined) => void;
      onBytes: (bytes: number) => void;
    },
  ): Promise<Response> => {
    const url = URL.parse(request.url);
    // Target and `Host` are the caller's own text, and the server below checks neither.
    if (url === null) {
      throw new RbeeError("INVALID_REQUEST", "The Host header or the target is no valid address.");
    }
    meta.asks(url.pathname);
    // Patterns are slow to match, and nearly all requests name a path as it stands.
    const named = fixed.get(keyOf({ method: request.method, path: url.pathname }));
    const here = named !== undefined
      ? [named]
      : routes.filter((route) =>
        route.fixed ? route.spec.path === url.pathname : route.pattern.test({ pathname: url.pathname })
      );
    const route = here.find((candidate) => candidate.spec.method === request.method);
    // Who has no key learns nothing about which paths exist.
    const dialect = route?.spec.dialect ?? "rbee";
    meta.speaks(dialect);
    meta.isFor(route?.spec);
    const auth = route?.spec.auth ?? "key";
    const { clients } = options;
    const caller = auth === "key"
      ? requireKey(request.headers, { digest, dialect, clients, rights: route?.spec.rights })
      : OWNER;
    if (route === undefined) throw noSuchRoute(request.method, { path: url.pathname, here });
    options.admit?.(caller, route.spec);
    const { maxBytes, maxValues } = BODY_LIMITS[route.spec.body ?? "control"];
    const limits = {
      maxBytes: Math.min(maxBytes, options.bodyLimitBytes?.(caller) ?? Infinity),
      maxValues,
      timeoutMs: options.bodyTimeoutMs ?? BODY_TIMEOUT_MS,
      onBytes: meta.onBytes,
    };
    return await route.handle({
      request,
      params: route.fixed ? {} : paramsOf(route.pattern, url.pathname),
      query: url.searchParams,
      caller,
      correlationId: meta.correlationId,
      log: meta.log,
      body: (schema) => readBody(request, { schema, ...limits }),
      bytes: () => readBytes(request, limits),
    });
  };

  return async (request, sent) => {
    const share = bodies.open();
    const correlationId = correlationIdOf(request.headers);
    const log = options.log.child({ correlation_id: correlationId });
    const startedMs = performance.now();
    let response: Response;
    let dialect: Dialect = "rbee";
    let spec: RouteSpec | undefined;
    let path: string | undefined;
    try {
      response = await answer(request, {
        correlationId,
        log,
        asks: (asked) => void (path = asked),
        speaks: (spoken) => void (dialect = spoken),
        isFor: (found) => void (spec = found),
        onBytes: share.take,
      });
    } catch (thrown) {
      const error = asAnswerable(thrown, request.signal);
      if (error.code === "INTERNAL") log.error("request failed", { error: error.cause ?? error });
      if (spec !== undefined) options.onRefused?.(spec, error);
      response = errorResponse(error, { correlationId, dialect });
    } finally {
      if (sent === undefined) share.release();
      else sent.then(share.release, share.release);
    }
    response = withHeader(response, CORRELATION_HEADER, correlationId);
    log.debug("request", {
      method: request.method,
      path,
      status: response.status,
      duration_ms: Math.round(performance.now() - startedMs),
    });
    return response;
  };
}

/** An error as an answer: envelope, status and the headers its code asks for. */
export function errorResponse(
  error: RbeeError,
  how: { correlationId: string; dialect?: Dialect },
): Response {
  const headers = new Headers();
  if (error.retryAfterSeconds !== undefined) headers.set("Retry-After", String(error.retryAfterSeconds));
  if (error.status === 401) headers.set("WWW-Authenticate", "Bearer");
  if (error.code === "METHOD_NOT_ALLOWED") headers.set("Allow", String(error.details.allowed));
  // Clients of OpenAI and Anthropic repeat whatever failed with a status from 500 on, unless they are told not to.
  if (error.code === "REQUEST_POISONED") headers.set("X-Should-Retry", "false");
  return Response.json(errorIn(how.dialect ?? "rbee", error, how.correlationId), {
    status: error.status,
    headers,
  });
}

/** A stream as an answer. */
export function eventResponse(
  stream: ReadableStream<Uint8Array>,
  headers: Record<string, string> = {},
): Response {
  return new Response(stream, { headers: { ...SSE_HEADERS, ...headers } });
}

/** A handler that was waiting for its caller's sake throws the reason of the caller's signal. That is no defect. */
function asAnswerable(thrown: unknown, caller: AbortSignal): RbeeError {
  if (!(thrown instanceof RbeeError) && caller.aborted && thrown === caller.reason) {
    return new RbeeError("REQUEST_CANCELED", "The caller went away.", { cause: thrown });
  }
  return toRbeeError(thrown);
}

/** The headers of an answer that came from `fetch` can't be changed; those of a copy can. */
function withHeader(response: Response, name: string, value: string): Response {
  try {
    response.headers.set(name, value);
    return response;
  } catch {
    const copy = new Response(response.body, response);
    copy.headers.set(name, value);
    return copy;
  }
}

function keyOf({ method, path }: { method: string; path: string }): string {
  return `${method} ${path}`;
}

function noSuchRoute(method: string, where: { path: string; here: readonly Route[] }): RbeeError {
  if (where.here.length === 0) {
    return new RbeeError("NOT_FOUND", `There is no route ${method} ${where.path.slice(0, 200)}.`);
  }
  const allowed = where.here.map((route) => route.spec.method).join(", ");
  return new RbeeError("METHOD_NOT_ALLOWED", `This route takes ${allowed}, not ${method}.`, {
    details: { allowed },
  });
}

function paramsOf(pattern: URLPattern, pathname: string): Record<string, string> {
  const groups = pattern.exec({ pathname })?.pathname.groups ?? {};
  try {
    return Object.fromEntries(
      Object.entries(groups).map(([name, value]) => [name, decodeURIComponent(value ?? "")]),
    );
  } catch {
    throw new RbeeError("INVALID_REQUEST", "The path holds an escape that is no valid UTF-8.");
  }
}
