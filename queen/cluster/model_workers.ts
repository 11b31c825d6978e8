/** The workers of one model, kept so that a decision need not look at those that are busy. */
import { factsOf, type ModelView } from "../placement/view.ts";
import type { ClusterWorker } from "./cluster_worker.ts";

/** See above. Call {@linkcode update} whenever a worker changes. */
export class ModelWorkers implements ModelView {
  /** All of them, on machines that are heard of or not. */
  readonly all = new Set<ClusterWorker>();
  readonly free = new Set<ClusterWorker>();
  readonly #ready = new Set<ClusterWorker>();
  readonly #loading = new Set<ClusterWorker>();
  #facts: (Pick<ModelView, "context" | "embeds"> & { slots: number }) | undefined;

  get ready(): number {
    return this.#ready.size;
  }

  get loading(): number {
    return this.#loading.size;
  }

  get context(): number | undefined {
    return this.#known().context;
  }

  get embeds(): boolean | undefined {
    return this.#known().embeds;
  }

  /** Slots of those that answer. */
  get slots(): number {
    return this.#known().slots;
  }

  /**
   * A worker is there, or has changed; `isReachable`: something may be sent to it. Returns whether it has a free slot
   * now that it had not before.
   */
  update(worker: ClusterWorker, isReachable: boolean): boolean {
    this.all.add(worker);
    this.#facts = undefined;
    keep(this.#loading, { worker, when: isReachable && worker.state === "loading" });
    const isReady = isReachable && worker.state === "ready";
    keep(this.#ready, { worker, when: isReady });
    const wasFree = this.free.has(worker);
    const isFree = isReady && worker.busy < worker.slots;
    keep(this.free, { worker, when: isFree });
    return isFree && !wasFree;
  }

  /** The same when only its slots were taken or given back. */
  updateSlots(worker: ClusterWorker): void {
    keep(this.free, { worker, when: this.#ready.has(worker) && worker.busy < worker.slots });
  }

  /** Found out once after each change. */
  #known() {
    if (this.#facts === undefined) {
      let slots = 0;
      for (const worker of this.#ready) slots += worker.slots;
      this.#facts = { ...factsOf(this.#ready), slots };
    }
    return this.#facts;
  }

  /** A worker is gone. */
  delete(worker: ClusterWorker): void {
    for (const set of [this.all, this.free, this.#ready, this.#loading]) set.delete(worker);
    this.#facts = undefined;
  }
}

function keep(set: Set<ClusterWorker>, { worker, when }: { worker: ClusterWorker; when: boolean }): void {
  if (when) set.add(worker);
  else set.delete(worker);
}
