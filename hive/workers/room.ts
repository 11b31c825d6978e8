/** Making room: what the decisions of memory_check.ts and eviction.ts go by, and how they are carried out. */
import type { Device } from "../../protocol/hive_schemas.ts";
import type { Clock } from "../../daemon/clock.ts";
import type { Hardware } from "../hardware.ts";
import { type MemoryHolder, planEviction, type Verdict } from "./eviction.ts";
import type { LoadHistory } from "./load_history.ts";
import type { MemorySituation } from "./memory_check.ts";
import type { SpawnPlan } from "./preflight.ts";
import type { Worker } from "./worker.ts";
import type { LeaveReason } from "./worker_options.ts";

/** The workers that hold memory of one kind: the machine's, or a device's own. */
export function holdersOf(
  workers: Iterable<Worker>,
  where: { backend: string; device: number },
): MemoryHolder[] {
  return [...workers]
    .filter(({ alive, record }) =>
      alive && record.backend === where.backend &&
      // All of a machine's CPUs share its memory.
      (record.device === where.device || record.backend === "cpu")
    )
    .map((worker) => ({
      workerId: worker.record.id,
      modelRef: worker.record.modelRef,
      state: worker.state,
      pinned: worker.record.pinned,
      lastActivityMs: worker.figures.lastActivityMs,
      takenMb: worker.figures.takenMb,
      mappedMb: worker.figures.mappedMb,
    }));
}

/** What the last step of preflight goes by, looked up now. */
export function memoryFor(
  plan: SpawnPlan,
  from: Pick<MemorySituation, "facts" | "alternatives" | "reserveMb" | "nowMs"> & {
    devices: readonly Device[];
    hardware: Pick<Hardware, "memory">;
    history: LoadHistory;
    workers: Iterable<Worker>;
  },
): MemorySituation {
  const { devices, hardware, history, workers, ...known } = from;
  const onCpu = plan.backend === "cpu";
  const device = devices.find((at) => at.backend === plan.backend && at.index === plan.device);
  return {
    ...known,
    correctionMb: history.correctionMb(plan),
    freeMb: onCpu ? hardware.memory().free_mb : device?.memory_free_mb ?? 0,
    // What other programs need of a GPU's memory nobody watches.
    reserveMb: onCpu ? known.reserveMb : 0,
    holders: holdersOf(workers, plan),
  };
}

/**
 * Asks those to leave that were chosen, and waits until they and those that leave anyway are gone. One that has become
 * busy in the meantime stays.
 *
 * @returns those that have left for it.
 */
export async function dismiss(
  verdicts: readonly Verdict[],
  from: { workers: ReadonlyMap<string, Worker>; reason: LeaveReason },
): Promise<Verdict[]> {
  const left = await Promise.all(verdicts.map(async (verdict) => {
    const worker = from.workers.get(verdict.worker_id);
    if (worker === undefined) return [];
    if (verdict.verdict === "leaving") {
      await worker.exited;
      return [];
    }
    if (!await worker.yield(from.reason)) {
      // Whatever it is doing instead, the next decision has to know.
      await worker.probe();
      return [];
    }
    await worker.exited;
    return [verdict];
  }));
  return left.flat();
}

/** Idle workers that have to go for `missingMb`: as many as it takes, or all when they are not enough. */
export function squeezedOut(
  holders: readonly MemoryHolder[],
  need: { missingMb: number; clock: Clock },
): Verdict[] {
  const { enough, verdicts } = planEviction(holders, {
    missingMb: need.missingMb,
    nowMs: need.clock.unixMs(),
  });
  const wanted = enough ? "evicted" : "not needed";
  return verdicts.filter(({ verdict }) => verdict === wanted);
}
