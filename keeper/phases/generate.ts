/** Phase 8: one request to a worker, its events handed on as they come, and every way in which that can end. */
import { abortable, delay } from "@std/async";
import { errorFromBody, RbeeError } from "../../protocol/errors.ts";
import { CANCEL_TIMEOUT_MS, FIRST_TOKEN_TIMEOUT_MS } from "../../protocol/limits.ts";
import { StreamCutError } from "../../protocol/sse.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import type { InferenceInput } from "../../protocol/worker_requests.ts";
import type { DoneEvent, TokenEvent } from "../../protocol/worker_schemas.ts";
import { watchConnection } from "../connection_watch.ts";
import type { PhaseContext } from "../context.ts";
import { Interrupted } from "../interrupt.ts";
import { BUSY_FIRST_DELAY_MS, BUSY_MAX_DELAY_MS } from "../limits.ts";
import { savePartialAnswer } from "../partial_answer.ts";
import { pauseTimer } from "../pause_timer.ts";
import { readAhead } from "../read_ahead.ts";
import type { LiveWorker } from "./find_worker.ts";
import { WorkerGone } from "./worker_gone.ts";

/** Options of {@linkcode generate}. */
export interface GenerateOptions extends PhaseContext {
  /** EC6: how often a busy worker is asked again. */
  retries: number;
  /** Told of every token and of the terminal event. */
  onEvent: (event: TokenEvent | DoneEvent) => Promise<void>;
  /** Longest wait for the first token (default: SPEC §10) and between two. */
  limits: { firstTokenMs?: number; tokenGapMs: number };
}

/** Codes with which a worker that is gone, leaving, or not the one it was meets a request. */
const GONE = new Set([
  "NODE_UNREACHABLE",
  "CONNECTION_TIMEOUT",
  "SHUTTING_DOWN",
  "NOT_READY",
  "INVALID_API_KEY",
]);

/** What has arrived so far. */
export interface Progress {
  readonly requestId: string;
  readonly maxTokens?: number;
  text: string;
  tokens: number;
}

/**
 * Generates an answer.
 *
 * @returns the figures of the finished answer.
 * @throws {WorkerGone} when the request was not taken.
 * @throws {Interrupted} after Ctrl+C, once the worker was told.
 * @throws {RbeeError} everything else; what had arrived is saved then, see the error's details `partial_path`,
 * `tokens_generated`, `max_tokens`.
 */
export async function generate(
  worker: LiveWorker,
  request: InferenceInput,
  options: GenerateOptions,
): Promise<DoneEvent> {
  const client = new WorkerClient({
    baseUrl: worker.url,
    apiKey: worker.apiKey,
    correlationId: options.correlationId,
  });
  const progress = { requestId: crypto.randomUUID(), maxTokens: request.max_tokens, text: "", tokens: 0 };
  // The stream outlives the caller's signal by one call: the one that tells the worker to stop.
  const stop = new AbortController();
  const receiving = receive(client, { ...request, request_id: progress.requestId }, {
    ...options,
    url: worker.url,
    progress,
    stop: stop.signal,
  });
  try {
    // Not only the stream heeds the signal: writing to a full pipe would never end.
    return await abortable(receiving, options.signal);
  } catch (error) {
    throw await ending(error, { client, progress });
  } finally {
    stop.abort();
  }
}

async function receive(
  client: WorkerClient,
  request: InferenceInput,
  options: GenerateOptions & { url: string; progress: Progress; stop: AbortSignal },
): Promise<DoneEvent> {
  const { progress, onEvent } = options;
  const { firstTokenMs = FIRST_TOKEN_TIMEOUT_MS, tokenGapMs } = options.limits;
  using silence = pauseTimer(firstTokenMs, (ms) => noToken(ms));
  using connection = watchConnection(options.url, AbortSignal.any([options.stop, silence.signal]));
  const { events } = await untilFree(options, () => {
    silence.restart(firstTokenMs);
    return client.infer(request, {
      signal: connection.signal,
      onActivity: connection.onActivity,
      // Never the first to lose patience.
      timeoutMs: 2 * firstTokenMs,
    });
  });
  // A pager or Ctrl+S stops the showing, not the coming.
  const restart = () => silence.restart(tokenGapMs);
  for await (const event of readAhead(events, restart)) {
    // Nothing is shown after Ctrl+C, while the worker is being told.
    options.signal.throwIfAborted();
    if ("error" in event) throw errorFromBody(event.error);
    if ("done" in event) {
      await onEvent(event);
      return checkedEnd(event);
    }
    progress.tokens++;
    progress.text += event.token;
    await onEvent(event);
  }
  throw new StreamCutError();
}

/** EC6: asks again after 1, 2, 4 … s while all slots are busy. */
async function untilFree<T>(
  options: GenerateOptions & { stop: AbortSignal },
  ask: () => Promise<T>,
): Promise<T> {
  const { retries, output, stop } = options;
  for (let retry = 0, waitedMs = 0;; retry++) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof RbeeError)) throw error;
      if (GONE.has(error.code)) throw new WorkerGone(error);
      if (error.code !== "ALL_SLOTS_BUSY") throw error;
      const busy = busySlots(error.details.slots_total);
      if (retry >= retries) {
        const tries = `${retry + 1} ${retry === 0 ? "try" : "tries"} in ${waitedMs / 1000} s`;
        throw new RbeeError("ALL_SLOTS_BUSY", `${busy}, after ${tries}`, {
          details: error.details,
          cause: error,
        });
      }
      const delayMs = busyDelayMs(retry);
      output.say(
        `${busy}. Trying again in ${delayMs / 1000} s (${retry + 1}/${retries}).`,
      );
      await delay(delayMs, { signal: stop });
      waitedMs += delayMs;
    }
  }
}

function busySlots(total: unknown): string {
  if (total === 1) return "The worker's only slot is busy";
  return `All ${typeof total === "number" ? `${total} ` : ""}slots of the worker are busy`;
}

/** 1, 2, 4 … s, up to a limit. */
export function busyDelayMs(retry: number): number {
  return Math.min(BUSY_FIRST_DELAY_MS * 2 ** retry, BUSY_MAX_DELAY_MS);
}

/** An answer that somebody else ended is no answer. */
function checkedEnd(event: DoneEvent): DoneEvent {
  if (event.stop_reason === "canceled") {
    throw new RbeeError("REQUEST_CANCELED", "The request was canceled at the worker, not by this command");
  }
  if (event.stop_reason === "deadline") {
    throw new RbeeError("REQUEST_TIMEOUT", "The worker stopped the answer at its deadline");
  }
  return event;
}

/** What to throw for what happened: tells the worker to stop if it may still be at it, and saves what arrived. */
async function ending(error: unknown, from: { client: WorkerClient; progress: Progress }): Promise<unknown> {
  const { client, progress } = from;
  if (error instanceof WorkerGone || error instanceof Deno.errors.BrokenPipe) return error;
  if (error instanceof Interrupted) {
    const canceled = await cancel(client, progress.requestId);
    return new Interrupted(
      canceled ? "Canceled." : "Canceled (worker may still be processing).",
      error.exitCode,
    );
  }
  const known = asRbeeError(error, progress);
  if (known === undefined) return error;
  // The worker's own word, or its end, needs no cancel.
  const running = !(error instanceof StreamCutError) && known.correlationId === undefined;
  if (running && known.code !== "ALL_SLOTS_BUSY") await cancel(client, progress.requestId);
  return progress.tokens === 0 ? known : await withPartial(known, progress);
}

function asRbeeError(error: unknown, progress: Progress): RbeeError | undefined {
  if (error instanceof RbeeError) return error;
  if (error instanceof StreamCutError) {
    const where = progress.tokens === 0 ? "before its first token" : "in the middle of its answer";
    return new RbeeError("WORKER_CRASHED", `The worker died or the connection to it was lost ${where}`, {
      cause: error,
    });
  }
  if (error instanceof SyntaxError || error instanceof RangeError) {
    return new RbeeError("INTERNAL", `The worker sent an event that can't be read: ${error.message}`, {
      cause: error,
    });
  }
}

async function cancel(client: WorkerClient, requestId: string): Promise<boolean> {
  try {
    await client.cancel(requestId, { timeoutMs: CANCEL_TIMEOUT_MS });
    return true;
  } catch (error) {
    if (error instanceof RbeeError) return false;
    throw error;
  }
}

/** The same error, once what has arrived is saved. */
export async function withPartial(error: RbeeError, progress: Progress): Promise<RbeeError> {
  let saved: Record<string, unknown>;
  try {
    saved = { partial_path: await savePartialAnswer(progress.requestId, progress.text) };
  } catch (cause) {
    saved = { partial_error: cause instanceof Error ? cause.message : String(cause) };
  }
  const details = {
    ...error.details,
    ...saved,
    tokens_generated: progress.tokens,
    max_tokens: progress.maxTokens,
  };
  const { correlationId } = error;
  return new RbeeError(error.code, error.message, { details, correlationId, cause: error });
}

function noToken(ms: number): RbeeError {
  return new RbeeError("REQUEST_TIMEOUT", `No token came for ${ms / 1000} s; the request was canceled`, {
    details: { advice: ["The machine may be overloaded. Run the command again, or use a smaller model."] },
  });
}
