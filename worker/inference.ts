/** `POST /v1/inference` and `…/resume`: checked work in, a stream of events or one JSON object out. */
import { deadlineOf } from "../daemon/deadline.ts";
import { eventResponse } from "../daemon/serve.ts";
import type { RbeeError } from "../protocol/errors.ts";
import { eventStream, type EventWriter, formatEvent } from "../protocol/sse.ts";
import type { InferenceResponse, InferenceStats, TokenEvent } from "../protocol/worker_schemas.ts";
import { type AnswerContext, Marks, type Relay } from "./apis/relay.ts";
import type { Work } from "./work.ts";
import type { RunOptions, Worker } from "./worker.ts";

/** Answers checked work. Throws any {@linkcode RbeeError} before the first byte; later ones go into the stream. */
export async function answerInference(
  worker: Worker,
  what: { work: Work; requestId?: string; stream: boolean },
  context: AnswerContext,
): Promise<Response> {
  const { stream, requestId = context.relay?.id ?? crypto.randomUUID() } = what;
  const work = relayed(what.work, context.relay);
  // What is relayed may have been lost on this very worker a moment ago.
  const runId = context.relay === undefined ? requestId : crypto.randomUUID();
  const options: RunOptions = { requestId: runId, deadlineMs: deadlineOf(context.request.headers) };
  const log = context.log.child({ request_id: requestId });
  const logDone = (stats: InferenceStats) => log.info("answer ended", { ...stats });
  const logFailed = (error: RbeeError) => log.error("answer failed", { error });
  const run = { worker, work, requestId, options, log: { done: logDone, failed: logFailed } };
  return stream ? await streamed(run, context) : await whole(run, context);
}

interface Run {
  worker: Worker;
  work: Work;
  /** What the answer is called; the worker may know it by another name. */
  requestId: string;
  options: RunOptions;
  log: { done(stats: InferenceStats): void; failed(error: RbeeError): void };
}

/** With what was generated of it elsewhere. */
function relayed(work: Work, relay: Relay | undefined): Work {
  return relay === undefined ? work : {
    ...{ ...work, marked: true, cacheScope: relay.cacheScope, common: relay.common, begun: relay.begun?.[0] },
  } as Work;
}

async function streamed(run: Run, context: AnswerContext): Promise<Response> {
  const { worker, work, requestId, options, log } = run;
  let writer!: EventWriter;
  // A reader that goes away is a cancel.
  const stream = eventStream((opened) => writer = opened, {
    onCancel: () => worker.cancel(options.requestId),
  });
  // What is told and its mark go out as one chunk: who relays it is woken once.
  let mark = "";
  const marks = context.relay && new Marks((text) => void (mark += text));
  const write = (text: string) => {
    writer.write(text + mark);
    mark = "";
  };
  try {
    await worker.run(work, {
      ...options,
      sink: {
        // Who relays it hears of it with the first token: nobody is woken while the prompt is read.
        accepted: (accepted) => marks?.accepted([accepted]),
        tokens(tokens, where) {
          marks?.told(0, tokens, where);
          // One chunk per batch, one event per token.
          write(tokens.map(formatEvent).join(""));
        },
        done(stats) {
          log.done(stats);
          marks?.ended(0, stats);
          marks?.over();
          write(formatEvent({ done: true, ...stats }));
          writer.end();
        },
        failed(error) {
          log.failed(error);
          marks?.failed(error);
          write(formatEvent({ error: error.toBody(context.correlationId) }));
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

async function whole(run: Run, context: AnswerContext): Promise<Response> {
  const { worker, work, requestId, options, log } = run;
  const cancel = () => worker.cancel(options.requestId);
  context.request.signal.addEventListener("abort", cancel, { once: true });
  const marks = context.relay && new Marks(context.relay.write);
  const tokens: TokenEvent[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<InferenceStats>();
  // Rejects before anybody waits when the answer fails at once.
  promise.catch(() => {});
  try {
    const { sentTexts } = await worker.run(work, {
      ...options,
      sink: {
        accepted: (accepted) => marks?.accepted([accepted]),
        tokens(batch, mark) {
          tokens.push(...batch);
          marks?.told(0, batch, mark);
        },
        done: resolve,
        failed: reject,
      },
    });
    const stats = await promise;
    log.done(stats);
    marks?.ended(0, stats);
    marks?.over();
    const body: InferenceResponse = {
      request_id: requestId,
      text: [...sentTexts, ...tokens.map((token) => token.token)].join(""),
      token_ids: [...sentIds(context.relay, sentTexts.length), ...tokens.map((token) => token.id)],
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

/** What another worker has told. */
function sentIds(relay: Relay | undefined, count: number): readonly number[] {
  return relay?.begun?.[0].generated.slice(0, count) ?? [];
}
