/** Phase 1: is a worker known that fits, and is it well? */
import { RbeeError } from "../../protocol/errors.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import type { ModelFacts, ReadyResponse } from "../../protocol/worker_schemas.ts";
import type { PhaseContext } from "../context.ts";
import {
  FRESH_PROBE_TIMEOUT_MS,
  MAX_PROBED_ROWS,
  OLD_PROBE_TIMEOUT_MS,
  REGISTRY_FRESH_SECONDS,
} from "../limits.ts";
import { nowUnix, type RegisteredWorker, type Registry, type WorkerWish } from "../registry.ts";

/** A worker that has just said that it can take a request. */
export interface LiveWorker {
  /** The hive's name for it. */
  id: string;
  /** The node's name. */
  node: string;
  /** Of the worker itself. */
  url: string;
  /** Its own key. */
  apiKey: string;
  /** Facts of the model it holds. */
  model: ModelFacts;
}

/**
 * The first registered worker that fits and answers. Every row is probed before use, whatever its age: SPEC §8 asks
 * for a health check under 60 s old, and the probe is one. An older row is not thrown away unasked, it is only given
 * less time to answer. A row whose worker does not answer as it should is dropped without a word.
 */
export async function findWorker(
  registry: Registry,
  wish: WorkerWish,
  context: PhaseContext,
): Promise<LiveWorker | undefined> {
  for (const row of registry.candidates(wish).slice(0, MAX_PROBED_ROWS)) {
    const ready = await probe(row, context);
    if (ready?.ready) {
      registry.seen(row, row.state);
      return { id: row.id, node: row.node, url: row.url, apiKey: row.apiKey, model: ready.model };
    }
    registry.forget(row);
  }
}

async function probe(row: RegisteredWorker, context: PhaseContext): Promise<ReadyResponse | undefined> {
  const fresh = nowUnix() - row.lastHealthCheckUnix < REGISTRY_FRESH_SECONDS;
  const client = new WorkerClient({
    baseUrl: row.url,
    apiKey: row.apiKey,
    correlationId: context.correlationId,
  });
  try {
    return await client.ready({
      signal: context.signal,
      timeoutMs: fresh ? FRESH_PROBE_TIMEOUT_MS : OLD_PROBE_TIMEOUT_MS,
    });
  } catch (error) {
    context.signal.throwIfAborted();
    if (!(error instanceof RbeeError)) throw error;
  }
}
