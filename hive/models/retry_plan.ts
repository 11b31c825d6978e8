/** Whether and when a failed attempt is made again (SPEC §7): a pure function, and the failure it judges. */
import type { RbeeError } from "../../protocol/errors.ts";
import { MAX_MISMATCHES, type ModelLimits } from "./limits.ts";

/** How an attempt ended: connection trouble, silence, a status that is no success, or the wrong bytes. */
export type FailureKind = "network" | "stalled" | "status" | "mismatch";

/** What is known of a failed attempt. */
export interface Failure {
  /** See {@linkcode FailureKind}. */
  kind: FailureKind;
  /** In words, for the person who waits. */
  reason: string;
  /** HTTP status, for kind `status`. */
  status?: number;
  /** What the server asked for. */
  retryAfterMs?: number;
  /** Bytes the attempt brought and kept. */
  gainedBytes?: number;
}

/** An attempt that failed and may be made again. `error` is what the caller sees when it is not. */
export class AttemptFailed extends Error {
  /** For {@linkcode planRetry}. */
  readonly failure: Failure;
  /** For the caller. */
  readonly error: RbeeError;

  /** Takes both forms. */
  constructor(failure: Failure, error: RbeeError) {
    super(failure.reason, { cause: error });
    this.name = "AttemptFailed";
    this.failure = failure;
    this.error = error;
  }
}

/** The counts behind a decision. */
export interface RetryHistory {
  /** Number of the attempt that failed, from 1. */
  attempt: number;
  /** Attempts that brought the wrong bytes, this one included. */
  mismatches: number;
  /** Chance, 0 ≤ x < 1. */
  random: number;
}

/** What to do and why. `attempt` is the number of the attempt to come. */
export type RetryDecision =
  | { action: "retry"; attempt: number; maxAttempts: number; delayMs: number; reason: string }
  | { action: "give_up"; reason: string };

/**
 * Decides about the next attempt.
 *
 * | failure | decision |
 * | --- | --- |
 * | status other than 408, 425, 429 and 5xx | give up |
 * | wrong bytes for the second time | give up |
 * | attempt brought `fruitfulBytes` or more | try again, counting from the first attempt |
 * | `maxAttempts` made | give up |
 * | else | try again after base × 2ⁿ (bounded) × 0.5…1.5, or after `Retry-After` (bounded) if that is longer |
 */
export function planRetry(
  failure: Failure,
  history: RetryHistory,
  options: { limits: ModelLimits },
): RetryDecision {
  const { limits } = options;
  const { reason } = failure;
  if (failure.status !== undefined && !isTransient(failure.status)) {
    return { action: "give_up", reason: `${reason}, which another attempt would not change` };
  }
  if (failure.kind === "mismatch" && history.mismatches >= MAX_MISMATCHES) {
    return { action: "give_up", reason: `${reason}, for the second time` };
  }
  const failed = (failure.gainedBytes ?? 0) >= limits.fruitfulBytes ? 1 : history.attempt;
  if (failed >= limits.maxAttempts) {
    return { action: "give_up", reason: `${reason}, after ${limits.maxAttempts} attempts` };
  }
  const backoffMs = Math.min(limits.retryBaseDelayMs * 2 ** (failed - 1), limits.retryMaxDelayMs);
  const jitteredMs = Math.round(backoffMs * (0.5 + history.random));
  const askedMs = Math.min(failure.retryAfterMs ?? 0, limits.maxRetryAfterMs);
  return {
    action: "retry",
    attempt: failed + 1,
    maxAttempts: limits.maxAttempts,
    delayMs: Math.max(jitteredMs, askedMs),
    reason,
  };
}

function isTransient(status: number): boolean {
  return status >= 500 || status === 408 || status === 425 || status === 429;
}

/** `Retry-After` in ms: seconds or a date; undefined when absent or neither. `nowMs` is the wall clock. */
export function parseRetryAfter(value: string | null, nowMs: number): number | undefined {
  if (value === null) return undefined;
  const text = value.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}
