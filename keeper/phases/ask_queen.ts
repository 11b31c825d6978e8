/** The way through a queen: one task, and the same screens as without it. */
import { delay } from "@std/async";
import { errorFromBody, isSilence, RbeeError } from "../../protocol/errors.ts";
import { CANCEL_TIMEOUT_MS } from "../../protocol/limits.ts";
import { QueenClient } from "../../protocol/queen_client.ts";
import type { LoadNews, TaskEvent, TaskInput } from "../../protocol/queen_schemas.ts";
import { StreamCutError } from "../../protocol/sse.ts";
import type { DoneEvent, ModelFacts } from "../../protocol/worker_schemas.ts";
import { watchConnection } from "../connection_watch.ts";
import type { PhaseContext } from "../context.ts";
import { Interrupted } from "../interrupt.ts";
import { QUEEN_REJOIN_DELAYS_MS } from "../limits.ts";
import type { Output } from "../output.ts";
import { downloadLine, loadingLine, STAGES } from "../progress.ts";
import type { QueenAddress } from "../queen.ts";
import { readAhead } from "../read_ahead.ts";
import type { AnswerJob } from "./answer.ts";
import { type Progress, withPartial } from "./generate.ts";

/** How far a task is, as this keeper knows. */
interface Followed extends Progress {
  /** Undefined until it was taken. */
  jobId?: string;
  /** Of the last event that has a number. */
  seq: number;
  /** A bar stands. */
  loading: boolean;
}

/**
 * Answers by way of a queen. A connection that is lost is made again, and the answer goes on where it stood.
 *
 * @returns the figures of the finished answer.
 * @throws {Interrupted} after Ctrl+C, once the queen was told.
 * @throws {RbeeError} everything else; what had arrived is saved then.
 */
export async function askQueen(
  queen: QueenAddress,
  job: AnswerJob,
  context: PhaseContext,
): Promise<DoneEvent> {
  try {
    return await ask(queen, { job, chatTemplate: true }, context);
  } catch (error) {
    // Which models have one is the workers' knowledge.
    if (!lacksTemplate(error)) throw error;
    return await ask(queen, { job, chatTemplate: false }, context);
  }
}

async function ask(
  queen: QueenAddress,
  what: { job: AnswerJob; chatTemplate: boolean },
  context: PhaseContext,
): Promise<DoneEvent> {
  const { job, chatTemplate } = what;
  const { signal, output, correlationId } = context;
  const client = new QueenClient({ baseUrl: queen.url, apiKey: queen.apiKey, correlationId });
  const facts = { chat_template: chatTemplate } as ModelFacts;
  const { stream: _, request_id: __, ...request } = job.requestFor(facts);
  const { model_ref: model, backend, device } = job.wish.request;
  const there = backend === "auto" ? {} : { backend, device };
  const task: TaskInput = { ...request, model, node: queen.node, ...there };
  const followed: Followed = {
    requestId: crypto.randomUUID(),
    maxTokens: request.max_tokens,
    ...{ text: "", tokens: 0, seq: 0, loading: false },
  };
  const rejoinsMax = QUEEN_REJOIN_DELAYS_MS.length;
  for (let rejoins = 0;; rejoins++) {
    try {
      return await follow(client, { queen, task, followed, job }, context);
    } catch (error) {
      if (signal.aborted) throw await stopped(client, followed, signal.reason);
      const cut = error instanceof StreamCutError || isSilence(error);
      if (!cut || followed.jobId === undefined || rejoins === rejoinsMax) throw await failed(error, followed);
      const delayMs = QUEEN_REJOIN_DELAYS_MS[rejoins];
      output.say(
        `The connection to the queen broke off. Joining the answer again in ${delayMs / 1000} s (${
          rejoins + 1
        }/${rejoinsMax}).`,
      );
      // Ctrl+C is heeded by the next try.
      await delay(delayMs, { signal }).catch(() => {});
    }
  }
}

async function follow(
  client: QueenClient,
  what: { queen: QueenAddress; task: TaskInput; followed: Followed; job: AnswerJob },
  context: PhaseContext,
): Promise<DoneEvent> {
  const { queen, task, followed, job } = what;
  using connection = watchConnection(queen.url, context.signal);
  const wait = { signal: connection.signal, onActivity: connection.onActivity };
  const opened = followed.jobId === undefined
    ? await client.run(task, wait)
    : await client.taskEvents(followed.jobId, { ...wait, lastEventId: followed.seq });
  followed.jobId ??= opened.headers.get("X-Job-Id") ?? undefined;
  for await (const event of readAhead(opened.events)) {
    // Nothing is shown after Ctrl+C, while the queen is being told.
    context.signal.throwIfAborted();
    const done = await take(event, { followed, job, output: context.output });
    if (done !== undefined) return done;
  }
  throw new StreamCutError();
}

async function take(
  event: TaskEvent,
  to: { followed: Followed; job: AnswerJob; output: Output },
): Promise<DoneEvent | undefined> {
  const { followed, job, output } = to;
  if ("seq" in event) followed.seq = event.seq ?? followed.seq;
  switch (event.type) {
    case "queued": {
      // Who is first waits for what the reason says, and that may be told with a bar in a moment.
      const eta = event.eta_ms === undefined ? "" : `, about ${Math.ceil(event.eta_ms / 1000)} s`;
      output.progress("Waiting...", `Waiting at position ${event.position + 1}${eta}: ${event.why}`);
      return undefined;
    }
    case "loading":
      followed.loading = true;
      showLoad(event.load, output);
      return undefined;
    case "started":
      if (followed.loading) output.ready();
      followed.loading = false;
      return undefined;
    case "token": {
      const { type: _, seq: __, ...token } = event;
      followed.tokens++;
      followed.text += token.token;
      await job.onEvent(token);
      return undefined;
    }
    case "end": {
      const done: DoneEvent = { done: true, ...event.stats };
      await job.onEvent(done);
      if (done.stop_reason === "deadline") {
        throw new RbeeError("REQUEST_TIMEOUT", "The queen stopped the answer at its deadline");
      }
      return done;
    }
    case "error":
      throw errorFromBody(event.error);
  }
}

function showLoad(load: LoadNews, output: Output): void {
  const { stage, node, bytes_downloaded = 0, bytes_total = 0, speed_mbps = 0, eta_seconds } = load;
  const { layers_loaded = 0, layers_total = 0 } = load;
  switch (stage) {
    case "downloading":
      return output.progress(
        STAGES.downloading,
        `${downloadLine({ bytes_downloaded, bytes_total, speed_mbps, eta_seconds })} on ${node}`,
      );
    case "verifying":
      return output.progress(STAGES.verifying, STAGES.verifying);
    case "retrying":
      return output.say(`The download on ${node} broke off; it goes on.`);
    case "starting":
      return output.progress(STAGES.loading, STAGES.loading);
    case "loading":
      return output.progress(
        STAGES.loading,
        `${loadingLine({ layers_loaded, layers_total })} on ${node}`,
      );
  }
}

/** Tells the queen; resolves to what is to be thrown. */
async function stopped(client: QueenClient, { jobId }: Followed, reason: unknown): Promise<unknown> {
  let canceled = jobId !== undefined;
  try {
    if (jobId !== undefined) await client.cancelTask(jobId, { timeoutMs: CANCEL_TIMEOUT_MS });
  } catch (error) {
    if (!(error instanceof RbeeError)) throw error;
    canceled = false;
  }
  if (!(reason instanceof Interrupted)) return reason;
  return new Interrupted(
    canceled ? "Canceled." : "Canceled (the queen may still be processing).",
    reason.exitCode,
  );
}

async function failed(error: unknown, followed: Followed): Promise<unknown> {
  const known = error instanceof StreamCutError
    ? new RbeeError("NODE_UNREACHABLE", "The connection to the queen was lost", { cause: error })
    : error;
  if (!(known instanceof RbeeError) || followed.tokens === 0) return known;
  return await withPartial(known, followed);
}

function lacksTemplate(error: unknown): boolean {
  return error instanceof RbeeError && error.code === "INVALID_REQUEST" &&
    error.message.includes("has no chat template");
}
