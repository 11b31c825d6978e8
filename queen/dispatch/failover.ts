/**
 * The one loop that brings a request to a worker, and to the next when that one is lost, for every route of the queen:
 * one deadline, one list of refusals that another worker need not share, one place that counts what a request costs.
 */
import type { Logger } from "../../daemon/log.ts";
import { concatBytes } from "../../protocol/bytes.ts";
import { cancelOn } from "../../protocol/cancel_on.ts";
import { type ErrorCode, ErrorEnvelopeSchema, errorFromBody, RbeeError } from "../../protocol/errors.ts";
import { MAX_ANSWER_BYTES } from "../../protocol/limits.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { ClusterWorker } from "../cluster/cluster_worker.ts";
import { ACCEPT_TIMEOUT_MS, ATTEMPTS_MAX, DEADLINE_GRACE_MS } from "../limits.ts";
import type { Offenders } from "./offenders.ts";
import type { Lease, WaitNews, Wanted } from "./lease.ts";
import type { LiveRequest, LiveRequests } from "./live_requests.ts";
import type { Scheduler } from "./scheduler.ts";
import { type Charges, judge } from "./suspicion.ts";

/** Refusals of a worker that says nothing about the request: another worker may take it. */
const TURNED_AWAY: ReadonlySet<string> = new Set<ErrorCode>([
  "ALL_SLOTS_BUSY",
  "SHUTTING_DOWN",
  "NOT_READY",
  "INVALID_API_KEY",
]);

/**
 * Keeps no connections. `fetch` sends a request again by itself when a connection that it kept breaks: the request would
 * run twice, and one that killed its worker would end in a refused connection, as if it had never been sent.
 */
const CONNECTS_ANEW = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });

/** Whether a code says only that this worker does not take the request now. */
export function isTurnedAway(code: string): boolean {
  return TURNED_AWAY.has(code);
}

/** A request that some worker is to answer. */
export interface FailoverRequest {
  readonly wanted: Omit<Wanted, "begun" | "suspect" | "blocks">;
  /** The path by which it came. */
  readonly route: string;
  /** Workers answer it beside their slots; it takes one only when it is a suspect. */
  readonly slotless?: boolean;
  readonly correlationId: string;
  /** Strikes it had when an earlier queen was lost. */
  readonly strikes?: number;
  /** Workers end it at its deadline by themselves; the queen gives them a moment for that. */
  readonly endsItself?: boolean;
  /** Asked before each attempt: what the prompt begins with, as far as that is known by then. */
  blocks?(): ArrayLike<number>;
  /** Tokens of its prompt, once they are counted. */
  promptTokens?(): number | undefined;
  /** Tokens told so far; absent: it has none. */
  told?(): number;
  /** Whether a client has seen a part of the answer. */
  begun?(): boolean;
}

/** One worker that has the request. */
export interface Attempt {
  readonly worker: ClusterWorker;
  /** Aborts when the caller leaves or the deadline passes. */
  readonly signal: AbortSignal;
  /**
   * Sends the request there; `acceptMs` is the longest time until the worker begins to answer. An answer that is not a
   * success has been read already.
   *
   * @throws {Lost} when the worker turns it away, or is lost.
   */
  call(
    path: string,
    what: { body: unknown; headers?: Record<string, string>; signal?: AbortSignal; acceptMs?: number },
  ): Promise<Response>;
  /**
   * The whole body of its answer.
   *
   * @throws {Lost} when the worker is lost before the end. {@linkcode RbeeError} `PAYLOAD_TOO_LARGE` beyond
   * {@linkcode MAX_ANSWER_BYTES}.
   */
  read(response: Response): Promise<Uint8Array<ArrayBuffer>>;
  /** A token was told. */
  told(): void;
  /** It took so many tokens. */
  took(tokens: number): void;
}

/** Whom a request's caller tells. */
export interface FailoverListener {
  /** It waits. */
  onNews?: (news: WaitNews) => void;
  /** Its strikes have changed; it goes on when that is taken. */
  onStrikes?: (strikes: number) => void | Promise<void>;
}

/** What the loop needs. */
export interface FailoverOptions {
  cluster: Cluster;
  scheduler: Scheduler;
  offenders: Offenders;
  /** All that run here are entered there. */
  requests: LiveRequests;
  log: Logger;
  /** Milliseconds, only ever forwards. */
  now: () => number;
  /** Called when an answer moves to another worker … */
  onMoved?: () => void;
  /** … and when a request that waited for a slot has its first one. */
  onWaited?: (of: Pick<Wanted, "model" | "priority">, ms: number) => void;
}

/** The worker is lost, or did not take the request, and the request is not over. */
export class Lost extends Error {
  /** See `suspicion.ts`. */
  readonly how: "left" | "lost";

  constructor(how: "left" | "lost", cause: unknown) {
    super(how === "lost" ? "The worker was lost." : "The worker did not take the request.", { cause });
    this.how = how;
  }
}

/** See above. */
export class Failover {
  readonly #options: FailoverOptions;

  /** See {@linkcode FailoverOptions}. */
  constructor(options: FailoverOptions) {
    this.#options = options;
  }

  /**
   * Resolves with what `attempt` resolves with; one that throws {@linkcode Lost} is made again with another worker.
   *
   * @throws {RbeeError} what the scheduler says; `REQUEST_TIMEOUT` at the deadline; `REQUEST_POISONED` when the request
   * cost too many workers before a token; `WORKER_CRASHED` when no worker brings it to its end; `REQUEST_CANCELED` when
   * somebody cancels it among {@linkcode LiveRequests}. What `attempt` throws. The signal's reason when that aborts.
   */
  async run<T>(
    request: FailoverRequest,
    how: FailoverListener & { attempt: (at: Attempt) => Promise<T>; signal: AbortSignal },
  ): Promise<T> {
    const { offenders, requests, now, log, onMoved } = this.#options;
    const { wanted } = request;
    using live = requests.enter(request);
    using deadline = deadlineIn(wanted.deadlineMs - now() + (request.endsItself ? DEADLINE_GRACE_MS : 0));
    const signal = AbortSignal.any([how.signal, deadline.signal, live.signal]);
    let charges: Charges = { strikes: request.strikes ?? 0, losses: 0 };
    let lost: Lost | undefined;
    let failure: string | undefined;
    for (let attempts = 0; attempts < ATTEMPTS_MAX;) {
      const suspect = charges.strikes > 0;
      const lease = await this.#lease(request, { again: lost !== undefined, suspect, signal, live, how });
      live.runs(lease.worker);
      const toldBefore = request.told?.() ?? 0;
      let took = 0;
      try {
        return await how.attempt({
          worker: lease.worker,
          signal,
          call: (path, what) => this.#call(path, { request, worker: lease.worker, run: signal, ...what }),
          read: (response) => this.#read(response, { worker: lease.worker, run: signal, signal }),
          told: () => lease.told(),
          took: (tokens) => took = tokens,
        });
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof Lost)) throw error;
        lost = error;
        failure = lease.worker.failure;
        // Others had taken the slot: that says nothing about the worker or the request.
        if (isBusy(error)) continue;
        attempts++;
        const told = (request.told?.() ?? 0) > toldBefore;
        const limit = offenders.limitOf(wanted.key, now());
        const { poisoned, ...after } = judge(charges, { how: error.how, told }, limit);
        const fields = {
          job_id: wanted.id,
          correlation_id: request.correlationId,
          key: wanted.key,
          worker_id: lease.worker.id,
          tokens: request.told?.() ?? 0,
          strikes: after.strikes,
          error: error.cause,
        };
        if (poisoned) {
          offenders.add(wanted.key, now());
          const noted = offenders.noted(wanted.key, now());
          log.error("request poisoned: it is not tried again", { ...fields, key_noted: noted });
          throw poisonedError(request, Math.max(after.strikes, after.losses));
        }
        if (after.strikes !== charges.strikes) await how.onStrikes?.(after.strikes);
        charges = after;
        if (request.begun?.()) onMoved?.();
        log.warn("worker lost, its answer goes on elsewhere", fields);
        if (wanted.deadlineMs <= now()) break;
      } finally {
        lease.done(took);
      }
    }
    throw new RbeeError(
      "WORKER_CRASHED",
      failure ?? "The workers that had this request were lost, one after the other.",
      { cause: lost?.cause, details: toldIn(request) },
    );
  }

  async #lease(
    request: FailoverRequest,
    what: {
      again: boolean;
      suspect: boolean;
      signal: AbortSignal;
      live: LiveRequest;
      how: FailoverListener;
    },
  ): Promise<Pick<Lease, "worker" | "told" | "done">> {
    const { scheduler, now, onWaited } = this.#options;
    const { again, suspect, signal, live, how } = what;
    live.waits();
    if (request.slotless && !suspect) {
      const worker = scheduler.anyFor(request.wanted);
      if (worker !== undefined) return { worker, told: () => {}, done: () => {} };
    }
    const begun = again || (request.begun?.() ?? false);
    const wanted = { ...request.wanted, blocks: request.blocks?.(), begun, suspect };
    const lease = await scheduler.acquire(wanted, {
      signal,
      onNews: (news) => {
        live.waits(news);
        how.onNews?.(news);
      },
    });
    if (!begun) onWaited?.(wanted, now() - wanted.sinceMs);
    return lease;
  }

  async #call(
    path: string,
    what: {
      request: FailoverRequest;
      worker: ClusterWorker;
      run: AbortSignal;
      body: unknown;
      headers?: Record<string, string>;
      signal?: AbortSignal;
      acceptMs?: number;
    },
  ): Promise<Response> {
    const { cluster, now } = this.#options;
    const { request: { wanted, correlationId }, worker, run, body, acceptMs } = what;
    using late = acceptMs === undefined ? undefined : deadlineIn(acceptMs, notAccepted);
    const signal = AbortSignal.any([run, what.signal ?? run, late?.signal ?? run]);
    let response: Response;
    try {
      response = await fetch(new URL(path, worker.url), {
        method: "POST",
        headers: {
          ...what.headers,
          "Authorization": `Bearer ${worker.apiKey}`,
          "Content-Type": "application/json",
          "X-Correlation-Id": correlationId,
          "X-Deadline": String(Math.max(1, Math.ceil(wanted.deadlineMs - now()))),
        },
        body: JSON.stringify(body),
        signal,
        redirect: "manual",
        client: CONNECTS_ANEW,
      });
    } catch (error) {
      run.throwIfAborted();
      cluster.suspect(worker, now());
      throw new Lost(isRefusedConnection(error) ? "left" : "lost", error);
    }
    if (response.ok) return response;
    const bytes = await this.#read(response, { worker, run, signal });
    const error = refusalIn(bytes);
    if (error === undefined || !isTurnedAway(error.code)) return new Response(bytes, response);
    if (error.code === "ALL_SLOTS_BUSY") cluster.full(worker);
    else cluster.suspect(worker, now());
    throw new Lost("left", error);
  }

  async #read(
    response: Response,
    from: { worker: ClusterWorker; run: AbortSignal; signal: AbortSignal },
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { cluster, now } = this.#options;
    const { worker, run, signal } = from;
    if (response.body === null) return new Uint8Array();
    const reader = response.body.getReader();
    using _canceling = cancelOn(signal, reader);
    const chunks: Uint8Array<ArrayBuffer>[] = [];
    let bytes = 0;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        bytes += value.length;
        if (bytes > MAX_ANSWER_BYTES) break;
        chunks.push(value);
      }
      signal.throwIfAborted();
    } catch (error) {
      run.throwIfAborted();
      cluster.suspect(worker, now());
      throw new Lost("lost", error);
    }
    if (bytes <= MAX_ANSWER_BYTES) return concatBytes(chunks);
    throw new RbeeError(
      "PAYLOAD_TOO_LARGE",
      `The answer is larger than ${MAX_ANSWER_BYTES} bytes. Ask for less at once.`,
      { details: { limit_bytes: MAX_ANSWER_BYTES } },
    );
  }
}

function isBusy({ cause }: Lost): boolean {
  return cause instanceof RbeeError && cause.code === "ALL_SLOTS_BUSY";
}

/** Whether nobody listened there, so that nothing was sent: `fetch` tells it in words alone. */
function isRefusedConnection(error: unknown): boolean {
  const cause = error instanceof TypeError ? error.cause : undefined;
  return cause instanceof Error && cause.message.includes("client error (Connect)");
}

function refusalIn(bytes: Uint8Array): RbeeError | undefined {
  try {
    return errorFromBody(ErrorEnvelopeSchema.parse(JSON.parse(new TextDecoder().decode(bytes))).error);
  } catch {
    return undefined;
  }
}

function poisonedError(request: FailoverRequest, workers: number): RbeeError {
  return new RbeeError(
    "REQUEST_POISONED",
    `${workers === 1 ? "A worker was" : `${workers} workers were`} lost while this request ran there. ` +
      "It is not tried on another one: change it before you send it again.",
    { details: { workers_lost: workers, ...toldIn(request) } },
  );
}

function toldIn(request: FailoverRequest): Record<string, unknown> {
  return request.told === undefined ? {} : { tokens_generated: request.told() };
}

function notAccepted(): RbeeError {
  return new RbeeError(
    "CONNECTION_TIMEOUT",
    `The worker did not take the request in ${ACCEPT_TIMEOUT_MS} ms.`,
  );
}

/** Aborts after `ms`. */
function deadlineIn(
  ms: number,
  reason = () => new RbeeError("REQUEST_TIMEOUT", "The request's deadline has passed."),
): Disposable & { signal: AbortSignal } {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(reason()), ms);
  return { signal: late.signal, [Symbol.dispose]: () => clearTimeout(timer) };
}
