/** What went wrong with a worker, in words and facts for whoever asked for it. */
import { type ErrorCode, RbeeError } from "../../protocol/errors.ts";
import type { LoadProgress } from "./load_watch.ts";
import type { ExitStatus } from "./process.ts";
import type { PulseLost } from "./pulse.ts";
import type { WorkerRecord } from "./registry.ts";

/** Log lines that are part of the message itself; the details carry all of the tail. */
const MESSAGE_LOG_LINES = 3;

/** The worker's program could not be started at all. */
export function notStartable(program: string, cause: unknown): RbeeError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new RbeeError("WORKER_START_FAILED", `The worker program ${program} can't be started: ${why}`, {
    details: { program, log_tail: [] },
    cause,
  });
}

/** It ended before its ready callback. */
export function diedWhileStarting(
  record: WorkerRecord,
  facts: { status: ExitStatus; tail: string[] },
): RbeeError {
  return withLog("WORKER_START_FAILED", record, {
    ...facts,
    message: `The worker for ${record.modelRef} ended with ${
      describeExit(facts.status)
    } before it was ready.`,
  });
}

/** It is alive but its ready callback did not come. */
export function noCallback(record: WorkerRecord, facts: { ms: number; tail: string[] }): RbeeError {
  return withLog("WORKER_START_FAILED", record, {
    tail: facts.tail,
    message: `The worker for ${record.modelRef} did not report within ${facts.ms / 1000} s and was killed.`,
  });
}

/** It ended while its model was loading, without reporting why. */
export function diedWhileLoading(
  record: WorkerRecord,
  facts: { status: ExitStatus; tail: string[] },
): RbeeError {
  return withLog("WORKER_CRASHED", record, {
    ...facts,
    message: `The worker for ${record.modelRef} ended with ${describeExit(facts.status)} while loading.`,
  });
}

/** Its model was not loaded in time. */
export function loadingTimeout(
  record: WorkerRecord,
  facts: { ms: number; at: LoadProgress | undefined },
): RbeeError {
  const where = facts.at === undefined
    ? "no layer was reported"
    : `it stuck at layer ${facts.at.layersLoaded} of ${facts.at.layersTotal}`;
  return new RbeeError(
    "LOADING_TIMEOUT",
    `${record.modelRef} was not loaded within ${facts.ms / 1000} s: ${where}. The log is ${record.logPath}.`,
    {
      details: {
        layers_loaded: facts.at?.layersLoaded,
        layers_total: facts.at?.layersTotal,
        log_path: record.logPath,
      },
    },
  );
}

/** It was loaded and does not compute, or does not answer, any more. */
export function hasLostPulse(record: WorkerRecord, lost: PulseLost): RbeeError {
  switch (lost.kind) {
    case "stuck":
      return killed(record, {
        why: `its engine has been in one step for ${seconds(lost.stepMs)}; the limit is ${
          seconds(lost.limitMs)
        }`,
        details: { step_ms: lost.stepMs, limit_ms: lost.limitMs },
      });
    case "silent":
      return killed(record, { why: "it stopped answering health checks" });
    case "over":
      return killed(record, { why: `its engine has ended: ${lost.why}` });
  }
}

/** It took more memory than it may. When the kernel has ended it, no figure is known. */
export function tookTooMuchMemory(
  record: WorkerRecord,
  { privateMb, limitMb }: { privateMb?: number; limitMb: number },
): RbeeError {
  return killed(record, {
    why: privateMb === undefined
      ? `it reached its limit of ${limitMb} MB of memory`
      : `it held ${Math.ceil(privateMb)} MB of memory; its limit is ${limitMb} MB`,
    details: { private_mb: privateMb, limit_mb: limitMb },
  });
}

function killed(record: WorkerRecord, facts: { why: string; details?: Record<string, unknown> }): RbeeError {
  const message = `The worker for ${record.modelRef} was killed: ${facts.why}. The log is ${record.logPath}.`;
  return new RbeeError("WORKER_CRASHED", message, {
    details: { ...facts.details, log_path: record.logPath },
  });
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** `exit code 1`, `signal SIGKILL`. */
export function describeExit(status: ExitStatus): string {
  if (status.signal !== null) return `signal ${status.signal}`;
  return status.code === null ? "an unknown exit code" : `exit code ${status.code}`;
}

function withLog(
  code: ErrorCode,
  record: WorkerRecord,
  facts: { message: string; tail: string[]; status?: ExitStatus },
): RbeeError {
  const last = facts.tail.filter((line) => line.trim() !== "").slice(-MESSAGE_LOG_LINES);
  const said = last.length === 0 ? "It logged nothing." : `Its log ends with: ${last.join(" | ")}`;
  return new RbeeError(code, `${facts.message} ${said} The log is ${record.logPath}.`, {
    details: {
      exit_code: facts.status?.code,
      signal: facts.status?.signal,
      log_path: record.logPath,
      log_tail: facts.tail,
    },
  });
}
