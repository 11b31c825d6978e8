/** A deadline that every sign of life moves on. */

/** A timer that is later than so many ms was not merely waiting its turn. */
const LATE_MS = 1_000;

/** Aborts when it was not restarted in time. Disposing ends it. */
export interface PauseTimer extends Disposable {
  /** Aborts with the reason made for the time that passed. */
  readonly signal: AbortSignal;
  /** Begins to wait anew, for `ms`. */
  restart(ms: number): void;
}

/** Starts one. `reason` makes what the signal aborts with. */
export function pauseTimer(ms: number, reason: (ms: number) => unknown): PauseTimer {
  const controller = new AbortController();
  const start = (time: number) => {
    const dueMs = performance.now() + time;
    return setTimeout(() => {
      // This process itself was stopped (Ctrl+Z, a sleeping machine): what came meanwhile has yet to be read.
      if (performance.now() - dueMs > LATE_MS) timer = start(time);
      else controller.abort(reason(time));
    }, time);
  };
  let timer = start(ms);
  return {
    signal: controller.signal,
    restart(time) {
      clearTimeout(timer);
      timer = start(time);
    },
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}
