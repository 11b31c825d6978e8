/** `POST /v1/inference` and `…/resume`: checked work in, a stream of events or one JSON object out. */
import { eventResponse, type RequestContext } from "../daemon/serve.ts";
import { RbeeError } from "../protocol/errors.ts";
import { eventStream, type EventWriter, formatEvent } from "../protocol/sse.ts";
import type { InferenceResponse, InferenceStats, TokenEvent } from "../protocol/worker_schemas.ts";
import type { Work } from "./work.ts";
import type { RunOptions, Worker } from "./worker.ts";

/** Answers checked work. Throws any {@linkcode RbeeError} before the first byte; later ones go into the stream. */
export async function answerInference(
  worker: Worker,
  what: { work: Work; requestId?: string; stream: boolean },
  context: RequestContext,
): Promise<Response> {
  const { work, stream, requestId = crypto.randomUUID() } = what;
  const options: RunOptions = { requestId, deadlineMs: deadlineOf(context.request.headers) };
  const log = context.log.child({ request_id: requestId });
  const logDone = (stats: InferenceStats) => log.info("answer ended", { ...stats });
  const logFailed = (error: RbeeError) => log.error("answer failed", { error });
  const run = { worker, work, options, log: { done: logDone, failed: logFailed } };
  return stream ? await streamed(run, context) : await whole(run, context);
}

interface Run {
  worker: Worker;
  work: Work;
  options: RunOptions;
  log: { done(stats: InferenceStats): void; failed(error: RbeeError): void };
}

async function streamed(run: Run, context: RequestContext): Promise<Response> {
  const { worker, work, options, log } = run;
  const { requestId } = options;
  let writer!: EventWriter;
  // A reader that goes away is a cancel.
  const stream = eventStream((opened) => writer = opened, { onCancel: () => worker.cancel(requestId) });
  try {
    await worker.run(work, {
      ...options,
      sink: {
        // One chunk per batch, one event per token.
        tokens: (tokens) => writer.write(tokens.map(formatEvent).join("")),
        done: (stats) => {
          log.done(stats);
          writer.send({ done: true, ...stats });
          writer.end();
        },
        failed: (error) => {
          log.failed(error);
          writer.send({ error: error.toBody(context.correlationId) });
          writer.end();
        },
      },
    });
  } catch (error) {
    writer.end();
    throw error;
  }
  return eventResponse(stream, { "X-Request-Id": requestId });
}

async function whole(run: Run, context: RequestContext): Promise<Response> {
  const { worker, work, options, log } = run;
  const { requestId } = options;
  const cancel = () => worker.cancel(requestId);
  context.request.signal.addEventListener("abort", cancel, { once: true });
  const tokens: TokenEvent[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<InferenceStats>();
  // Rejects before anybody waits when the answer fails at once.
  promise.catch(() => {});
  try {
    await worker.run(work, {
      ...options,
      sink: { tokens: (batch) => void tokens.push(...batch), done: resolve, failed: reject },
    });
    const stats = await promise;
    log.done(stats);
    const body: InferenceResponse = {
      request_id: requestId,
      text: tokens.map((token) => token.token).join(""),
      token_ids: tokens.map((token) => token.id),
      ...stats,
    };
    if (work.logprobs !== undefined) {
      body.logprobs = tokens.map(({ id, token, logprob = 0, top_logprobs = [] }) => ({
        id,
        token,
        logprob,
        top_logprobs,
      }));
    }
    return Response.json(body, { headers: { "X-Request-Id": requestId } });
  } finally {
    context.request.signal.removeEventListener("abort", cancel);
  }
}

/**
 * Milliseconds that a request has left: `X-Request-Deadline` is a point in time (ISO 8601), `X-Deadline` a number of
 * milliseconds from now; the earlier one counts.
 *
 * @throws {RbeeError} `INVALID_REQUEST` for what is neither, `REQUEST_TIMEOUT` when nothing is left.
 */
export function deadlineOf(headers: Headers, nowMs = Date.now()): number | undefined {
  const left: number[] = [];
  const fail = (name: string, expected: string): never => {
    throw new RbeeError("INVALID_REQUEST", `The header ${name} must be ${expected}.`, {
      details: { errors: [{ field: name, constraint: "format", message: `must be ${expected}` }] },
    });
  };
  const point = headers.get("X-Request-Deadline");
  if (point !== null) {
    const atMs = /^\d{4}-\d\d-\d\dT/.test(point) ? Date.parse(point) : NaN;
    if (Number.isNaN(atMs)) fail("X-Request-Deadline", "a time like 2030-01-31T12:00:00Z");
    left.push(atMs - nowMs);
  }
  const relative = headers.get("X-Deadline");
  if (relative !== null) {
    if (!/^\d{1,12}$/.test(relative)) fail("X-Deadline", "a whole number of milliseconds");
    left.push(Number(relative));
  }
  if (left.length === 0) return undefined;
  const leftMs = Math.min(...left);
  if (leftMs <= 0) throw new RbeeError("REQUEST_TIMEOUT", "The request's deadline has passed.");
  return leftMs;
}
