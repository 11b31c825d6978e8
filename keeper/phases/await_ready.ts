/** Phase 7: until the model is in memory. Polling decides; the progress stream drives the bar and ends a pause early. */
import { delay } from "@std/async";
import { errorFromBody, isSilence, RbeeError } from "../../protocol/errors.ts";
import type { WorkerInfo } from "../../protocol/hive_schemas.ts";
import type { HiveClient } from "../../protocol/hive_client.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import type { ReadyResponse } from "../../protocol/worker_schemas.ts";
import type { PhaseContext } from "../context.ts";
import { END_POLL_INTERVAL_MS, END_TOLD_MS, READY_POLL_INTERVAL_MS } from "../limits.ts";
import { type LoadingFigures, loadingLine, STAGES } from "../progress.ts";
import { WorkerGone } from "./worker_gone.ts";

/** Where a loading worker is. */
export interface WorkerAddress {
  /** The hive's name for it. */
  id: string;
  /** Of the worker itself. */
  url: string;
  /** Its own key. */
  apiKey: string;
}

/** Options of {@linkcode awaitReady}. */
export interface AwaitReadyOptions {
  /** Knows what became of a worker that does not answer. */
  hive: HiveClient;
  /** Longest wait. */
  timeoutMs: number;
  /** It was there before: likely ready at once, so no bar flashes by; and it may be about to leave. */
  reused: boolean;
}

/** What the progress stream has told so far. */
interface News {
  figures?: LoadingFigures;
  /** Aborts once the stream has ended: then there is something to ask for. */
  readonly over: AbortSignal;
}

/**
 * Waits until a worker can take requests.
 *
 * @throws {RbeeError} the worker's or the hive's own error when the load failed; `LOADING_TIMEOUT` when it takes too
 * long.
 * @throws {WorkerGone} when it is being stopped.
 */
export async function awaitReady(
  worker: WorkerAddress,
  options: AwaitReadyOptions,
  context: PhaseContext,
): Promise<ReadyResponse & { ready: true }> {
  const { signal, output, correlationId } = context;
  const client = new WorkerClient({ baseUrl: worker.url, apiKey: worker.apiKey, correlationId });
  const deadlineMs = performance.now() + options.timeoutMs;
  if (!options.reused) output.progress(STAGES.loading, STAGES.loading);
  const stop = new AbortController();
  let acted = false;
  const news = follow(client, AbortSignal.any([signal, stop.signal]), context);
  try {
    while (true) {
      const ready = await poll(client, { ...options, id: worker.id, signal });
      if (ready?.ready) {
        if (!options.reused || news.figures !== undefined) output.ready();
        return ready;
      }
      if (ready?.state === "failed") throw errorFromBody(ready.error);
      if (ready?.state === "draining") throw await whyLeaving(worker.id, { hive: options.hive, signal });
      if (performance.now() > deadlineMs) throw loadingTimeout(options.timeoutMs, news.figures);
      // The stream's end is news once: after a poll that did not bear it out, time decides.
      await pauseUntil(acted ? undefined : news.over, signal);
      acted = news.over.aborted;
    }
  } finally {
    stop.abort();
  }
}

/** Follows the progress in the background until `signal` aborts. A stream that breaks is no error: polling goes on. */
function follow(client: WorkerClient, signal: AbortSignal, context: PhaseContext): News {
  const over = new AbortController();
  const news: News = { over: over.signal };
  const run = async () => {
    const { events } = await client.loadingProgress({ signal });
    for await (const event of events) {
      if (event.stage !== "loading_to_vram") return;
      if (signal.aborted) return;
      news.figures = event;
      context.output.progress(STAGES.loading, loadingLine(event));
    }
  };
  run().catch(() => {}).finally(() => over.abort());
  return news;
}

async function poll(
  client: WorkerClient,
  from: { hive: HiveClient; id: string; reused: boolean; signal: AbortSignal },
): Promise<ReadyResponse | undefined> {
  const { hive, id, signal } = from;
  try {
    return await client.ready({ signal });
  } catch (error) {
    if (!isSilence(error)) throw error;
  }
  // Slow is not gone, the machine may be busy reading the model: the hive knows which it is, an end after a moment.
  let info = await hive.worker(id, { signal }).catch(endedIfUnknown);
  for (const untilMs = performance.now() + END_TOLD_MS; runs(info) && performance.now() < untilMs;) {
    await delay(END_POLL_INTERVAL_MS, { signal });
    info = await hive.worker(id, { signal }).catch(endedIfUnknown);
  }
  if (info?.state === "starting" || info?.state === "loading") return undefined;
  if (info !== undefined && runs(info)) throw unreachableWorker(info);
  const ended = info?.error !== undefined
    ? errorFromBody(info.error)
    : new RbeeError("WORKER_CRASHED", `Worker ${id} ended while it was loading its model`, {
      details: { worker_id: id },
    });
  // What was there before has died of something else.
  throw from.reused && ended.code === "WORKER_CRASHED" ? new WorkerGone(ended) : ended;
}

function runs(info: WorkerInfo | undefined): boolean {
  return info?.state === "idle" || info?.state === "busy";
}

function endedIfUnknown(error: unknown): undefined {
  if (!(error instanceof RbeeError && error.code === "WORKER_NOT_FOUND")) throw error;
}

async function pauseUntil(over: AbortSignal | undefined, signal: AbortSignal): Promise<void> {
  try {
    const heeded = over === undefined ? signal : AbortSignal.any([over, signal]);
    await delay(READY_POLL_INTERVAL_MS, { signal: heeded });
  } catch {
    signal.throwIfAborted();
  }
}

/** The way to the worker is another one than the way to its hive. */
function unreachableWorker({ worker_id, url }: WorkerInfo): RbeeError {
  return new RbeeError(
    "NODE_UNREACHABLE",
    `Cannot connect to worker ${worker_id} at ${url}, which runs by its hive's word`,
    {
      details: {
        worker_id,
        advice: [
          "Open the node's worker ports in its firewall (hive.worker_ports, 8001 to 8999 unless configured),",
          "or set hive.advertise there to a name under which this machine reaches it.",
        ],
      },
    },
  );
}

/** It was stopped: by its hive, which may have had enough of its load and says so, or by somebody. */
async function whyLeaving(id: string, from: { hive: HiveClient; signal: AbortSignal }): Promise<Error> {
  const info = await from.hive.worker(id, { signal: from.signal }).catch(endedIfUnknown);
  if (info?.error !== undefined) return errorFromBody(info.error);
  return new WorkerGone(
    new RbeeError("SHUTTING_DOWN", `Worker ${id} is being stopped`, { details: { worker_id: id } }),
  );
}

function loadingTimeout(timeoutMs: number, at: LoadingFigures | undefined): RbeeError {
  const where = at === undefined
    ? "no layer was reported"
    : `stuck at layer ${at.layers_loaded} of ${at.layers_total}`;
  return new RbeeError("LOADING_TIMEOUT", `The model was not loaded within ${timeoutMs / 1000} s: ${where}`, {
    details: at === undefined ? {} : { ...at },
  });
}
