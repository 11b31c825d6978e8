/** Time as daemons see it, so that five minutes are tested in milliseconds. */

/** Tells the time and wakes up. */
export interface Clock {
  /** Milliseconds since 1970, for what people read; durations are never computed from it. */
  unixMs(): number;
  /** Runs `task` once after `delayMs`; the returned function takes that back and may be called at any time. */
  after(delayMs: number, task: () => void): () => void;
}

/** `setTimeout` counts in 32 bits and fires at once beyond that. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** The machine's own clock. */
export const systemClock: Clock = {
  unixMs: () => Date.now(),
  after(delayMs, task) {
    let timer: ReturnType<typeof setTimeout>;
    const arm = (restMs: number) => {
      timer = setTimeout(
        () => restMs > TIMER_MAX_MS ? arm(restMs - TIMER_MAX_MS) : task(),
        Math.min(restMs, TIMER_MAX_MS),
      );
    };
    arm(delayMs);
    return () => clearTimeout(timer);
  },
};

/** Resolves in the next turn of the event loop, when what others wait for has been looked at. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

/** Whole seconds since 1970, as the wire has them. */
export function unixSeconds(clock: Clock): number {
  return Math.floor(clock.unixMs() / 1000);
}

/** Resolves after `ms`. Rejects with the signal's reason when that aborts first. */
export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const onAbort = () => {
      cancel();
      reject(signal.reason);
    };
    const cancel = clock.after(ms, () => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    });
    signal.addEventListener("abort", onAbort, { once: true });
  });
}

/** A signal that aborts after a while; leaving its scope takes the timer back. */
export interface Deadline extends Disposable {
  /** Aborts with a `TimeoutError` after the time, or with the outer signal's reason. */
  readonly signal: AbortSignal;
  /** Whether the time has run out. */
  readonly expired: boolean;
}

/** Starts a {@linkcode Deadline} of `ms`, optionally inside another signal. */
export function deadline(clock: Clock, ms: number, outer?: AbortSignal): Deadline {
  const own = new AbortController();
  const cancel = clock.after(
    ms,
    () => own.abort(new DOMException(`Not done within ${ms} ms.`, "TimeoutError")),
  );
  return {
    signal: outer === undefined ? own.signal : AbortSignal.any([outer, own.signal]),
    get expired() {
      return own.signal.aborted;
    },
    [Symbol.dispose]: cancel,
  };
}

/** Whether `promise` settles before the time or the signal ends the wait; rejects when it rejects in time. */
export async function settlesWithin(
  promise: Promise<unknown>,
  options: { clock: Clock; ms: number; signal?: AbortSignal },
): Promise<boolean> {
  using limit = deadline(options.clock, options.ms, options.signal);
  const { signal } = limit;
  if (signal.aborted) return false;
  const late = Promise.withResolvers<false>();
  const onAbort = () => late.resolve(false);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise.then(() => true), late.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
