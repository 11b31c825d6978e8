/** The workers that are started with the hive (`hive.preload`). */
import type { Logger } from "../daemon/log.ts";
import { type ErrorCode, toRbeeError } from "../protocol/errors.ts";
import type { SpawnRequest } from "../protocol/spawn_request.ts";
import { type Clock, sleep } from "../daemon/clock.ts";
import { PRELOAD_RETRY_MAX_MS, PRELOAD_RETRY_MS } from "./limits.ts";
import type { Models } from "./models/models.ts";
import type { Workers } from "./workers/workers.ts";

/** What time does not heal. */
const HOPELESS: readonly ErrorCode[] = [
  "INVALID_REQUEST",
  "BACKEND_UNAVAILABLE",
  "DEVICE_NOT_FOUND",
  "MODEL_NOT_FOUND",
  "MODEL_ACCESS_DENIED",
  "INVALID_MODEL",
];

/** Options of {@linkcode preload}. */
export interface PreloadOptions {
  /** Brings what is not here. */
  models: Pick<Models, "obtain">;
  /** Starts them. */
  workers: Pick<Workers, "spawn">;
  /** Ends all waiting; it then resolves. */
  signal: AbortSignal;
  /** For pauses. */
  clock: Clock;
  /** Told how each went. */
  log: Logger;
}

/**
 * Starts them one after the other, in order, each as often as it takes: a hub may be away when a machine boots, and
 * memory may be short for a while. One that can't be right (no such model, no such backend) is given up. Never throws.
 */
export async function preload(wishes: readonly SpawnRequest[], options: PreloadOptions): Promise<void> {
  let left = await startAll(wishes, options);
  for (let waitMs = PRELOAD_RETRY_MS; left.length > 0; waitMs = Math.min(2 * waitMs, PRELOAD_RETRY_MAX_MS)) {
    await sleep(options.clock, waitMs, options.signal).catch(() => {});
    left = await startAll(left, options);
  }
}

/** Those that are to be tried again. */
async function startAll(wishes: readonly SpawnRequest[], options: PreloadOptions): Promise<SpawnRequest[]> {
  const again: SpawnRequest[] = [];
  for (const wish of wishes) {
    if (options.signal.aborted) return [];
    const about = { model_ref: wish.model_ref };
    try {
      await options.models.obtain(wish.model_ref);
      const { worker_id, reused } = await options.workers.spawn(wish);
      options.log.info("worker preloaded", { ...about, worker_id, reused });
    } catch (thrown) {
      const error = toRbeeError(thrown);
      const hopeless = HOPELESS.includes(error.code);
      if (!hopeless) again.push(wish);
      if (options.signal.aborted) return [];
      options.log.error("worker not preloaded", {
        ...about,
        ...{ code: error.code, reason: error.message, tried_again: !hopeless },
      });
    }
  }
  return again;
}
