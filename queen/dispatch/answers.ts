/**
 * One answer, from a request to its end, over as many workers as that takes. What was passed on is never told again, and
 * nothing is left out: a worker that is lost leaves behind where the answer stood, and the next goes on from there.
 */
import type { Logger } from "../../daemon/log.ts";
import {
  type ErrorCode,
  ErrorEnvelopeSchema,
  errorFromBody,
  isErrorCode,
  RbeeError,
} from "../../protocol/errors.ts";
import { readRelay, type RelayPiece, RelayProgress } from "../../protocol/relay_reader.ts";
import type { RelayedPath, RelayRequest } from "../../protocol/relay_schemas.ts";
import { WORKER_ROUTES } from "../../protocol/routes.ts";
import { StreamCutError } from "../../protocol/sse.ts";
import type { Cluster, ClusterWorker } from "../cluster/cluster.ts";
import type { Prefixes, PromptText } from "../cluster/prefixes.ts";
import { ACCEPT_TIMEOUT_MS, ATTEMPTS_MAX, WORKER_SILENCE_MS } from "../limits.ts";
import type { Lease, Scheduler, WaitNews, Wanted } from "./scheduler.ts";
import { silenceWatch } from "./silence.ts";

/** A request for an answer. */
export interface AnswerJob {
  readonly path: RelayedPath;
  /** Its body, as the route takes it. */
  readonly request: Record<string, unknown>;
  /** It is told as it grows. */
  readonly stream: boolean;
  readonly text: PromptText;
  readonly wanted: Omit<Wanted, "begun">;
  readonly startedUnix: number;
  readonly correlationId: string;
  /** Where it stood when an earlier queen was lost. */
  readonly progress?: RelayProgress;
}

/** Who is told of it. What it is told of an answer's text is certain; an error ends all. */
export interface AnswerSink {
  /** While it waits. */
  waiting?(news: WaitNews): void;
  /** A worker begins, or goes on. */
  started?(worker: ClusterWorker, progress: RelayProgress): void | Promise<void>;
  /** More of it; the next piece waits until this one is taken. */
  piece(piece: RelayPiece, progress: RelayProgress): void | Promise<void>;
}

/** What answers need. */
export interface AnswersOptions {
  cluster: Cluster;
  scheduler: Scheduler;
  prefixes: Prefixes;
  log: Logger;
  /** Milliseconds, only ever forwards. */
  now: () => number;
  /** Told of each answer that had to be gone on with elsewhere. */
  onMoved?: () => void;
}

/** What a worker says that will not or cannot answer now, though another may. */
const TURNED_AWAY: ReadonlySet<string> = new Set<ErrorCode>([
  "ALL_SLOTS_BUSY",
  "SHUTTING_DOWN",
  "NOT_READY",
  "INVALID_API_KEY",
]);

/** The worker is lost, or leaves, and the answer is not over. */
class Lost extends Error {
  constructor(cause: unknown) {
    super("The worker was lost.", { cause });
  }
}

/** Runs answers. */
export class Answers {
  readonly #options: AnswersOptions;

  /** See {@linkcode AnswersOptions}. */
  constructor(options: AnswersOptions) {
    this.#options = options;
  }

  /**
   * Resolves with the figures when the answer is over, and all of it told.
   *
   * @throws {RbeeError} what the worker says of the request, what the scheduler says, and `WORKER_CRASHED` when no
   * worker brings it to its end. The signal's reason when that aborts.
   */
  async run(job: AnswerJob, options: { sink: AnswerSink; signal: AbortSignal }): Promise<RelayProgress> {
    const { scheduler, log, now } = this.#options;
    const { sink, signal } = options;
    const progress = job.progress ?? new RelayProgress();
    let lost: unknown;
    let losses = 0;
    for (let again = false; losses < ATTEMPTS_MAX; again = true) {
      const begun = again || progress.begun !== undefined;
      const lease = await scheduler.acquire({ ...job.wanted, ...this.#prefixOf(job), begun }, {
        signal,
        onNews: (news) => sink.waiting?.(news),
      });
      const beforeTokens = progress.told;
      try {
        await this.#attempt(job, { lease, progress, sink, signal });
        return progress;
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof Lost)) throw error;
        lost = error.cause;
        progress.restart();
        // Others had taken the slot: nothing was lost.
        if (lost instanceof RbeeError && lost.code === "ALL_SLOTS_BUSY") continue;
        losses++;
        if (progress.begun !== undefined) this.#options.onMoved?.();
        log.warn("worker lost, its answer goes on elsewhere", {
          job_id: job.wanted.id,
          correlation_id: job.correlationId,
          worker_id: lease.worker.id,
          tokens: progress.told,
          error: lost,
        });
        if (job.wanted.deadlineMs <= now()) break;
      } finally {
        lease.done(progress.told - beforeTokens + (beforeTokens === 0 ? progress.promptTokens : 0));
      }
    }
    throw new RbeeError(
      "WORKER_CRASHED",
      "The workers that had this answer were lost, one after the other.",
      {
        cause: lost,
        details: { tokens_generated: progress.told },
      },
    );
  }

  #prefixOf(job: AnswerJob): Pick<Wanted, "blocks"> {
    return { blocks: this.#options.prefixes.blocksOf(job.text) };
  }

  async #attempt(
    job: AnswerJob,
    how: { lease: Lease; progress: RelayProgress; sink: AnswerSink; signal: AbortSignal },
  ): Promise<void> {
    const { cluster, prefixes } = this.#options;
    const { lease: { worker }, progress, sink, signal } = how;
    const stop = new AbortController();
    using silence = silenceWatch(WORKER_SILENCE_MS);
    const all = AbortSignal.any([signal, silence.signal, stop.signal]);
    const pieces = await this.#open(job, { worker, progress, signal: all, alive: silence.alive });
    await sink.started?.(worker, progress);
    let over = false;
    try {
      for await (const piece of pieces) {
        // A worker that leaves before its answer is over says that somebody canceled it. Nobody did.
        if (piece.marks.some((mark) => "over" in mark && mark.over.some(isCanceled))) {
          throw new Lost("canceled there");
        }
        if (piece.marks.some((mark) => "failed" in mark && TURNED_AWAY.has(mark.failed))) {
          throw new Lost("it leaves");
        }
        if (piece.marks.length === 0 && !job.stream && piece.text === "") {
          throw new Lost("the whole answer is missing");
        }
        for (const mark of piece.marks) progress.add(mark);
        await sink.piece(piece, progress);
        over ||= progress.stats !== undefined || progress.failed !== undefined;
        if (piece.marks.some((mark) => "accepted" in mark)) {
          prefixes.learn(job.text, progress.blocks);
          cluster.read(worker, progress.blocks);
        }
      }
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof StreamCutError || error === silence.signal.reason) {
        cluster.suspect(worker, this.#options.now());
        throw new Lost(error);
      }
      throw error;
    } finally {
      if (!over) stop.abort();
    }
    if (progress.stats !== undefined) cluster.paces.answered(worker, progress.stats);
  }

  /** Has a worker take the request. */
  async #open(
    job: AnswerJob,
    how: { worker: ClusterWorker; progress: RelayProgress; signal: AbortSignal; alive: () => void },
  ): Promise<AsyncGenerator<RelayPiece, void>> {
    const { cluster, now } = this.#options;
    const { worker, progress, signal, alive } = how;
    const { path, request, startedUnix, wanted } = job;
    const body: RelayRequest = {
      path,
      request,
      id: wanted.id,
      started_unix: startedUnix,
      begun: progress.begun,
    };
    const limit = new AbortController();
    const timer = setTimeout(
      () => limit.abort(new RbeeError("CONNECTION_TIMEOUT", "No answer in time.")),
      ACCEPT_TIMEOUT_MS,
    );
    let response: Response;
    try {
      response = await fetch(new URL(WORKER_ROUTES.relay.path, worker.url), {
        method: "POST",
        headers: {
          "Authorization": `Bearer ${worker.apiKey}`,
          "Content-Type": "application/json",
          "X-Correlation-Id": job.correlationId,
          "X-Deadline": String(Math.max(1, Math.ceil(wanted.deadlineMs - now()))),
        },
        body: JSON.stringify(body),
        signal: AbortSignal.any([signal, limit.signal]),
        redirect: "manual",
      });
    } catch (error) {
      cluster.suspect(worker, now());
      throw new Lost(error);
    } finally {
      clearTimeout(timer);
    }
    if (response.ok && response.body !== null) return readRelay(response.body, { signal, onActivity: alive });
    throw await this.#refusal(response, worker);
  }

  async #refusal(response: Response, worker: ClusterWorker): Promise<unknown> {
    const { cluster, now } = this.#options;
    let error: RbeeError;
    try {
      error = errorFromBody(ErrorEnvelopeSchema.parse(await response.json()).error);
    } catch (cause) {
      error = new RbeeError("INTERNAL", `Worker ${worker.id} answered with HTTP ${response.status}.`, {
        cause,
      });
    }
    if (!TURNED_AWAY.has(error.code)) return error;
    if (error.code === "ALL_SLOTS_BUSY") cluster.full(worker);
    else cluster.suspect(worker, now());
    return new Lost(error);
  }
}

function isCanceled({ stop_reason }: { stop_reason: string }): boolean {
  return stop_reason === "canceled";
}

/** The error of an answer that its worker gave up. */
export function failureOf(progress: RelayProgress): RbeeError | undefined {
  const { failed } = progress;
  if (failed === undefined) return undefined;
  return new RbeeError(
    isErrorCode(failed) ? failed : "INTERNAL",
    "The worker could not bring the answer to its end.",
  );
}
