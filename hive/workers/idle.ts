/** The idle timer of one worker. The hive sees no requests, so it asks: the worker itself decides, in one step. */
import type { Logger } from "../../daemon/log.ts";
import { type Clock, deadline, sleep } from "../../daemon/clock.ts";
import { IDLE_RECHECK_MIN_MS, IDLE_RETRY_MS, SHUTDOWN_ACK_TIMEOUT_MS } from "../limits.ts";
import type { WorkerApi } from "./connection.ts";
import type { WorkerRecord } from "./registry.ts";

/** Options of {@linkcode leaveWhenIdle}. */
export interface LeaveWhenIdleOptions {
  /** Ends the waiting; it then rejects with the signal's reason. */
  signal: AbortSignal;
  /** For pauses and limits. */
  clock: Clock;
  /** How long nothing must have run. */
  timeoutMs: number;
  /** For how long nothing has run as far as is known. */
  idleMs: number;
}

/**
 * Waits until the worker has been idle for long enough and has agreed to leave. It is asked only when it could be true:
 * its answer says for how long nothing has run, and the next question follows when the rest has passed.
 */
export async function leaveWhenIdle(api: WorkerApi, options: LeaveWhenIdleOptions): Promise<void> {
  const { signal, clock, timeoutMs } = options;
  for (let waitMs = Math.max(timeoutMs - options.idleMs, 0);;) {
    await sleep(clock, waitMs, signal);
    using limit = deadline(clock, SHUTDOWN_ACK_TIMEOUT_MS, signal);
    try {
      const answer = await api.shutdown({ ifIdleMs: timeoutMs, signal: limit.signal });
      if (answer.accepted) return;
      waitMs = Math.max(timeoutMs - answer.idle_ms, IDLE_RECHECK_MIN_MS);
    } catch {
      // Whether it is alive at all is for the health loop to find out.
      signal.throwIfAborted();
      waitMs = IDLE_RETRY_MS;
    }
  }
}

/** Has one worker leave when it has been idle for as long as its record says. */
export class IdleWatch {
  readonly #options: { record: WorkerRecord; clock: Clock; log: Logger };
  readonly #onLeave: (reason: "idle") => void;
  #scope = new AbortController();

  /** `onLeave` is called once the worker has agreed to leave. */
  constructor(
    options: { record: WorkerRecord; clock: Clock; log: Logger },
    onLeave: (reason: "idle") => void,
  ) {
    this.#options = options;
    this.#onLeave = onLeave;
  }

  /** Starts anew; nothing has run for `idleMs` as far as is known. */
  arm(api: WorkerApi, idleMs: number): void {
    const { record: { idleTimeoutSeconds }, clock, log } = this.#options;
    this.disarm();
    if (idleTimeoutSeconds === 0) return;
    this.#scope = new AbortController();
    const timeoutMs = idleTimeoutSeconds * 1000;
    leaveWhenIdle(api, { signal: this.#scope.signal, clock, timeoutMs, idleMs }).then(() => {
      log.info("worker was idle and leaves", { idle_timeout_seconds: idleTimeoutSeconds });
      this.#onLeave("idle");
    }, () => {});
  }

  /** Waits no longer. */
  disarm(): void {
    this.#scope.abort();
  }
}
