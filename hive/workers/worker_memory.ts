/** One worker's memory limit: its size, whether the worker keeps to it, and the kernel's own limit (cgroup v2). */
import type { MemoryGroups } from "./memory_groups.ts";
import { loadedPlanMb, looksOver, type MemoryPlan, privateLimitMb, wholeLimitMb } from "./memory_limit.ts";
import type { WorkerFigures } from "./figures.ts";
import type { ExitStatus } from "./process.ts";
import type { WorkerRecord } from "./registry.ts";

/** Options of {@linkcode WorkerMemoryLimit}. */
export interface WorkerMemoryLimitOptions {
  /** Its plan is kept there once it is known. */
  record: WorkerRecord;
  /** `hive.worker_memory_margin_mb`. */
  memoryMarginMb: number;
  /** Absent where the kernel limits nothing. */
  groups?: MemoryGroups;
}

/** See above. */
export class WorkerMemoryLimit {
  readonly #options: WorkerMemoryLimitOptions;
  readonly #figures: WorkerFigures;
  /** Settles when the kernel knows the limit. */
  readonly #grouped: Promise<void>;
  /** Looks in a row that found the worker over its limit. */
  #looksOver = 0;

  /** Tells the kernel at once. */
  constructor(options: WorkerMemoryLimitOptions, figures: WorkerFigures) {
    this.#options = options;
    this.#figures = figures;
    const { id, pid } = options.record;
    this.#grouped = Promise.resolve(options.groups?.enter({ id, pid, limitMb: this.wholeLimitMb }));
  }

  /** RAM of its own that it may take, in MB. */
  get limitMb(): number {
    return privateLimitMb(this.#plan);
  }

  /** RAM that it may take in all, in MB. */
  get wholeLimitMb(): number {
    return wholeLimitMb(this.#plan);
  }

  /** It holds so much RAM of its own: whether its plan was learned from that, and whether it is too much. */
  saw(privateMb: number): { learned: boolean; tooMuch: boolean } {
    const { record, groups } = this.#options;
    const learned = record.planMb === 0 && this.#figures.isMeasured;
    if (learned) {
      record.planMb = loadedPlanMb(this.#plan, { privateMb, slotKvMb: this.#figures.slotKvMb });
      void this.#grouped.then(() => groups?.limit(record.id, this.wholeLimitMb));
    }
    const look = { privateMb, limitMb: this.limitMb, marginMb: this.#plan.marginMb };
    const { over, tooMuch } = looksOver(this.#looksOver, look);
    this.#looksOver = over;
    return { learned, tooMuch };
  }

  /** Its process is over: whether the kernel ended it for its memory, where no other cause is `known`. */
  async leave(status: ExitStatus, { known }: { known: boolean }): Promise<boolean> {
    const { groups, record: { id } } = this.#options;
    if (groups === undefined) return false;
    await this.#grouped;
    const killed = status.code === null && !known && await groups.hasKilled(id);
    void groups.remove(id);
    return killed;
  }

  get #plan(): MemoryPlan {
    const { record: { backend, requiredMb, planMb }, memoryMarginMb } = this.#options;
    return { backend, requiredMb, planMb, mappedMb: this.#figures.mappedMb, marginMb: memoryMarginMb };
  }
}
