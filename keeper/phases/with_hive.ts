/** What every command about one machine's models begins with: the node is found, and its hive reached. */
import type { LoadedConfig } from "../../home/config.ts";
import { newCorrelationId } from "../../protocol/correlation.ts";
import type { CommandContext, PhaseContext } from "../context.ts";
import { resolveNode } from "../node.ts";
import { type ReachedHive, reachHive, runningHive } from "./reach_hive.ts";
import { withConfig } from "../with_config.ts";

/**
 * Runs `work` with a node's hive, which is started when it is this machine's and does not run. With `onlyRunning` it is
 * taken as it is: not started, and of whatever version. Errors say where they happened.
 */
export async function withHive<T>(
  nodeName: string | undefined,
  context: CommandContext,
  work: (hive: ReachedHive, context: PhaseContext, config: LoadedConfig) => Promise<T>,
  options: { onlyRunning?: boolean } = {},
): Promise<T> {
  return await withConfig(async (config, place) => {
    place.node = await resolveNode(nodeName, config);
    const phases = { ...context, correlationId: newCorrelationId() };
    const hive = options.onlyRunning
      ? await runningHive(place.node, phases)
      : await reachHive(place.node, config, phases);
    place.node = hive.node;
    return await work(hive, phases, config);
  });
}
