/** How one part calls another: one request function with deadline, retries, correlation id and typed answers. */
import type * as z from "zod";
import { concatBytes } from "./bytes.ts";
import { cancelOn } from "./cancel_on.ts";
import { CORRELATION_HEADER, newCorrelationId } from "./correlation.ts";
import { ErrorEnvelopeSchema, errorFromBody, fieldErrors, isSilence, RbeeError } from "./errors.ts";
import { CONTROL_TIMEOUT_MS, MAX_ANSWER_BYTES } from "./limits.ts";
import { printable } from "./printable.ts";
import { routePath, type RouteSpec } from "./routes.ts";
import { readEvents } from "./sse.ts";

/** Most wrong fields of an answer that its error names. */
const MAX_PROBLEMS_SHOWN = 3;

/** Whom to call and as whom. */
export interface ClientOptions {
  /** `http://host:port`, no path. */
  baseUrl: string;
  /** The daemon's key; absent for open routes. */
  apiKey?: string;
  /** Sent with every call; one is made up when absent. */
  correlationId?: string;
}

/** When to try again after a failed connection. */
export interface RetryPlan {
  /** Pause before each attempt, in ms; its length is the number of attempts. */
  delaysMs: readonly number[];
  /** Told before every attempt but the first, and after the last failure. */
  onFailure?: (failure: { attempt: number; attempts: number; error: RbeeError }) => void;
}

/** One call. */
export interface CallOptions {
  /** Values of `:name` in the path. */
  params?: Record<string, string>;
  /** Query string; undefined values are left out. */
  query?: Record<string, string | undefined>;
  /** Sent as JSON. */
  body?: unknown;
  /** Sent beside the usual ones. */
  headers?: Record<string, string>;
  /** Ends the call. */
  signal?: AbortSignal;
  /** Until the answer's headers (streams) or its end (calls), per attempt. */
  timeoutMs?: number;
  /** Only for calls that may safely happen twice. */
  retry?: RetryPlan;
}

const ONCE: RetryPlan = { delaysMs: [0] };

/**
 * Calls a route and parses its JSON answer.
 *
 * @throws {RbeeError} the peer's own error; `NODE_UNREACHABLE` or `CONNECTION_TIMEOUT` when there was no answer;
 * `INTERNAL` when the answer does not fit the schema. The signal's own reason when the caller aborted.
 */
export async function callRoute<T>(
  client: ClientOptions,
  call: CallOptions & { route: RouteSpec; schema: z.ZodType<T> },
): Promise<T> {
  return await withRetries(call, async (signal) => {
    const response = await send(client, call, signal);
    return await parseBody(response, { schema: call.schema, client, route: call.route, signal });
  });
}

/** Calls a route whose success has no body. Same errors as {@linkcode callRoute}. */
export async function callRouteEmpty(
  client: ClientOptions,
  call: CallOptions & { route: RouteSpec },
): Promise<void> {
  await withRetries(call, async (signal) => {
    const response = await send(client, call, signal);
    await response.body?.cancel();
  });
}

/** Calls a route that answers with text. Same errors as {@linkcode callRoute}. */
export async function callRouteText(
  client: ClientOptions,
  call: CallOptions & { route: RouteSpec },
): Promise<string> {
  return await withRetries(call, async (signal) => {
    const response = await send(client, call, signal);
    return await bodyOf(response, { client, route: call.route, signal });
  });
}

/** An open event stream. */
export interface OpenStream<T> {
  /** For `X-Request-Id` and the like. */
  headers: Headers;
  /** Parsed events up to `[DONE]`. Leaving the loop closes the connection. */
  events: AsyncGenerator<T, void>;
}

/**
 * Calls a route that answers with events. `timeoutMs` limits the wait for the headers only; the caller watches gaps
 * through `onActivity`. Same errors as {@linkcode callRoute}; the events throw what {@linkcode readEvents} throws,
 * and `INTERNAL` for an event that fails its schema.
 */
export async function openStream<T>(
  client: ClientOptions,
  call: CallOptions & { route: RouteSpec; schema: z.ZodType<T>; onActivity?: () => void },
): Promise<OpenStream<T>> {
  const { headers, body } = await openAnswer(client, call);
  if (body === null) throw malformed(client, call.route, "no body");
  const parsed = async function* () {
    for await (const event of readEvents(body, { onActivity: call.onActivity, signal: call.signal })) {
      const result = call.schema.safeParse(event);
      if (!result.success) throw malformed(client, call.route, problems(result.error));
      yield result.data;
    }
  };
  return { headers, events: parsed() };
}

/**
 * Calls a route for who reads the answer by itself, or passes it on as it comes. `timeoutMs` limits the wait for the
 * headers only. Same errors as {@linkcode callRoute}.
 */
export async function openAnswer(
  client: ClientOptions,
  call: CallOptions & { route: RouteSpec },
): Promise<Response> {
  const whole = new AbortController();
  const signal = call.signal ? AbortSignal.any([call.signal, whole.signal]) : whole.signal;
  const timer = setTimeout(() => whole.abort(timeoutReason()), call.timeoutMs ?? CONTROL_TIMEOUT_MS);
  try {
    return await send(client, call, signal);
  } catch (error) {
    throw asConnectionError(error, client, call.signal);
  } finally {
    clearTimeout(timer);
  }
}

async function withRetries<T>(call: CallOptions, once: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const plan = call.retry ?? ONCE;
  const attempts = plan.delaysMs.length;
  for (let attempt = 1;; attempt++) {
    const delayMs = plan.delaysMs[attempt - 1];
    if (delayMs > 0) await abortableDelay(delayMs, call.signal);
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(timeoutReason()), call.timeoutMs ?? CONTROL_TIMEOUT_MS);
    try {
      return await once(call.signal ? AbortSignal.any([call.signal, timeout.signal]) : timeout.signal);
    } catch (error) {
      call.signal?.throwIfAborted();
      if (!isSilence(error) || error.correlationId !== undefined) throw error;
      plan.onFailure?.({ attempt, attempts, error });
      if (attempt >= attempts) throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

async function send(client: ClientOptions, call: CallOptions & { route: RouteSpec }, signal: AbortSignal) {
  const url = new URL(routePath(call.route, call.params), client.baseUrl);
  for (const [name, value] of Object.entries(call.query ?? {})) {
    if (value !== undefined) url.searchParams.set(name, value);
  }
  const headers = new Headers(call.headers);
  headers.set(CORRELATION_HEADER, client.correlationId ?? newCorrelationId());
  if (client.apiKey !== undefined) headers.set("Authorization", bearer(client.apiKey));
  if (call.body !== undefined) headers.set("Content-Type", "application/json");
  try {
    const response = await fetch(url, {
      method: call.route.method,
      headers,
      body: call.body === undefined ? undefined : JSON.stringify(call.body),
      signal,
      // A daemon never redirects; following one could carry the key to a stranger.
      redirect: "manual",
    });
    if (!response.ok) throw await errorOf(response, client, signal);
    return response;
  } catch (error) {
    throw asConnectionError(error, client, call.signal);
  }
}

/** The error of `Headers` for such a key would quote it. */
function bearer(apiKey: string): string {
  if (/^[\x21-\x7e]+$/.test(apiKey)) return `Bearer ${apiKey}`;
  throw new RbeeError("INVALID_REQUEST", "The API key holds characters that no header can carry.");
}

async function parseBody<T>(
  response: Response,
  context: { schema: z.ZodType<T>; client: ClientOptions; route: RouteSpec; signal: AbortSignal },
): Promise<T> {
  const text = await bodyOf(response, context);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw malformed(context.client, context.route, "no JSON");
  }
  const result = context.schema.safeParse(json);
  if (!result.success) throw malformed(context.client, context.route, problems(result.error));
  return result.data;
}

async function bodyOf(
  response: Response,
  context: { client: ClientOptions; route: RouteSpec; signal: AbortSignal },
): Promise<string> {
  try {
    return await textOf(response, context.signal);
  } catch (error) {
    if (error instanceof RangeError) throw malformed(context.client, context.route, error.message);
    throw asConnectionError(error, context.client);
  }
}

/**
 * A body as a whole. Unlike `Response.text` it heeds the signal for sure (see {@linkcode cancelOn}), and has a bound.
 *
 * @throws {RangeError} beyond {@linkcode MAX_ANSWER_BYTES}. The signal's reason when that aborts.
 */
async function textOf(response: Response, signal: AbortSignal): Promise<string> {
  if (response.body === null) return "";
  const reader = response.body.getReader();
  using _canceling = cancelOn(signal, reader);
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes += value.length;
    if (bytes > MAX_ANSWER_BYTES) {
      await reader.cancel();
      throw new RangeError(`more than ${MAX_ANSWER_BYTES} bytes`);
    }
    chunks.push(value);
  }
  signal.throwIfAborted();
  return new TextDecoder().decode(concatBytes(chunks));
}

async function errorOf(response: Response, client: ClientOptions, signal: AbortSignal): Promise<RbeeError> {
  try {
    const text = await textOf(response, signal);
    const retryAfter = /^\d{1,9}$/.exec(response.headers.get("Retry-After") ?? "");
    return errorFromBody(
      ErrorEnvelopeSchema.parse(JSON.parse(text)).error,
      retryAfter ? Number(retryAfter[0]) : undefined,
    );
  } catch {
    signal.throwIfAborted();
    return new RbeeError(
      "INTERNAL",
      `${client.baseUrl} answered with HTTP ${response.status} and no error envelope. Is this a daemon of rbee?`,
      { details: { status: response.status } },
    );
  }
}

function malformed(client: ClientOptions, route: RouteSpec, why: string): RbeeError {
  return new RbeeError(
    "INTERNAL",
    `${client.baseUrl} gave a malformed answer to ${route.method} ${route.path}: ${why}`,
    {
      details: {
        url: client.baseUrl,
        advice: ["Check that the address is that of a daemon of rbee, and of the same version."],
      },
    },
  );
}

/** The first few on one line: what is wrong with one field is seldom news beside what is wrong with the next. */
function problems(error: z.ZodError): string {
  const all = fieldErrors(error).map(({ field, message }) =>
    `${printable(field) || "the whole"}: ${message}`
  );
  const more = all.length - MAX_PROBLEMS_SHOWN;
  return all.slice(0, MAX_PROBLEMS_SHOWN).join("; ") + (more > 0 ? `; and ${more} more` : "");
}

function timeoutReason(): RbeeError {
  return new RbeeError("CONNECTION_TIMEOUT", "No answer in time.");
}

function asConnectionError(error: unknown, client: ClientOptions, caller?: AbortSignal): unknown {
  if (caller?.aborted) return caller.reason;
  const where = new URL(client.baseUrl).host;
  if (error instanceof RbeeError) {
    return error.code === "CONNECTION_TIMEOUT" && error.correlationId === undefined
      ? new RbeeError("CONNECTION_TIMEOUT", `${where} did not answer in time.`, { cause: error })
      : error;
  }
  if (error instanceof TypeError) {
    return new RbeeError("NODE_UNREACHABLE", `Cannot connect to ${where}: ${rootMessage(error)}`, {
      cause: error,
    });
  }
  return error;
}

/** Network errors of `fetch` carry the telling part in a chain of causes. */
function rootMessage(error: Error): string {
  let at: Error = error;
  while (at.cause instanceof Error) at = at.cause;
  // What is left says again whom it was sent to, and through which layers.
  return at.message.replace(/^error sending request( from \S+)? for url \(.*?\): /, "")
    .replace(/^client error \(\w+\): /, "").replace(/^tcp connect error: /, "");
}

async function abortableDelay(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
