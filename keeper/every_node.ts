/** Asking all machines that are known, or the one that is named. */
import type { LoadedConfig } from "../home/config.ts";
import { RbeeError } from "../protocol/errors.ts";
import type { HiveClient } from "../protocol/hive_client.ts";
import { HEALTH_TIMEOUT_MS } from "../protocol/limits.ts";
import type { PhaseContext } from "./context.ts";
import type { Place } from "./explain.ts";
import { knownNodes, LOCALHOST, resolveNode } from "./node.ts";
import { hiveClient, hiveHealth } from "./phases/reach_hive.ts";

/** What one machine said. */
export type NodeAnswer<T> =
  | { node: string; client: HiveClient; answer: T }
  /** Why there is no answer. */
  | { node: string; error: RbeeError };

/** Asks one machine, with EC1's patience, or all of them: one that is off must not spoil the answer, nor hold it up. */
export async function askNodes<T>(
  name: string | undefined,
  from: {
    config: LoadedConfig;
    place: Place;
    ask: (client: HiveClient, options: { signal: AbortSignal; timeoutMs?: number }) => Promise<T>;
  },
  context: PhaseContext,
): Promise<NodeAnswer<T>[]> {
  const { config, place, ask } = from;
  const { signal } = context;
  if (name !== undefined) {
    const node = place.node = await resolveNode(name, config);
    await hiveHealth(node, context);
    const client = hiveClient(node, context);
    return [{ node: name, client, answer: await ask(client, { signal }) }];
  }
  return await Promise.all(
    knownNodes(config.config).map(async (each): Promise<NodeAnswer<T>> => {
      try {
        const client = hiveClient(await resolveNode(each, config), context);
        return { node: each, client, answer: await ask(client, { signal, timeoutMs: HEALTH_TIMEOUT_MS }) };
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof RbeeError)) throw error;
        return { node: each, error };
      }
    }),
  );
}

/** Whether something is wrong with a machine that did not answer: nothing is with one that has not been used yet. */
export function isWrong({ node, error }: { node: string; error: RbeeError }): boolean {
  return node !== LOCALHOST || error.code !== "NODE_UNREACHABLE";
}

/** Why there is no answer, for a person. */
export function silenceOf({ node, error }: { node: string; error: RbeeError }): string {
  if (!isWrong({ node, error })) return "No hive runs on this machine.";
  if (error.code === "MISSING_API_KEY") {
    return `${node} was not asked: no key is configured for it (nodes.${node}.api_key_file).`;
  }
  const { code, message } = error;
  const advice = node === LOCALHOST && code === "INVALID_API_KEY"
    ? " If its key was changed while it ran: rbee-keeper daemon restart"
    : "";
  return `${node} did not answer: ${message}${advice}`;
}
