/**
 * Notices within 5 s that the other end of an event stream can't be reached any more. A dead process closes its
 * connections and needs no watch; a cut cable closes nothing, and the stream's comments come every 10 s only. So a
 * silent stream's host is asked for a fresh connection.
 */
import { StreamCutError } from "../protocol/sse.ts";
import { CONNECTION_CHECK_TIMEOUT_MS, SILENCE_BEFORE_CHECK_MS, STREAM_WATCH_INTERVAL_MS } from "./limits.ts";

/** A stream's guard. Disposing ends the watch. */
export interface ConnectionWatch extends Disposable {
  /** For the call: aborts as the outer signal does, and with a `StreamCutError` when the connection is lost. */
  readonly signal: AbortSignal;
  /** For the call: told of every sign of life. */
  readonly onActivity: () => void;
}

/** Watches the connection to `url` until disposed. */
export function watchConnection(url: string, outer: AbortSignal): ConnectionWatch {
  const lost = new AbortController();
  const ended = new AbortController();
  let lastSignMs = performance.now();
  let checking = false;
  const check = async () => {
    checking = true;
    try {
      await checkReachable(url, ended.signal);
      lastSignMs = performance.now();
    } catch (cause) {
      lost.abort(new StreamCutError({ cause }));
    } finally {
      checking = false;
    }
  };
  const timer = setInterval(() => {
    if (!checking && performance.now() - lastSignMs >= SILENCE_BEFORE_CHECK_MS) void check();
  }, STREAM_WATCH_INTERVAL_MS);
  return {
    signal: AbortSignal.any([outer, lost.signal]),
    onActivity: () => void (lastSignMs = performance.now()),
    [Symbol.dispose]() {
      clearInterval(timer);
      ended.abort();
    },
  };
}

/**
 * Rejects when no packet comes back from the URL's host, or not in time. Whether the process there is well is not the
 * question: it may be busy, or leaving.
 */
export async function checkReachable(url: string, ended: AbortSignal): Promise<void> {
  const { hostname, port, protocol } = new URL(url);
  const timeout = AbortSignal.timeout(CONNECTION_CHECK_TIMEOUT_MS);
  try {
    const connection = await Deno.connect({
      hostname: hostname.replace(/^\[|\]$/g, ""),
      port: Number(port || (protocol === "https:" ? 443 : 80)),
      signal: AbortSignal.any([timeout, ended]),
    });
    connection.close();
  } catch (error) {
    // A refusal is an answer: a worker that drains takes no new connections but finishes the old ones.
    if (!ended.aborted && !(error instanceof Deno.errors.ConnectionRefused)) throw error;
  }
}
