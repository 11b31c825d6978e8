/** Notices that nobody says anything any more. */
import { RbeeError } from "../../protocol/errors.ts";

/** Aborts after so long without a sign of life. */
export function silenceWatch(ms: number): Disposable & { signal: AbortSignal; alive: () => void } {
  const silent = new AbortController();
  const arm = () =>
    setTimeout(
      () => silent.abort(new RbeeError("NODE_UNREACHABLE", `Nothing was heard for ${ms / 1000} s.`)),
      ms,
    );
  let timer = arm();
  return {
    signal: silent.signal,
    alive() {
      clearTimeout(timer);
      timer = arm();
    },
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}
