/** Phases 4 to 7: a worker is started, entered into the registry, and waited for. */
import type { SpawnResponse } from "../../protocol/hive_schemas.ts";
import type { SpawnRequest } from "../../protocol/spawn_request.ts";
import { ago } from "../ago.ts";
import type { PhaseContext } from "../context.ts";
import { Interrupted } from "../interrupt.ts";
import { LOAD_GRACE_MS, SPAWN_TIMEOUT_MS } from "../limits.ts";
import type { Output } from "../output.ts";
import { nowUnix, type Registry } from "../registry.ts";
import { awaitReady } from "./await_ready.ts";
import type { LiveWorker } from "./find_worker.ts";
import type { ReachedHive } from "./reach_hive.ts";

/** What Ctrl+C leaves behind. */
export const STILL_LOADING = "Canceled. The worker goes on loading and will be there for the next command.";

/**
 * Starts a worker, or takes the one that the hive already has for the same, and waits until its model is loaded.
 *
 * @throws {RbeeError} the hive's preflight errors and start errors as they are; `LOADING_TIMEOUT`, `WORKER_CRASHED`
 * or the worker's own error when it does not load.
 * @throws {WorkerGone} when it is being stopped at this very moment.
 */
export async function spawnWorker(
  hive: ReachedHive,
  wish: { request: SpawnRequest; registry: Registry; loadTimeoutMs: number },
  context: PhaseContext,
): Promise<LiveWorker> {
  const { request, registry } = wish;
  const { output, signal } = context;
  const spawned = await hive.client.spawn(request, { signal, timeoutMs: SPAWN_TIMEOUT_MS });
  tellEvicted(spawned, output);
  output.say(describe(spawned, { node: hive.node.name, chosen: request.backend === "auto" }));

  const row = { id: spawned.worker_id, node: hive.node.name };
  registry.save({
    ...row,
    url: spawned.url,
    apiKey: spawned.api_key,
    modelRef: request.model_ref,
    backend: spawned.backend,
    device: spawned.device,
    state: "loading",
    requested: request,
    createdAtUnix: nowUnix(),
    lastHealthCheckUnix: nowUnix(),
  });
  const worker = { ...row, url: spawned.url, apiKey: spawned.api_key };
  try {
    const ready = await awaitReady(worker, {
      hive: hive.client,
      // The hive gives up first and knows best why.
      timeoutMs: wish.loadTimeoutMs + LOAD_GRACE_MS,
      reused: spawned.reused,
    }, context);
    registry.seen(row, "ready");
    return { ...worker, model: ready.model };
  } catch (error) {
    // The row stays: the worker goes on loading, and its hive hands it out to the next command.
    if (error instanceof Interrupted) throw new Interrupted(STILL_LOADING, error.exitCode);
    if (!signal.aborted) registry.forget(row);
    throw error;
  }
}

/** Says who had to leave for it. */
export function tellEvicted({ evicted }: Pick<SpawnResponse, "evicted">, output: Output): void {
  for (const { worker_id, model_ref, idle_seconds } of evicted) {
    const lastUsed = ago(nowUnix() - idle_seconds, nowUnix());
    output.say(`Worker ${worker_id} (${model_ref}, last used ${lastUsed}) has left to make room.`);
  }
}

/** One that was started, or was there, in one line. */
export function describe(
  spawned: Omit<SpawnResponse, "api_key">,
  from: { node: string; chosen: boolean },
): string {
  const what = spawned.reused ? "Using" : "Starting";
  const where = `${spawned.backend} device ${spawned.device}${from.chosen ? ", chosen automatically" : ""}`;
  return `${what} worker ${spawned.worker_id} on ${from.node} (${where}).`;
}
