/** Carries out what the retry plan decides. */
import type { DownloadEvent } from "../../protocol/hive_schemas.ts";
import type { ModelLimits } from "./limits.ts";
import { AttemptFailed, planRetry, type RetryDecision } from "./retry_plan.ts";
import type { Timing } from "./timing.ts";

/** A decision to try again. */
export type RetryNotice = Extract<RetryDecision, { action: "retry" }>;

/** Options of {@linkcode withRetries}. */
export interface RetryOptions {
  /** How often and how soon. */
  limits: ModelLimits;
  /** Clock and chance. */
  timing: Timing;
  /** Ends attempts and pauses. */
  signal: AbortSignal;
  /** Told before each pause. */
  onRetry?: (notice: RetryNotice) => void;
}

/**
 * Runs `once` until it succeeds or the plan gives up. Only {@linkcode AttemptFailed} is tried again.
 *
 * @throws {RbeeError} the last attempt's error. The signal's reason when aborted.
 */
export async function withRetries<T>(once: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { limits, timing, signal } = options;
  let attempt = 1;
  let mismatches = 0;
  while (true) {
    try {
      return await once();
    } catch (thrown) {
      signal.throwIfAborted();
      if (!(thrown instanceof AttemptFailed)) throw thrown;
      if (thrown.failure.kind === "mismatch") mismatches++;
      const history = { attempt, mismatches, random: timing.random() };
      const decision = planRetry(thrown.failure, history, { limits });
      if (decision.action === "give_up") throw thrown.error;
      options.onRetry?.(decision);
      await timing.delay(decision.delayMs, signal);
      attempt = decision.attempt;
    }
  }
}

/** The same for those who follow a download. */
export function retryingEvent(notice: RetryNotice): DownloadEvent {
  const { attempt, maxAttempts, delayMs, reason } = notice;
  return { stage: "retrying", attempt, max_attempts: maxAttempts, delay_ms: delayMs, reason };
}
