/** Why a request would go where it would, and why not elsewhere: `GET /v2/explain`. */
import type { ExplainResponse } from "../../protocol/queen_schemas.ts";
import type { Decision } from "./decision.ts";
import { loadOption } from "./load_placement.ts";
import { nodeProblem, place } from "./placement.ts";
import { type ClusterView, mayGoTo, type NodeView, type Wish } from "./view.ts";

/** What would happen, and what every machine has to say. Pure. */
export function explain(wish: Wish, cluster: ClusterView, nowMs: number): ExplainResponse {
  const decision = place(wish, cluster, nowMs);
  const { kind, why } = decision;
  const own = [...cluster.nodes()].filter(({ name }) => mayGoTo({ nodes: wish.nodes }, name));
  const nodes = own.map((node) => ({
    node: node.name,
    ...explainNode(wish, { node, cluster, nowMs }),
  }));
  return { decision: kind, why, node: nodeOf(decision), nodes };
}

function nodeOf(decision: Decision): string | undefined {
  if (decision.kind === "run") return decision.worker.node;
  return decision.kind === "load" ? decision.node : undefined;
}

type NodeVerdict = Omit<ExplainResponse["nodes"][number], "node">;

function explainNode(
  wish: Wish,
  at: { node: NodeView; cluster: ClusterView; nowMs: number },
): NodeVerdict {
  const { node, cluster, nowMs } = at;
  if (wish.node !== undefined && wish.node !== node.name) {
    return { verdict: "no", why: `Only ${wish.node} was asked for.`, remedy: "Leave the node open." };
  }
  if (node.cordoned) {
    return {
      verdict: "no",
      why: "It is cordoned: nothing new goes there.",
      remedy: `Give it work again: rbee-keeper nodes uncordon ${node.name}`,
    };
  }
  const problem = nodeProblem(wish, { name: node.name, cluster, nowMs });
  if (problem !== undefined) {
    return { verdict: "no", why: problem.why, remedy: "See to it that its hive runs and reaches the queen." };
  }
  const serving = [...node.workers].filter(({ model, backend, state }) =>
    model === wish.model && state !== "leaving" && (wish.backend === undefined || wish.backend === backend)
  );
  const ready = serving.filter(({ state }) => state === "ready");
  const free = ready.filter(({ busy, slots }) => busy < slots);
  if (free.length > 0) {
    return {
      verdict: "serves",
      why: `${free[0].id} has ${free[0].slots - free[0].busy} of ${free[0].slots} slots free.`,
    };
  }
  if (ready.length > 0) {
    return {
      verdict: "busy",
      why: `All slots of ${ready.map(({ id }) => id).join(", ")} are taken.`,
      remedy: "Wait for one, or load the model on another node as well.",
    };
  }
  if (serving.length > 0) return { verdict: "loading", why: `${serving[0].id} is loading it.` };
  const option = loadOption(wish, at);
  if ("told" in option) return { verdict: "no", ...option.told() };
  const { device, onDisk, neededMb, evicts } = option;
  const room = neededMb === undefined
    ? "its size is not known yet"
    : `needs ${Math.ceil(neededMb)} MB of ${Math.floor(device.freeMb)} MB free`;
  const where = `${device.backend}:${device.index}, ${onDisk ? "on disk" : "to be fetched"}, ${room}`;
  return evicts.length === 0
    ? { verdict: "fits", why: `${where}.` }
    : { verdict: "fits after eviction", why: `${where}; ${evicts.join(", ")} would leave.` };
}
