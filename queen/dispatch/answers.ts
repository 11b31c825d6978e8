/**
 * One answer, from a request to its end, over as many workers as that takes. What was passed on is never told again, and
 * nothing is left out: a worker that is lost leaves behind where the answer stood, and the next goes on from there.
 */
import { ErrorEnvelopeSchema, errorFromBody, isErrorCode, RbeeError } from "../../protocol/errors.ts";
import { readRelay, type RelayPiece, RelayProgress } from "../../protocol/relay_reader.ts";
import {
  CACHE_SCOPE_HEADER,
  COMMON_TEXT_HEADER,
  type RelayedPath,
  type RelayRequest,
} from "../../protocol/relay_schemas.ts";
import { WORKER_ROUTES } from "../../protocol/routes.ts";
import { StreamCutError } from "../../protocol/sse.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { ClusterWorker } from "../cluster/cluster_worker.ts";
import type { Prefixes, PromptText } from "../cluster/prefixes.ts";
import { ACCEPT_TIMEOUT_MS, WORKER_SILENCE_MS } from "../limits.ts";
import { type Attempt, type Failover, type FailoverRequest, isTurnedAway, Lost } from "./failover.ts";
import type { WaitNews, Wanted } from "./lease.ts";
import { silenceWatch, tokenWatch } from "./silence.ts";

/** A request for an answer. */
export interface AnswerJob {
  /** The path by which it came. */
  readonly route: string;
  /** Of the worker's route that answers it. */
  readonly path: RelayedPath;
  /** Its body, as the route takes it. */
  readonly request: Record<string, unknown>;
  /** It is told as it grows. */
  readonly stream: boolean;
  readonly text: PromptText;
  /** Workers may reuse what they have computed for other requests of this scope, and of no other. */
  readonly cacheScope: string;
  /** What of it everybody may know, see `common_prefixes.ts`. */
  readonly common?: string;
  readonly wanted: FailoverRequest["wanted"];
  readonly startedUnix: number;
  readonly correlationId: string;
  /** Where it stood when an earlier queen was lost, and the strikes that it had, see `suspicion.ts`. */
  readonly progress?: RelayProgress;
  readonly strikes?: number;
}

/** Who is told of it. What it is told of an answer's text is certain; an error ends all. */
export interface AnswerSink {
  /** While it waits. */
  waiting?(news: WaitNews): void;
  /** A worker begins, or goes on. */
  started?(worker: ClusterWorker, progress: RelayProgress): void | Promise<void>;
  /** Its strikes have changed; another worker gets it when that is taken. */
  struck?(strikes: number): void | Promise<void>;
  /** More of it; the next piece waits until this one is taken. */
  piece(piece: RelayPiece, progress: RelayProgress): void | Promise<void>;
}

/** What answers need. */
export interface AnswersOptions {
  cluster: Cluster;
  failover: Failover;
  prefixes: Prefixes;
  /** Milliseconds, only ever forwards. */
  now: () => number;
  /** Called when an answer has its first token. */
  onFirstToken?: (of: Pick<Wanted, "model" | "priority">, ms: number) => void;
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
   * @throws {RbeeError} what the worker says of the request, and as {@linkcode Failover.run}. The signal's reason when
   * that aborts.
   */
  async run(job: AnswerJob, options: { sink: AnswerSink; signal: AbortSignal }): Promise<RelayProgress> {
    const { failover, prefixes } = this.#options;
    const { sink, signal } = options;
    const { wanted, route, correlationId, strikes } = job;
    const progress = job.progress ?? new RelayProgress();
    await failover.run(
      {
        ...{ wanted, route, correlationId, strikes, endsItself: true },
        blocks: () => prefixes.blocksOf(job.text),
        promptTokens: () => progress.promptTokens || undefined,
        told: () => progress.told,
        begun: () => progress.begun !== undefined,
      },
      {
        signal,
        attempt: async (at) => {
          const toldBefore = progress.told;
          try {
            await this.#attempt(job, { at, progress, sink });
          } catch (error) {
            if (error instanceof Lost) progress.restart();
            throw error;
          } finally {
            at.took(progress.told - toldBefore + (toldBefore === 0 ? progress.promptTokens : 0));
          }
        },
        onNews: (news) => sink.waiting?.(news),
        onStrikes: (strikes) => sink.struck?.(strikes),
      },
    );
    return progress;
  }

  async #attempt(
    job: AnswerJob,
    how: { at: Attempt; progress: RelayProgress; sink: AnswerSink },
  ): Promise<void> {
    const { cluster, prefixes, now, onFirstToken } = this.#options;
    const { at, progress, sink } = how;
    const { worker, signal } = at;
    const stop = new AbortController();
    using silence = silenceWatch(WORKER_SILENCE_MS);
    using tokens = tokenWatch((signal) => isWorking(worker, signal));
    const all = AbortSignal.any([signal, silence.signal, tokens.signal, stop.signal]);
    const pieces = await this.#open(job, { at, progress, signal: all, alive: silence.alive });
    tokens.begin();
    await sink.started?.(worker, progress);
    const toldBefore = progress.told;
    let over = false;
    try {
      for await (const piece of pieces) {
        // A worker that leaves before its answer is over says that somebody canceled it. Nobody did.
        if (piece.marks.some((mark) => "over" in mark && mark.over.some(isCanceled))) {
          throw new Lost("left", "canceled there");
        }
        if (piece.marks.some((mark) => "failed" in mark && isTurnedAway(mark.failed))) {
          throw new Lost("left", "it leaves");
        }
        if (piece.marks.length === 0 && !job.stream && piece.text === "") {
          throw new Lost("lost", "the whole answer is missing");
        }
        const isFirst = progress.told === 0;
        for (const mark of piece.marks) progress.add(mark);
        if (piece.marks.some((mark) => "choice" in mark)) tokens.alive();
        await sink.piece(piece, progress);
        if (progress.told > toldBefore) at.told();
        if (isFirst && progress.told > 0) onFirstToken?.(job.wanted, now() - job.wanted.sinceMs);
        over ||= progress.stats !== undefined || progress.failed !== undefined;
        if (piece.marks.some((mark) => "accepted" in mark)) {
          prefixes.learn(job.text, progress.blocks);
          cluster.read(worker, progress.blocks);
        }
      }
    } catch (error) {
      signal.throwIfAborted();
      const isSilent = error === silence.signal.reason || error === tokens.signal.reason;
      if (error instanceof StreamCutError || isSilent) {
        cluster.suspect(worker, now());
        throw new Lost("lost", error);
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
    how: { at: Attempt; progress: RelayProgress; signal: AbortSignal; alive: () => void },
  ): Promise<AsyncGenerator<RelayPiece, void>> {
    const { at, progress, signal, alive } = how;
    const { path, request, startedUnix, wanted, cacheScope, common } = job;
    const body: RelayRequest = {
      path,
      request,
      id: wanted.id,
      started_unix: startedUnix,
      begun: progress.begun,
    };
    const response = await at.call(WORKER_ROUTES.relay.path, {
      headers: {
        [CACHE_SCOPE_HEADER]: cacheScope,
        ...common === undefined ? {} : { [COMMON_TEXT_HEADER]: common },
      },
      ...{ body, signal, acceptMs: ACCEPT_TIMEOUT_MS },
    });
    if (response.ok && response.body !== null) return readRelay(response.body, { signal, onActivity: alive });
    throw await refusal(response, at.worker);
  }
}

/** Whether a worker that says nothing of an answer computes something, and does not stand still. */
async function isWorking({ url, apiKey }: ClusterWorker, signal: AbortSignal): Promise<boolean> {
  const client = new WorkerClient({ baseUrl: url, apiKey });
  return (await client.health({ signal })).status === "alive";
}

async function refusal(response: Response, worker: ClusterWorker): Promise<RbeeError> {
  try {
    return errorFromBody(ErrorEnvelopeSchema.parse(await response.json()).error);
  } catch (cause) {
    return new RbeeError("INTERNAL", `Worker ${worker.id} answered with HTTP ${response.status}.`, { cause });
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
