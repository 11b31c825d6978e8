/** The workers that are started with the hive (`hive.preload`). */
import type { Logger } from "../daemon/log.ts";
import { RbeeError, toRbeeError } from "../protocol/errors.ts";
import type { SpawnRequest } from "../protocol/hive_schemas.ts";
import { type Clock, sleep } from "./clock.ts";
import { PRELOAD_RETRY_MAX_MS, PRELOAD_RETRY_MS } from "./limits.ts";
import type { Models } from "./models/models.ts";
import type { Workers } from "./workers/workers.ts";

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
  const again = await startAll(wishes, options);
  let waitMs = PRELOAD_RETRY_MS;
  for (let left = again; left.length > 0;) {
    await sleep(options.clock, waitMs, options.signal).catch(() => {});
    if (options.signal.aborted) return;
    waitMs = Math.min(2 * waitMs, PRELOAD_RETRY_MAX_MS);
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
      const hopeless = isHopeless(error);
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

/** Whether time heals it. */
function isHopeless(error: RbeeError): boolean {
  const causes = ["INVALID_REQUEST", "BACKEND_UNAVAILABLE", "DEVICE_NOT_FOUND", "MODEL_NOT_FOUND"];
  return [...causes, "MODEL_ACCESS_DENIED", "INVALID_MODEL"].includes(error.code);
}
