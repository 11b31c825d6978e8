/**
 * How much RAM of its own a worker may take, and when it has taken too much. Pure. "Of its own" is what no file stands
 * behind (anonymous and shared memory, in RAM or swapped out): pages of a mapped model can be given up at any time and
 * endanger nobody.
 */
import type { BackendName } from "../../protocol/spawn_request.ts";
import { GPU_HOST_MEMORY_MB, LOAD_MEMORY_FACTOR, STATE_COPIES, WORKER_MEMORY_LOOKS_MAX } from "../limits.ts";

/** What a limit is made from, in MB. */
export interface MemoryPlan {
  backend: BackendName;
  /** What preflight asked for. */
  requiredMb: number;
  /** What it may take once it is loaded, see {@linkcode loadedPlanMb}; 0: not known yet. */
  planMb: number;
  /** Of its weights, those used where the file is mapped. */
  mappedMb: number;
  /** `hive.worker_memory_margin_mb`. */
  marginMb: number;
}

/**
 * What a loaded worker may take of RAM in all, mapped files included, without the margin. It is at least what was
 * planned or what the worker holds just after its load, and copies of one slot's keys and values, which exist while an
 * answer is handed over. What it holds counts only up to the limit of a load: a worker can't raise its own limit.
 */
export function loadedPlanMb(
  plan: Omit<MemoryPlan, "planMb">,
  held: { privateMb: number; slotKvMb: number },
): number {
  const leastMb = plan.backend === "cpu" ? plan.requiredMb : GPU_HOST_MEMORY_MB;
  const heldMb = Math.min(held.privateMb + mappedOf(plan), wholeLimitMb({ ...plan, planMb: 0 }));
  return Math.ceil(Math.max(leastMb, heldMb) + STATE_COPIES * Math.min(held.slotKvMb, plan.requiredMb));
}

/** RAM of its own that a worker may take, in MB. */
export function privateLimitMb(plan: MemoryPlan): number {
  return wholeLimitMb(plan) - Math.floor(mappedOf(plan));
}

/** RAM that a worker may take in all, in MB: what the kernel counts for it includes the pages of its model. */
export function wholeLimitMb({ backend, requiredMb, planMb, marginMb }: MemoryPlan): number {
  const loadingMb = requiredMb * LOAD_MEMORY_FACTOR + (backend === "cpu" ? 0 : GPU_HOST_MEMORY_MB);
  return Math.ceil((planMb || loadingMb) + marginMb);
}

/** The worker tells this itself, and can at most lower its own limit with it. */
function mappedOf({ mappedMb, requiredMb }: Pick<MemoryPlan, "mappedMb" | "requiredMb">): number {
  return Math.min(mappedMb, requiredMb);
}

/** Looks in a row that found it over its limit, after one more. One that is over by the margin again gets no second look. */
export function looksOver(
  before: number,
  look: { privateMb: number; limitMb: number; marginMb: number },
): { over: number; tooMuch: boolean } {
  if (look.privateMb <= look.limitMb) return { over: 0, tooMuch: false };
  const over = look.privateMb > look.limitMb + look.marginMb ? WORKER_MEMORY_LOOKS_MAX : before + 1;
  return { over, tooMuch: over >= WORKER_MEMORY_LOOKS_MAX };
}
