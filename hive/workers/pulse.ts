/**
 * The pulse of one loaded worker: short health checks that show a worker whose engine stands still in the middle of a
 * step, or whose HTTP side answers nothing. The hive sees no requests and can't tell who is busy, so it asks all.
 */
import type { Logger } from "../../daemon/log.ts";
import { type Clock, deadline, sleep } from "../../daemon/clock.ts";
import type { EngineHeartbeat } from "../../protocol/worker_schemas.ts";
import {
  PULSE_AGAIN_MS,
  PULSE_INTERVAL_MS,
  PULSE_TIMEOUT_MS,
  PULSES_SILENT_MAX,
  PULSES_STUCK_MAX,
} from "../limits.ts";
import type { WorkerApi } from "./connection.ts";
import { isGap } from "./health.ts";

/** What one check brought. */
export type PulseCheck =
  | { kind: "answer"; engine: EngineHeartbeat | undefined }
  /** No answer in time. */
  | { kind: "silence" }
  /** Refused, or not an answer to a health check: the slower health checks judge that. */
  | { kind: "trouble" }
  /** The hive itself stood still: stopped, suspended, or starved. What it did not hear is nobody's silence. */
  | { kind: "gap" };

/** What the last checks have in common. */
export interface Pulse {
  /** Checks in a row without an answer. */
  readonly silent: number;
  /** Checks in a row that showed the same step past its limit. */
  readonly stuck: number;
  /** Age of that step. */
  readonly stepMs: number;
}

/** Why a worker has to go. */
export type PulseLost =
  | { kind: "silent" }
  | { kind: "stuck"; stepMs: number; limitMs: number }
  /** The engine's thread has ended, for this reason. */
  | { kind: "over"; why: string };

/** What each of them is called as the cause of a worker's end. */
export const PULSE_CAUSES = { stuck: "stuck", silent: "frozen", over: "degraded" } as const;

/** Nothing is held against the worker. */
export const STEADY: Pulse = { silent: 0, stuck: 0, stepMs: 0 };

/** The pulse after one more check, and whether that was one too many. Pure. */
export function judgePulse(before: Pulse, check: PulseCheck): { pulse: Pulse; lost?: PulseLost } {
  if (check.kind === "silence") {
    const pulse = { ...STEADY, silent: before.silent + 1 };
    return pulse.silent < PULSES_SILENT_MAX ? { pulse } : { pulse, lost: { kind: "silent" } };
  }
  const engine = check.kind === "answer" ? check.engine : undefined;
  if (engine?.failure !== undefined) return { pulse: before, lost: { kind: "over", why: engine.failure } };
  const { step_ms: stepMs = null, limit_ms: limitMs = Infinity } = engine ?? {};
  if (stepMs === null || stepMs <= limitMs) return { pulse: STEADY };
  // A worker that was frozen from outside shows one old step too, and a new one at the next check.
  const isSame = stepMs > before.stepMs;
  const pulse = { silent: 0, stuck: isSame ? before.stuck + 1 : 1, stepMs };
  return pulse.stuck < PULSES_STUCK_MAX ? { pulse } : { pulse, lost: { kind: "stuck", stepMs, limitMs } };
}

/** Options of {@linkcode watchPulse}. */
export interface WatchPulseOptions {
  /** Ends the watch; it then rejects with the signal's reason. */
  signal: AbortSignal;
  /** For pauses and limits. */
  clock: Clock;
  /** Carries the worker's id. */
  log: Logger;
}

/** Checks a worker until {@linkcode judgePulse} finds it lost, and resolves then. */
export async function watchPulse(api: WorkerApi, options: WatchPulseOptions): Promise<PulseLost> {
  for (let pulse = STEADY;;) {
    const waitMs = pulse === STEADY ? PULSE_INTERVAL_MS : PULSE_AGAIN_MS;
    const check = await nextCheck(api, { ...options, waitMs });
    const next = judgePulse(pulse, check);
    if (next.lost !== undefined) return next.lost;
    if (next.pulse !== STEADY) options.log.warn("worker has a bad pulse", { ...next.pulse });
    pulse = next.pulse;
  }
}

async function nextCheck(
  api: WorkerApi,
  { signal, clock, waitMs }: WatchPulseOptions & { waitMs: number },
): Promise<PulseCheck> {
  const beganMs = clock.unixMs();
  await sleep(clock, waitMs, signal);
  const askedMs = clock.unixMs();
  if (isGap(askedMs - beganMs, waitMs)) return { kind: "gap" };
  using limit = deadline(clock, PULSE_TIMEOUT_MS, signal);
  try {
    const { engine } = await api.health({ signal: limit.signal });
    return { kind: "answer", engine };
  } catch {
    signal.throwIfAborted();
    if (isGap(clock.unixMs() - askedMs, PULSE_TIMEOUT_MS)) return { kind: "gap" };
    return limit.expired ? { kind: "silence" } : { kind: "trouble" };
  }
}
