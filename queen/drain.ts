/** Emptying a machine: its answers end by themselves, as far as there is time for that, and its workers are stopped. */
import { delay } from "@std/async";
import type { Logger } from "../daemon/log.ts";
import { RbeeError } from "../protocol/errors.ts";
import { HiveClient } from "../protocol/hive_client.ts";
import { HEARTBEAT_INTERVAL_MS } from "../protocol/limits.ts";
import type { Cluster } from "./cluster/cluster.ts";
import type { ClusterNode } from "./cluster/cluster_node.ts";
import { NODE_LOOK_INTERVAL_MS } from "./limits.ts";

/**
 * Waits until nothing runs on a cordoned machine, or for `timeoutMs`, and stops its workers. Answers of this queen that
 * still run then go on elsewhere.
 *
 * @throws {RbeeError} `INVALID_REQUEST` when the machine is uncordoned meanwhile; what its hive says of a worker that it
 * can't stop. The signal's reason when that aborts.
 */
export async function drain(
  name: string,
  how: { cluster: Cluster; timeoutMs: number; signal: AbortSignal; log: Logger },
): Promise<void> {
  const { cluster, timeoutMs, signal, log } = how;
  const node = cluster.node(name);
  if (node === undefined) return;
  const until = async (isDone: () => boolean, limitMs: number): Promise<boolean> => {
    const deadlineMs = performance.now() + limitMs;
    while (!isDone()) {
      if (!node.cordoned) {
        throw new RbeeError("INVALID_REQUEST", `${name} was uncordoned: it is not drained any further.`);
      }
      if (performance.now() > deadlineMs) return false;
      await delay(NODE_LOOK_INTERVAL_MS, { signal });
    }
    return true;
  };
  const isQuiet = await until(() => busySlots(node) === 0 && node.loads === 0, timeoutMs);
  const left = busySlots(node);
  const hive = new HiveClient({ baseUrl: node.url, apiKey: node.apiKey });
  const ids = [...node.byId.keys()];
  await Promise.all(ids.map(async (id) => {
    try {
      await hive.shutdownWorker(id, { signal });
    } catch (error) {
      if (!(error instanceof RbeeError && error.code === "WORKER_NOT_FOUND")) throw error;
    }
  }));
  // Until its hive has said so the queen would show them.
  await until(() => node.byId.size === 0, 2 * HEARTBEAT_INTERVAL_MS);
  log.info("machine is drained", { node: name, workers: ids.length, cut: isQuiet ? 0 : left });
}

function busySlots({ workers }: ClusterNode): number {
  let busy = 0;
  for (const worker of workers) busy += worker.busy;
  return busy;
}
