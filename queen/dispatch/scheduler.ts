/** Who gets which slot: the one owner of the queue. Decides with pure functions, and carries out what they say. */
import type { Logger } from "../../daemon/log.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { LoadNews } from "../../protocol/queen_schemas.ts";
import type { Cluster, ClusterNews } from "../cluster/cluster.ts";
import type { ClusterNode } from "../cluster/cluster_node.ts";
import type { ClusterWorker } from "../cluster/cluster_worker.ts";
import { LOOK_INTERVAL_MS, RESTRICTIONS_TRIED_MAX } from "../limits.ts";
import type { Decision } from "../placement/decision.ts";
import { loadOption, neededMb } from "../placement/load_placement.ts";
import { place } from "../placement/placement.ts";
import { restrictionsOf, type Wish } from "../placement/view.ts";
import { growthSavesMs, type ModelPace, waitMs } from "../queue/eta.ts";
import { FairQueue, type Waiting } from "../queue/fair_queue.ts";
import type { Lease, StartLoad, WaitNews, Wanted } from "./lease.ts";

/** Options of {@linkcode Scheduler}. */
export interface SchedulerOptions {
  cluster: Cluster;
  /** Requests that may wait. */
  queueLimit: number;
  /** Who waits for so long gets another worker of its model, in ms, whether it pays or not; 0: nobody ever does. */
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
  /** By model: who needs several slots at once, and the worker whose slots are kept for that. */
  readonly #gathering = new Map<string, { id: string; worker: string }>();
  /** By model: why the first of those that wait does so. */
  readonly #reasons = new Map<string, string>();
  /** By model: when all machines were looked at in vain. */
  readonly #lookedMs = new Map<string, number>();
  #closed = false;

  /** Nothing waits yet. */
  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#cluster = options.cluster;
    this.#queue = new FairQueue({
      limit: options.queueLimit,
      retryAfterSeconds: (model) => this.#retryAfterSeconds(model),
    });
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
    const { id, key, share, model, priority, tokens, sinceMs, begun, accepted } = wanted;
    const item: Waiting = { id, key, share, model, priority, tokens, sinceMs, begun, accepted };
    const waiter: Waiter = { wanted, item, lease: Promise.withResolvers(), onNews };
    this.#queue.add(item);
    this.#waiters.set(id, waiter);
    const leave = () => this.#drop(waiter, signal.reason);
    signal.addEventListener("abort", leave, { once: true });
    try {
      this.#pump(model);
      if (this.#waiters.has(id)) this.#refuseIfHopeless(waiter);
      if (this.#waiters.has(id)) {
        this.#growIfWorthIt(model, this.#options.now());
        this.#tell(model);
      }
      return await waiter.lease.promise;
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  /**
   * Promises a place in the queue, see {@linkcode FairQueue.reserve}.
   *
   * @throws {RbeeError} `QUEUE_FULL`.
   */
  reserve(item: { key: string; share: number; model: string }): () => void {
    if (this.#closed) throw shuttingDown();
    return this.#queue.reserve(item);
  }

  /** A worker that can be asked what takes no slot; undefined: none is loaded, or a suspect is tried there. */
  anyFor({ model, nodes }: Wish): ClusterWorker | undefined {
    const nowMs = this.#options.now();
    for (const worker of this.#cluster.workersOf(model, nodes)) {
      if (worker.state === "ready" && worker.trialUntilMs <= nowMs) return worker;
    }
  }

  /** What would happen to such a request now. */
  decide(wish: Wish): Decision {
    return place(wish, this.#cluster, this.#options.now());
  }

  /** Milliseconds until the one at a position of those that wait for a model is served; undefined: nobody can tell. */
  etaMs(model: string, position: number): number | undefined {
    return waitMs(position, this.#paceOf(model));
  }

  /** The cluster has changed. */
  changed(news: Pick<ClusterNews, "gone" | "freed" | "room">): void {
    const { gone, freed, room } = news;
    const touched = new Set(gone.map(({ model }) => model));
    // Nearly every report frees nothing: who needs more than there is room for is not asked.
    for (const model of [...this.#queue.models()]) {
      if (touched.has(model) || freed.has(model)) this.#pump(model);
      else if (
        room !== undefined && neededMb(model, this.#cluster) <= room.roomMb && this.#fitsNow(model, room)
      ) {
        this.#pump(model);
      }
    }
  }

  /** Time has passed: deadlines, promotions, models that have been waited for too long. */
  tick(): void {
    const nowMs = this.#options.now();
    for (const waiter of [...this.#waiters.values()]) {
      if (waiter.wanted.deadlineMs <= nowMs) this.#drop(waiter, tooLate());
    }
    for (const model of [...this.#queue.models()]) {
      const lookedMs = this.#lookedMs.get(model) ?? -Infinity;
      if (!this.#waitsForRoom(model) || nowMs - lookedMs >= LOOK_INTERVAL_MS) this.#pump(model);
      this.#growIfWorthIt(model, nowMs);
      this.#tell(model);
    }
  }

  /** Nothing is given out any more; who waits is told so. */
  close(): void {
    this.#closed = true;
    for (const waiter of [...this.#waiters.values()]) this.#drop(waiter, shuttingDown());
  }

  /** Whether nothing serves a model or soon will, so that only a machine with room helps. */
  #waitsForRoom(model: string): boolean {
    const { ready, loading } = this.#cluster.modelView(model);
    return ready + loading + this.#cluster.loadsOf(model) === 0;
  }

  /** Whether a model that waits for room could be loaded on one machine. */
  #fitsNow(model: string, node: ClusterNode): boolean {
    if (!this.#waitsForRoom(model)) return false;
    const nowMs = this.#options.now();
    const first = this.#queue.next(model, nowMs);
    if (first === undefined) return false;
    const { wanted } = this.#waiters.get(first.id)!;
    return !("told" in loadOption(wanted, { node, cluster: this.#cluster, nowMs }));
  }

  /** Gives out what can be given to those who wait for a model. */
  #pump(model: string): void {
    const nowMs = this.#options.now();
    for (;;) {
      const first = this.#queue.next(model, nowMs);
      if (first === undefined) return this.#forget(model);
      const waiter = this.#waiters.get(first.id)!;
      const decision = this.#decideFor(waiter);
      if (decision.kind === "run" || decision.kind === "never") {
        this.#carryOut(waiter, decision);
        continue;
      }
      this.#reasons.set(model, decision.why);
      if (decision.kind === "load") {
        this.#load(decision, model);
      } else {
        this.#gather(waiter, decision);
        this.#loadForAnother(model, waiter);
      }
      // The first may have wishes that keep it waiting, and the next none.
      if (!this.#serveAnother(model, first.id)) break;
    }
    if (this.#waitsForRoom(model)) this.#lookedMs.set(model, nowMs);
  }

  /** Nobody waits for a model any more. */
  #forget(model: string): void {
    this.#gathering.delete(model);
    this.#reasons.delete(model);
    this.#lookedMs.delete(model);
  }

  /** The slots of one worker are kept for who needs several, or others would take each as it becomes free. */
  #gather({ item }: Waiter, { gathers }: Extract<Decision, { kind: "wait" }>): void {
    const kept = this.#gathering.get(item.model);
    if (kept !== undefined && kept.id !== item.id && this.#waiters.has(kept.id)) return;
    const isThere = kept?.id === item.id && this.#cluster.worker(kept.worker) !== undefined;
    if (gathers === undefined) {
      if (!isThere) this.#gathering.delete(item.model);
    } else if (!isThere) {
      this.#gathering.set(item.model, { id: item.id, worker: gathers.id });
    }
  }

  #decideFor({ item, wanted }: Waiter): Decision {
    const kept = this.#gathering.get(item.model);
    const isForOther = kept !== undefined && kept.id !== item.id && this.#waiters.has(kept.id);
    return this.decide(isForOther ? { ...wanted, avoid: kept.worker } : wanted);
  }

  /** Whether somebody behind the first could be served. */
  #serveAnother(model: string, firstId: string): boolean {
    if (this.#paceOf(model).free === 0) return false;
    for (const id of this.#queue.order(model, this.#options.now())) {
      if (id === firstId) continue;
      const waiter = this.#waiters.get(id)!;
      const decision = this.#decideFor(waiter);
      if (decision.kind !== "run") continue;
      this.#carryOut(waiter, decision);
      return true;
    }
    return false;
  }

  /** Loads a model for somebody behind the first, when that one may not go where there is room. */
  #loadForAnother(model: string, { wanted: first }: Waiter): void {
    const tried = new Set([restrictionsOf(first)]);
    if (tried.has("") || !this.#waitsForRoom(model)) return;
    for (const id of this.#queue.order(model, this.#options.now())) {
      const { wanted } = this.#waiters.get(id)!;
      const restrictions = restrictionsOf(wanted);
      if (tried.has(restrictions)) continue;
      if (tried.add(restrictions).size > RESTRICTIONS_TRIED_MAX) return;
      const decision = this.decide(wanted);
      if (decision.kind === "load") return this.#load(decision, model);
    }
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
    const slots = Math.min(wanted.slots ?? 1, worker.slots);
    const { told, freed } = this.#cluster.taken(worker, { slots, suspect: wanted.suspect === true, nowMs });
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
      .finally(() => {
        this.#pump(model);
        const room = this.#cluster.node(decision.node);
        this.changed({ gone: [], freed: new Set(), room });
      });
  }

  /** Has another worker loaded for a model when that saves those who wait more than it costs. */
  #growIfWorthIt(model: string, nowMs: number): void {
    const { replicateAfterMs } = this.#options;
    const { ready } = this.#cluster.modelView(model);
    const first = this.#queue.next(model, nowMs);
    if (replicateAfterMs === 0 || ready === 0 || first === undefined) return;
    if (nowMs - (this.#lookedMs.get(model) ?? -Infinity) < LOOK_INTERVAL_MS) return;
    const coming = this.#cluster.loadsOf(model);
    const pace = this.#paceOf(model);
    const loadMs = this.#cluster.paces.loadMs(model);
    const more = pace.slots / ready;
    const savedMs = growthSavesMs(this.#queue.sizeOf(model), {
      ...{ slots: pace.slots + coming * more, more, answerMs: pace.answerMs, loadMs },
    });
    const waitedMs = nowMs - this.#queue.oldestMs(model);
    if (savedMs <= loadMs && (coming > 0 || waitedMs < replicateAfterMs)) return;
    const decision = this.decide({ ...this.#waiters.get(first.id)!.wanted, grow: true });
    if (decision.kind === "load") this.#load(decision, model);
    else this.#lookedMs.set(model, nowMs);
  }

  #refuseIfHopeless(waiter: Waiter): void {
    const { wanted } = waiter;
    if (wanted.begun || wanted.accepted) return;
    const nowMs = this.#options.now();
    const pace = this.#paceOf(wanted.model);
    const latest = waitMs(this.#queue.sizeOf(wanted.model) - 1, pace);
    if (latest === undefined || nowMs + latest <= wanted.deadlineMs) return;
    const position = this.#queue.order(wanted.model, nowMs).indexOf(wanted.id);
    const etaMs = waitMs(position, pace);
    if (etaMs === undefined || nowMs + etaMs <= wanted.deadlineMs) return;
    const [eta, left] = [etaMs, wanted.deadlineMs - nowMs].map((ms) => (ms / 1000).toFixed(1));
    const why = `It would wait for ${eta} s, and has ${left} s. Try again later.`;
    const how = { details: { eta_ms: etaMs }, retryAfterSeconds: Math.ceil(etaMs / 1000) };
    this.#drop(waiter, new RbeeError("REQUEST_TIMEOUT", why, how));
  }

  #drop(waiter: Waiter, reason: unknown): void {
    if (!this.#waiters.delete(waiter.item.id)) return;
    const { id, model } = waiter.item;
    this.#queue.remove(id);
    if (this.#queue.sizeOf(model) === 0) this.#forget(model);
    waiter.lease.reject(reason);
  }

  /** Tells everybody who waits for a model where it stands, if that has changed. */
  #tell(model: string): void {
    if (this.#queue.sizeOf(model) === 0) return;
    const pace = this.#paceOf(model);
    // The same for all who have no wish of their own, and those are nearly all.
    const usual = this.#reasons.get(model) ?? "";
    this.#queue.order(model, this.#options.now()).forEach((id, position) => {
      const waiter = this.#waiters.get(id)!;
      const why = restrictionsOf(waiter.wanted) === "" ? usual : this.decide(waiter.wanted).why;
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
    const view = this.#cluster.modelView(model);
    let free = 0;
    for (const worker of view.free) free += worker.slots - worker.busy;
    const loading = this.#cluster.loadsOf(model) > 0;
    return {
      slots: view.slots,
      free,
      answerMs: paces.answerMs(model),
      loadMs: loading ? paces.loadMs(model) : undefined,
    };
  }

  /** When a place of the queue will probably be free. */
  #retryAfterSeconds(model: string): number {
    const etaMs = waitMs(0, { ...this.#paceOf(model), free: 0 }) ?? 1_000;
    return Math.max(1, Math.ceil(etaMs / 1000));
  }
}

/** Why nothing is taken any more. */
export function shuttingDown(): RbeeError {
  return new RbeeError("SHUTTING_DOWN", "The queen is shutting down. Try again once it is back.");
}

function tooLate(): RbeeError {
  return new RbeeError("REQUEST_TIMEOUT", "No slot became free before the request's deadline.");
}
