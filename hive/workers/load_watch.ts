/** Following a worker's load to its end. */
import { errorFromBody, RbeeError } from "../../protocol/errors.ts";
import { type Clock, settlesWithin } from "../../daemon/clock.ts";
import { LOAD_WATCH_RETRY_MS } from "../limits.ts";
import type { WorkerApi } from "./connection.ts";

/** How far a load has come. */
export interface LoadProgress {
  /** Layers in memory. */
  layersLoaded: number;
  /** Layers of the model. */
  layersTotal: number;
}

/** Options of {@linkcode watchLoad}. */
export interface WatchLoadOptions {
  /** Ends the watch; it then rejects with the signal's reason. */
  signal: AbortSignal;
  /** For the pause before a broken stream is opened again. */
  clock: Clock;
  /** Settles when the worker's process is over: a broken stream is the end then. */
  exited: Promise<unknown>;
  /** Told of every step. */
  onProgress: (progress: LoadProgress) => void;
}

/**
 * Waits until the model is loaded.
 *
 * @returns `ready`; the worker's own error when the load failed; `over` when the process ended without a word.
 */
export async function watchLoad(
  api: WorkerApi,
  options: WatchLoadOptions,
): Promise<"ready" | "over" | RbeeError> {
  const { signal, clock, exited } = options;
  for (;;) {
    try {
      const { events } = await api.loadingProgress({ signal });
      for await (const event of events) {
        if (event.stage === "ready") return "ready";
        if (event.stage === "error") return errorFromBody(event.error);
        options.onProgress({ layersLoaded: event.layers_loaded, layersTotal: event.layers_total });
      }
    } catch {
      // Broken: either the process is over, or it has to be asked again.
    }
    if (await settlesWithin(exited, { clock, ms: LOAD_WATCH_RETRY_MS, signal })) return "over";
    signal.throwIfAborted();
  }
}
