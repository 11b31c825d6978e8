/** What a worker is given, and what it tells. */
import type { Logger } from "../../daemon/log.ts";
import type { WorkerState } from "../../protocol/hive_schemas.ts";
import type { Clock } from "../../daemon/clock.ts";
import type { Connect } from "./connection.ts";
import type { MemoryGroups } from "./memory_groups.ts";
import type { ExitStatus, WorkerProcess } from "./process.ts";
import type { WorkerRecord } from "./registry.ts";
import type { Worker } from "./worker.ts";

/** Something that happened to a worker. */
export type WorkerEvent =
  /** It is on the list now: started, or taken over from an earlier hive. */
  | { kind: "listed"; worker: Worker; adopted: boolean }
  | { kind: "state"; worker: Worker; from: WorkerState; to: WorkerState }
  /** The model is in memory; only where this hive saw the whole load. */
  | { kind: "loaded"; worker: Worker; loadMs: number }
  /** It takes more memory than was known before. */
  | { kind: "measured"; worker: Worker }
  /** What it may take is known from now on. */
  | { kind: "limited"; worker: Worker }
  /** It was asked to leave for this reason and has agreed. */
  | { kind: "leaving"; worker: Worker; reason: LeaveReason }
  /** The process is over. */
  | { kind: "exited"; worker: Worker; status: ExitStatus; during: WorkerState; cause: ExitCause };

/** Why a worker that did nothing wrong has to go. */
export const LEAVE_REASONS = [
  /** Somebody asked for it, or the hive itself leaves. */
  "asked",
  /** Nobody has used it for too long. */
  "idle",
  /** Another worker needs its memory. */
  "evicted",
  /** Other programs need its memory. */
  "squeezed",
  /** It said so itself. */
  "itself",
] as const;
/** See {@linkcode LEAVE_REASONS}. */
export type LeaveReason = (typeof LEAVE_REASONS)[number];

/** What ended a worker's process. */
export type ExitCause =
  | LeaveReason
  /** It ended unasked, with an exit code; of an adopted one no more is known. */
  | "died"
  /** It ended unasked, by a signal. */
  | "signal"
  | "no_callback"
  | "load_failed"
  | "load_timeout"
  /** It did not answer health checks. */
  | "health_lost"
  /** It answered health checks and could not generate. */
  | "degraded"
  /** Its engine stood still in the middle of a step. */
  | "stuck"
  /** Loaded, it answered nothing for seconds on end. */
  | "frozen"
  /** It took more memory than its limit. */
  | "memory";

/** Causes that are a failure of the worker, as metrics and the log count them. */
export const CRASH_CAUSES = [
  "died",
  "signal",
  "no_callback",
  "load_failed",
  "load_timeout",
  "health_lost",
  "degraded",
  "stuck",
  "frozen",
  "memory",
] as const satisfies readonly ExitCause[];

/** Whether a worker that ended so has failed. */
export function isCrash(cause: ExitCause): boolean {
  return CRASH_CAUSES.some((crash) => crash === cause);
}

/** What a worker needs of its surroundings. */
export interface WorkerOptions {
  /** What is known of it; `url` is filled in by the callback. */
  record: WorkerRecord;
  /** Its running process. */
  process: WorkerProcess;
  /** What it said last; never rejects. */
  tail: () => Promise<string[]>;
  /** Accepted once in the ready callback; absent for a worker that is resumed. */
  token?: string;
  /** For every pause and limit. */
  clock: Clock;
  /** Opens its interface. */
  connect: Connect;
  /** Carries the worker's id. */
  log: Logger;
  /** Until the ready callback must have come. */
  callbackTimeoutMs: number;
  /** Until the model must be loaded. */
  loadTimeoutMs: number;
  /** Pause between health checks. */
  healthIntervalMs: number;
  /** Whether its pulse is watched. */
  pulse: boolean;
  /** What it may take beyond its plan, in MB. */
  memoryMarginMb: number;
  /** Where the kernel keeps its limit of memory; absent: nowhere. */
  groups?: MemoryGroups;
  /** Told of everything, synchronously and in order. */
  onEvent: (event: WorkerEvent) => void;
}
