/** A worker that a queen has one of its machines start, waited for by the word of that machine's hive. */
import { delay } from "@std/async";
import { errorFromBody, RbeeError } from "../../protocol/errors.ts";
import { QueenClient } from "../../protocol/queen_client.ts";
import type { SpawnRequest } from "../../protocol/spawn_request.ts";
import type { PhaseContext } from "../context.ts";
import { Interrupted } from "../interrupt.ts";
import { LOAD_GRACE_MS, READY_POLL_INTERVAL_MS, SPAWN_TIMEOUT_MS } from "../limits.ts";
import { STAGES } from "../progress.ts";
import type { ReachedHive } from "./reach_hive.ts";
import { describe, STILL_LOADING, tellEvicted } from "./spawn_worker.ts";

/**
 * Starts it, or takes the one that the hive already has for the same, and waits until its model is loaded. The worker
 * itself is not called: it need not be in reach, and its key stays where it is.
 *
 * @throws {RbeeError} the hive's preflight and start errors as they are; `WORKER_CRASHED` when it ends before it is ready.
 */
export async function spawnByQueen(
  hive: ReachedHive,
  wish: { request: SpawnRequest; loadTimeoutMs: number },
  context: PhaseContext,
): Promise<{ id: string; url: string; node: string }> {
  const { output, signal, correlationId } = context;
  const { name: node, url: baseUrl, apiKey } = hive.node;
  const queen = new QueenClient({ baseUrl, apiKey, correlationId });
  const { request } = wish;
  const spawned = await queen.spawn(node, request, { signal, timeoutMs: SPAWN_TIMEOUT_MS });
  tellEvicted(spawned, output);
  output.say(describe(spawned, { node, chosen: request.backend === "auto" }));
  const { worker_id: id, url } = spawned;
  const untilMs = performance.now() + wish.loadTimeoutMs + LOAD_GRACE_MS;
  try {
    while (!await isReady(hive, id, signal)) {
      output.progress(STAGES.loading, STAGES.loading);
      if (performance.now() > untilMs) throw tooLate(wish.loadTimeoutMs);
      await delay(READY_POLL_INTERVAL_MS, { signal });
    }
  } catch (error) {
    if (signal.reason instanceof Interrupted) throw new Interrupted(STILL_LOADING, signal.reason.exitCode);
    throw error;
  }
  if (!spawned.reused) output.ready();
  return { id, url, node };
}

async function isReady(hive: ReachedHive, id: string, signal: AbortSignal): Promise<boolean> {
  const { state, error } = await hive.client.worker(id, { signal });
  if (error !== undefined) throw errorFromBody(error);
  if (state === "starting" || state === "loading") return false;
  if (state === "idle" || state === "busy") return true;
  throw new RbeeError("WORKER_CRASHED", `Worker ${id} ended before its model was loaded`);
}

function tooLate(timeoutMs: number): RbeeError {
  return new RbeeError("LOADING_TIMEOUT", `The model was not loaded within ${timeoutMs / 1000} s`);
}
