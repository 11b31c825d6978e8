/** Notices that nobody says anything any more. */
import { RbeeError } from "../../protocol/errors.ts";

/**
 * Aborts after so long without a sign of life. Signs are frequent, so they only leave a note; the timer looks at it when
 * it has run out.
 */
export function silenceWatch(ms: number): Disposable & { signal: AbortSignal; alive: () => void } {
  const silent = new AbortController();
  let lastMs = performance.now();
  const look = () => {
    const leftMs = lastMs + ms - performance.now();
    if (leftMs > 0) timer = setTimeout(look, leftMs);
    else silent.abort(new RbeeError("NODE_UNREACHABLE", `Nothing was heard for ${ms / 1000} s.`));
  };
  let timer = setTimeout(look, ms);
  return {
    signal: silent.signal,
    alive: () => void (lastMs = performance.now()),
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}
