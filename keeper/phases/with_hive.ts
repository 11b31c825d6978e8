/** What every command about one machine begins with: the node is found, and its hive reached, straight or by a queen. */
import type { LoadedConfig } from "../../home/config.ts";
import { newCorrelationId } from "../../protocol/correlation.ts";
import { QueenClient } from "../../protocol/queen_client.ts";
import type { CommandContext, PhaseContext } from "../context.ts";
import type { Place } from "../explain.ts";
import { type ResolvedNode, resolveNode } from "../node.ts";
import { placeOfQueen, queenOf } from "../queen.ts";
import { type NodeChoice, onlyNode } from "../queens_node.ts";
import { type ReachedHive, reachHive, runningHive } from "./reach_hive.ts";
import { withConfig } from "../with_config.ts";

/** Which machine is meant: with a queen, one of that queen's. */
export interface NodeFlags {
  node?: string;
  queen?: string;
}

/**
 * Runs `work` with a node's hive, which is started when it is this machine's and does not run. With `onlyRunning` it is
 * taken as it is: not started, and of whatever version. `choose` finds the machine where a queen is named and none of its
 * machines; without it there must be only one. Errors say where they happened.
 */
export async function withHive<T>(
  flags: NodeFlags,
  context: CommandContext,
  work: (hive: ReachedHive, context: PhaseContext, config: LoadedConfig) => Promise<T>,
  options: { onlyRunning?: boolean; choose?: NodeChoice } = {},
): Promise<T> {
  return await withConfig(async (config, place) => {
    const phases = { ...context, correlationId: newCorrelationId() };
    const node = await nodeOf(flags, { config, place, choose: options.choose }, phases);
    const hive = options.onlyRunning
      ? await runningHive(node, phases)
      : await reachHive(node, config, phases);
    place.node = hive.node;
    return await work(hive, phases, config);
  });
}

/** The machine that is meant, and how to call its hive. */
export async function nodeOf(
  flags: NodeFlags,
  from: { config: LoadedConfig; place: Place; choose?: NodeChoice },
  context: PhaseContext,
): Promise<ResolvedNode> {
  const { config, place, choose = onlyNode } = from;
  const queen = flags.queen === undefined ? undefined : await queenOf({ queen: flags.queen }, config);
  if (queen === undefined) return place.node = await resolveNode(flags.node, config);
  const node = place.node = placeOfQueen(queen);
  const { correlationId } = context;
  const client = new QueenClient({ baseUrl: queen.url, apiKey: queen.apiKey, correlationId });
  const name = flags.node ?? await choose(client, context);
  return { ...node, name, apiKey: queen.apiKey, byQueen: true };
}
