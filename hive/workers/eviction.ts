/** Which idle workers leave when memory is short. Pure: decided here, done elsewhere, and explained. */
import type { WorkerState } from "../../protocol/hive_schemas.ts";

/** A worker that holds memory of the kind that is short. */
export interface MemoryHolder {
  /** Its id. */
  workerId: string;
  /** What it serves. */
  modelRef: string;
  /** As last known. */
  state: WorkerState;
  /** Never evicted. */
  pinned: boolean;
  /** Milliseconds since 1970 of its last request's end. */
  lastActivityMs: number;
  /** What it holds, in MB; while it loads, what it will hold. */
  takenMb: number;
  /** Of that, what lies in mapped files: the system calls that memory available. */
  mappedMb: number;
}

/** What becomes of one worker, and why. */
export interface Verdict {
  worker_id: string;
  model_ref: string;
  /** What its end would free. */
  frees_mb: number;
  /** Seconds since its last request; 0 unless it is idle. */
  idle_seconds: number;
  verdict: "evicted" | "leaving" | "not needed" | "busy" | "loading" | "pinned";
}

/** What {@linkcode planEviction} decided. */
export interface EvictionPlan {
  /** Whether enough comes free. When not, nobody is evicted: it would be in vain. */
  enough: boolean;
  /** About each worker, those first that have been idle for longest. */
  verdicts: Verdict[];
}

/**
 * Frees at least `missingMb`: workers that are leaving already are waited for; then idle ones go, least recently used
 * first, but none whose memory is not needed in the end. Busy, loading and pinned ones stay.
 */
export function planEviction(
  holders: readonly MemoryHolder[],
  need: { missingMb: number; nowMs: number },
): EvictionPlan {
  const byAge = holders.toSorted((a, b) => a.lastActivityMs - b.lastActivityMs);
  const verdicts = new Map(byAge.map((holder) => [holder, firstVerdict(holder)]));
  let missingMb = need.missingMb;
  for (const [holder, verdict] of verdicts) if (verdict === "leaving") missingMb -= holder.takenMb;
  const chosen: MemoryHolder[] = [];
  for (const [holder, verdict] of verdicts) {
    if (missingMb <= 0) break;
    if (verdict !== "not needed") continue;
    chosen.push(holder);
    missingMb -= holder.takenMb;
  }
  const enough = missingMb <= 0;
  if (enough) {
    // The last one may have been so large that those before it can stay; the most recently used stays first.
    for (const holder of chosen.toReversed()) {
      if (missingMb + holder.takenMb <= 0) missingMb += holder.takenMb;
      else verdicts.set(holder, "evicted");
    }
  }
  return {
    enough,
    verdicts: [...verdicts].map(([holder, verdict]) => ({
      worker_id: holder.workerId,
      model_ref: holder.modelRef,
      frees_mb: Math.floor(holder.takenMb),
      idle_seconds: holder.state === "idle"
        ? Math.max(0, Math.floor((need.nowMs - holder.lastActivityMs) / 1000))
        : 0,
      verdict,
    })),
  };
}

/** What is certain about a worker before anybody is chosen: `not needed` may still change. */
function firstVerdict({ state, pinned }: MemoryHolder): Verdict["verdict"] {
  switch (state) {
    case "starting":
    case "loading":
      return "loading";
    case "busy":
      return "busy";
    case "idle":
      return pinned ? "pinned" : "not needed";
    default:
      return "leaving";
  }
}
