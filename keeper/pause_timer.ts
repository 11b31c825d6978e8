/** A deadline that every sign of life moves on. */

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
  const start = (time: number) => setTimeout(() => controller.abort(reason(time)), time);
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
