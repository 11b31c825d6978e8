/** `nodes cordon`, `uncordon`, `drain` and `label`: what a queen may send to a machine. */
import { loadConfig } from "../../home/config.ts";
import { newCorrelationId } from "../../protocol/correlation.ts";
import type { QueenClient } from "../../protocol/queen_client.ts";
import type { NodeInfo } from "../../protocol/queen_schemas.ts";
import { type LoadedCommand, UsageError } from "../cli.ts";
import type { CommandContext } from "../context.ts";
import { DRAIN_GRACE_MS } from "../limits.ts";
import { queenOf } from "../queen.ts";
import type { NodesDrainFlags, NodesLabelFlags, QueenNodeFlags } from "../table/nodes.ts";
import { asShown, type QueensNode } from "./nodes_of_queen.ts";
import { ask } from "./queen_calls.ts";

/** `nodes cordon`. */
export const NODES_CORDON: LoadedCommand<QueenNodeFlags> = {
  run: (context, { name, queen }) =>
    onQueen(context, {
      ...{ queen, command: "cordon" },
      work: (client, { signal }) => client.onNode("cordonNode", name, { signal }),
      done: () => `Nothing new goes to ${name}. What runs there goes on.`,
    }),
};
/** `nodes uncordon`. */
export const NODES_UNCORDON: LoadedCommand<QueenNodeFlags> = {
  run: (context, { name, queen }) =>
    onQueen(context, {
      ...{ queen, command: "uncordon" },
      work: (client, { signal }) => client.onNode("uncordonNode", name, { signal }),
      done: () => `Work goes to ${name} again.`,
    }),
};
/** `nodes drain`. */
export const NODES_DRAIN: LoadedCommand<NodesDrainFlags> = {
  run: (context, { name, queen, timeout }) =>
    onQueen(context, {
      ...{ queen, command: "drain" },
      doing: `Nothing new goes to ${name}. Waiting for its answers to end, for ${timeout} s at most ...`,
      work: (client, { signal }) =>
        client.drainNode({ node_name: name, timeout }, {
          signal,
          timeoutMs: timeout * 1000 + DRAIN_GRACE_MS,
        }),
      done: ({ state }) =>
        `${name} is drained (${state}). Give it work again: rbee-keeper nodes uncordon ${name}`,
    }),
};
/** `nodes label`. */
export const NODES_LABEL: LoadedCommand<NodesLabelFlags> = {
  check: ({ add = [], remove = [] }) =>
    add.length + remove.length > 0 ? [] : ["--add or --remove is required."],
  run: (context, { name, queen, add, remove }) =>
    onQueen(context, {
      ...{ queen, command: "label" },
      work: (client, { signal }) => client.labelNode({ node_name: name, add, remove }, { signal }),
      done: ({ labels }) => `The labels of ${name}: ${labels.join(", ") || "none"}.`,
    }),
};

async function onQueen(
  { output, signal }: CommandContext,
  what: {
    queen: string | undefined;
    command: string;
    doing?: string;
    work: (client: QueenClient, options: { signal: AbortSignal }) => Promise<NodeInfo>;
    done: (node: QueensNode) => string;
  },
): Promise<number> {
  const place = await loadConfig();
  const queen = await queenOf({ queen: what.queen }, place);
  if (queen === undefined) throw new UsageError(["--queen is required."], ["nodes", what.command]);
  if (what.doing !== undefined) output.say(what.doing);
  const work = (client: QueenClient) => what.work(client, { signal });
  const node = asShown(await ask(queen, place, { correlationId: newCorrelationId(), work }));
  if (output.json) await output.document(node);
  else output.say(what.done(node));
  return 0;
}
