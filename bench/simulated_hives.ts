/** A thousand machines that report to a simulated queen: what their workers hold, and what they have to do. */
import { encodeBlocks } from "../protocol/prefix_blocks.ts";
import { Heartbeat, type HeartbeatInput } from "../protocol/queen_schemas.ts";
import type { Random } from "../tests/soak/random.ts";
import { HIVES, reportOf, SLOTS } from "./queen_reports.ts";

interface Held {
  /** Of each slot, the hashes of the prompt that it has read last. */
  prompts: ArrayLike<number>[];
  running: number;
  told: boolean;
}

/** See above. */
export class SimulatedHives {
  readonly #reports: HeartbeatInput[];
  readonly #held = new Map<string, Held>();
  readonly #told = new Set<number>();

  /** With what they hold at first. */
  constructor(random: Random) {
    this.#reports = Array.from({ length: HIVES }, (_, hive) => reportOf(hive, random));
  }

  /** The next report of one; like a hive, it does not tell again what has not changed. */
  report(hive: number, nowMs: number): Heartbeat {
    const { devices, models, workers, ...rest } = this.#reports[hive];
    const isFirst = !this.#told.has(hive);
    this.#told.add(hive);
    return Heartbeat.parse({
      ...rest,
      ...isFirst ? { devices, models } : {},
      workers: workers.map((worker) => {
        const held = this.#held.get(worker.worker_id);
        if (held === undefined) return isFirst ? worker : { ...worker, blocks: undefined };
        const blocks = held.told
          ? undefined
          : encodeBlocks(held.prompts.flatMap((prompt) => Array.from(prompt)));
        held.told = true;
        const state = held.running > 0 ? "busy" : "idle";
        const last_activity_unix = Math.floor(nowMs / 1000);
        return { ...worker, state, slots_available: SLOTS - held.running, last_activity_unix, blocks };
      }),
    });
  }

  /** A worker reads a prompt, in the slot that was used longest ago. */
  begun(worker: string, blocks: ArrayLike<number>): void {
    const held = this.#held.get(worker) ?? { prompts: [], running: 0, told: false };
    this.#held.set(worker, held);
    held.prompts.push(blocks);
    if (held.prompts.length > SLOTS) held.prompts.shift();
    held.running++;
    held.told = false;
  }

  /** It has made its answer. */
  ended(worker: string): void {
    this.#held.get(worker)!.running--;
  }

  /** Idle workers make room for another. */
  evicted(hive: number, ids: readonly string[]): void {
    const report = this.#reports[hive];
    const left = report.workers.filter(({ worker_id }) => ids.includes(worker_id));
    report.workers = report.workers.filter((worker) => !left.includes(worker));
    for (const { worker_id, memory_mb } of left) {
      report.memory.free_mb += memory_mb;
      this.#held.delete(worker_id);
    }
  }

  /** One more worker of another model. */
  loaded(hive: number, load: { id: string; model: string }): void {
    const { workers, memory } = this.#reports[hive];
    workers.push({ ...workers[0], worker_id: load.id, model_ref: load.model, blocks: "" });
    memory.free_mb = Math.max(0, memory.free_mb - workers[0].memory_mb);
  }
}
