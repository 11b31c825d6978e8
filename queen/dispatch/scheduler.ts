/** Who gets which slot: the one owner of the queue. Decides with pure functions, and carries out what they say. */
import type { Logger } from "../../daemon/log.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { LoadNews } from "../../protocol/queen_schemas.ts";
import type { Cluster, ClusterNews, ClusterWorker } from "../cluster/cluster.ts";
import { type Decision, place } from "../placement/placement.ts";
import type { Wish } from "../placement/view.ts";
import { type ModelPace, waitMs } from "../queue/eta.ts";
import { FairQueue, type Priority, type Waiting } from "../queue/fair_queue.ts";

/** Work that wants a slot. */
export interface Wanted extends Wish {
  readonly id: string;
  /** Whose it is, and its share. */
  readonly key: string;
  readonly share: number;
  readonly priority: Priority;
  /** Tokens that it will probably take. */
  readonly tokens: number;
  /** When it came first, and when it must have ended; on the scheduler's clock. */
  readonly sinceMs: number;
  readonly deadlineMs: number;
  /** It had a slot before and lost it. */
  readonly begun: boolean;
}

/** News for who waits. */
export type WaitNews =
  | { type: "queued"; position: number; etaMs?: number; why: string }
  | { type: "loading"; load: LoadNews };

/** A slot that was given. */
export interface Lease {
  readonly worker: ClusterWorker;
  /** Of the prompt, those that the worker probably holds. */
  readonly sharedTokens: number;
  /** A token was told: if it is a suspect's, others may go there again. Idempotent. */
  told(): void;
  /** Gives it back; it took so many tokens. Idempotent. */
  done(tokens: number): void;
}

/** Loads a model somewhere; see `loads.ts`. */
export type StartLoad = (
  load: Extract<Decision, { kind: "load" }> & { model: string },
  onNews: (news: LoadNews) => void,
) => Promise<void>;

/** Options of {@linkcode Scheduler}. */
export interface SchedulerOptions {
  cluster: Cluster;
  /** Requests that may wait. */
  queueLimit: number;
  /** After this a second worker is started for a model, in ms; 0: never. */
  replicateAfterMs: number;
  startLoad: StartLoad;
  log: Logger;
  /** Milliseconds, only ever forwards. */
  now: () => number;
}

interface Waiter {
  readonly wanted: Wanted;
  readonly item: Waiting;
  readonly lease: PromiseWithResolvers<Lease>;
  readonly onNews: (news: WaitNews) => void;
  /** What it was told last. */
  told?: string;
}

/** See above. */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #cluster: Cluster;
  readonly #queue: FairQueue;
  readonly #waiters = new Map<string, Waiter>();
  #closed = false;

  /** Nothing waits yet. */
  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#cluster = options.cluster;
    this.#queue = new FairQueue({ limit: options.queueLimit });
  }

  /** How many wait. */
  get waiting(): number {
    return this.#queue.size;
  }

  /**
   * Waits for a slot. `onNews` is told where it stands, at once and whenever that changes.
   *
   * @throws {RbeeError} `QUEUE_FULL`, `REQUEST_TIMEOUT` when its deadline passes or can't be met, `SHUTTING_DOWN`, and
   * what makes it impossible. The signal's reason when that aborts.
   */
  async acquire(
    wanted: Wanted,
    options: { signal: AbortSignal; onNews?: (news: WaitNews) => void },
  ): Promise<Lease> {
    const { signal, onNews = () => {} } = options;
    signal.throwIfAborted();
    if (this.#closed) throw shuttingDown();
    const { id, key, share, model, priority, tokens, sinceMs, begun } = wanted;
    const item: Waiting = { id, key, share, model, priority, tokens, sinceMs, begun };
    const waiter: Waiter = { wanted, item, lease: Promise.withResolvers(), onNews };
    try {
      this.#queue.add(item);
    } catch (error) {
      throw this.#withRetryAfter(error, model);
    }
    this.#waiters.set(id, waiter);
    const leave = () => this.#drop(waiter, signal.reason);
    signal.addEventListener("abort", leave, { once: true });
    try {
      this.#pump(model);
      if (this.#waiters.has(id)) this.#refuseIfHopeless(waiter);
      return await waiter.lease.promise;
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  /**
   * Says that nothing more can wait, and when that will probably change.
   *
   * @throws {RbeeError} `QUEUE_FULL`.
   */
  refuseFull(model: string): never {
    throw this.#withRetryAfter(
      new RbeeError("QUEUE_FULL", `All ${this.#options.queueLimit} places of the queue are taken.`),
      model,
    );
  }

  /** A worker of a model that can be asked what takes no slot; undefined: none is loaded, or a suspect is tried there. */
  anyOf(model: string): ClusterWorker | undefined {
    const nowMs = this.#options.now();
    for (const worker of this.#cluster.workersOf(model)) {
      if (worker.state === "ready" && worker.trialUntilMs <= nowMs) return worker;
    }
  }

  /** What would happen to such a request now. */
  decide(wish: Wish): Decision {
    return place(wish, this.#cluster, this.#options.now());
  }

  /** The cluster has changed. */
  changed(news: ClusterNews): void {
    if (news.room || news.gone.length > 0) this.#pumpAll();
  }

  /** Time has passed: deadlines, promotions, models that have been waited for too long. */
  tick(): void {
    const nowMs = this.#options.now();
    for (const waiter of [...this.#waiters.values()]) {
      if (waiter.wanted.deadlineMs <= nowMs) this.#drop(waiter, tooLate());
    }
    this.#pumpAll();
    for (const model of [...this.#queue.models()]) this.#growIfSlow(model, nowMs);
  }

  /** Nothing is given out any more; who waits is told so. */
  close(): void {
    this.#closed = true;
    for (const waiter of [...this.#waiters.values()]) this.#drop(waiter, shuttingDown());
  }

  #pumpAll(): void {
    for (const model of [...this.#queue.models()]) this.#pump(model);
  }

  /** Gives out what can be given to those who wait for a model. */
  #pump(model: string): void {
    const nowMs = this.#options.now();
    for (;;) {
      const first = this.#queue.next(model, nowMs);
      if (first === undefined) break;
      const waiter = this.#waiters.get(first.id)!;
      const decision = this.decide(waiter.wanted);
      if (decision.kind === "wait" || decision.kind === "load") {
        if (decision.kind === "load") this.#load(decision, model);
        // The first may have wishes that keep it waiting, and the next none.
        if (!this.#serveAnother(model, first.id)) break;
      } else {
        this.#carryOut(waiter, decision);
      }
    }
    this.#tell(model);
  }

  /** Whether somebody behind the first could be served. */
  #serveAnother(model: string, firstId: string): boolean {
    if (this.#paceOf(model).free === 0) return false;
    for (const id of this.#queue.order(model, this.#options.now())) {
      if (id === firstId) continue;
      const waiter = this.#waiters.get(id)!;
      const decision = this.decide(waiter.wanted);
      if (decision.kind !== "run") continue;
      this.#carryOut(waiter, decision);
      return true;
    }
    return false;
  }

  #carryOut(waiter: Waiter, decision: Extract<Decision, { kind: "run" | "never" }>): void {
    if (decision.kind === "never") {
      this.#drop(waiter, new RbeeError(decision.code, decision.why));
      return;
    }
    const { item, wanted } = waiter;
    const worker = decision.worker as ClusterWorker;
    const nowMs = this.#options.now();
    this.#queue.serve(item.id);
    this.#waiters.delete(item.id);
    const { told, freed } = this.#cluster.taken(worker, { suspect: wanted.suspect === true, nowMs });
    let over = false;
    waiter.lease.resolve({
      worker,
      sharedTokens: decision.sharedTokens,
      told: () => {
        if (told()) this.#pump(wanted.model);
      },
      done: (tokens) => {
        if (over) return;
        over = true;
        freed();
        this.#queue.ended(item, tokens);
        this.#pump(wanted.model);
      },
    });
  }

  #load(decision: Extract<Decision, { kind: "load" }>, model: string): void {
    const { log, startLoad } = this.#options;
    log.info("model is loaded", { model_ref: model, node: decision.node, reason: decision.why });
    startLoad({ ...decision, model }, (load) => this.#tellLoad(model, load))
      .catch((error) => log.warn("model was not loaded", { model_ref: model, node: decision.node, error }))
      .finally(() => this.#pump(model));
  }

  #growIfSlow(model: string, nowMs: number): void {
    const { replicateAfterMs } = this.#options;
    if (replicateAfterMs === 0) return;
    const [oldest] = this.#queue.order(model, nowMs);
    if (oldest === undefined) return;
    const { wanted } = this.#waiters.get(oldest)!;
    if (nowMs - wanted.sinceMs < replicateAfterMs) return;
    const decision = this.decide({ ...wanted, grow: true });
    if (decision.kind === "load") this.#load(decision, model);
  }

  #refuseIfHopeless(waiter: Waiter): void {
    const { wanted } = waiter;
    if (wanted.begun) return;
    const nowMs = this.#options.now();
    const position = this.#queue.order(wanted.model, nowMs).indexOf(wanted.id);
    const etaMs = waitMs(position, this.#paceOf(wanted.model));
    if (etaMs === undefined || nowMs + etaMs <= wanted.deadlineMs) return;
    const seconds = (ms: number) => (ms / 1000).toFixed(1);
    this.#drop(
      waiter,
      new RbeeError(
        "REQUEST_TIMEOUT",
        `It would wait for ${seconds(etaMs)} s, and has ${
          seconds(wanted.deadlineMs - nowMs)
        } s. Try again later.`,
        { details: { eta_ms: etaMs }, retryAfterSeconds: Math.ceil(etaMs / 1000) },
      ),
    );
  }

  #drop(waiter: Waiter, reason: unknown): void {
    if (!this.#waiters.delete(waiter.item.id)) return;
    this.#queue.remove(waiter.item.id);
    waiter.lease.reject(reason);
  }

  /** Tells everybody who waits for a model where it stands, if that has changed. */
  #tell(model: string): void {
    if (this.#queue.sizeOf(model) === 0) return;
    const pace = this.#paceOf(model);
    // The same for all who have no wish of their own, and those are nearly all.
    const { why: usual } = this.decide({ model });
    this.#queue.order(model, this.#options.now()).forEach((id, position) => {
      const waiter = this.#waiters.get(id)!;
      const { node, backend, device } = waiter.wanted;
      const isUsual = node === undefined && backend === undefined && device === undefined;
      const why = isUsual ? usual : this.decide(waiter.wanted).why;
      const told = `${position} ${why}`;
      if (waiter.told === told) return;
      waiter.told = told;
      waiter.onNews({ type: "queued", position, etaMs: waitMs(position, pace), why });
    });
  }

  #tellLoad(model: string, load: LoadNews): void {
    for (const id of this.#queue.order(model, this.#options.now())) {
      this.#waiters.get(id)!.onNews({ type: "loading", load });
    }
  }

  #paceOf(model: string): ModelPace {
    const { paces } = this.#cluster;
    let slots = 0;
    let free = 0;
    for (const worker of this.#cluster.workersOf(model)) {
      if (worker.state !== "ready") continue;
      slots += worker.slots;
      free += Math.max(0, worker.slots - worker.busy);
    }
    const loading = this.#cluster.loadsOf(model) > 0;
    return {
      slots,
      free,
      answerMs: paces.answerMs(model),
      loadMs: loading ? paces.loadMs(model) : undefined,
    };
  }

  /** When a place of the queue will probably be free. */
  #withRetryAfter(error: unknown, model: string): unknown {
    if (!(error instanceof RbeeError) || error.code !== "QUEUE_FULL") return error;
    const etaMs = waitMs(0, { ...this.#paceOf(model), free: 0 }) ?? 1_000;
    return new RbeeError(error.code, error.message, {
      details: error.details,
      retryAfterSeconds: Math.max(1, Math.ceil(etaMs / 1000)),
    });
  }
}

/** Why nothing is taken any more. */
export function shuttingDown(): RbeeError {
  return new RbeeError("SHUTTING_DOWN", "The queen is shutting down. Try again once she is back.");
}

function tooLate(): RbeeError {
  return new RbeeError("REQUEST_TIMEOUT", "No slot became free before the request's deadline.");
}
