/** The watchdog of one worker: an idle worker proves that it still generates, and still the same. */
import type { Logger } from "../../daemon/log.ts";
import { SELF_TEST_TIMEOUT_MS } from "../../protocol/limits.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { type Clock, deadline, sleep } from "../../daemon/clock.ts";
import {
  SELF_TEST_AGAIN_MS,
  SELF_TEST_DELAY_MS,
  SELF_TEST_FAILURES_MAX,
  SELF_TEST_IDLE_MIN_MS,
  SELF_TEST_INTERVAL_MS,
} from "../limits.ts";
import type { WorkerApi } from "./connection.ts";

/** Options of {@linkcode watchGeneration}. */
export interface WatchGenerationOptions {
  /** Ends the watch; it then rejects with the signal's reason. */
  signal: AbortSignal;
  /** For pauses and limits. */
  clock: Clock;
  /** Carries the worker's id. */
  log: Logger;
}

/**
 * Has the worker generate one token soon after its load and then rarely, whenever it is idle. The first token is what
 * all later ones must be. A worker that knows no self-test is left alone. Resolves when
 * {@linkcode SELF_TEST_FAILURES_MAX} tests in a row have failed, with the reason.
 */
export async function watchGeneration(api: WorkerApi, options: WatchGenerationOptions): Promise<string> {
  const { signal, clock, log } = options;
  let known: number | null | undefined;
  let waitMs = SELF_TEST_DELAY_MS;
  for (let failures = 0;;) {
    await sleep(clock, waitMs, signal);
    const ifIdleMs = known === undefined ? 0 : SELF_TEST_IDLE_MIN_MS;
    let why: string;
    try {
      using limit = deadline(clock, SELF_TEST_TIMEOUT_MS, signal);
      const answer = await api.selfTest({ ifIdleMs, signal: limit.signal });
      waitMs = answer.ran ? SELF_TEST_INTERVAL_MS : SELF_TEST_IDLE_MIN_MS;
      if (!answer.ran) continue;
      known ??= answer.token_id;
      if (answer.token_id === known) {
        failures = 0;
        continue;
      }
      why = `It generated token ${answer.token_id} where it had generated ${known}.`;
    } catch (error) {
      signal.throwIfAborted();
      // A worker of an older hive that this one has adopted knows no such test: there is nothing to hold against it.
      if (error instanceof RbeeError && error.code === "NOT_FOUND") {
        waitMs = Infinity;
        continue;
      }
      why = error instanceof RbeeError ? `${error.code}: ${error.message}` : String(error);
    }
    failures++;
    log.warn("worker failed its self-test", { failures, reason: why });
    if (failures === SELF_TEST_FAILURES_MAX) return why;
    waitMs = SELF_TEST_AGAIN_MS;
  }
}
