/**
 * Where work goes: a pure function from a wish and the cluster to a decision with its reasons. A free slot where the
 * model is loaded; else a machine where it fits, one that has its files first; else one that can make room for it;
 * else it waits.
 */
import { BLOCK_TOKENS } from "../../protocol/prefix_blocks.ts";
import { DEFAULT_READS_PER_SECOND } from "../limits.ts";
import type { Decision } from "./decision.ts";
import { mayReturn, placeLoad } from "./load_placement.ts";
import { longestOf } from "./longest.ts";
import {
  type ClusterView,
  mayGoTo,
  type ModelView,
  modelViewOf,
  type Wish,
  type WorkerView,
} from "./view.ts";

/** Costs that no measurement tells apart: by this factor, and by this many ms. */
const ABOUT_THE_SAME = 1.25;
const ABOUT_THE_SAME_MS = 1;

/** Decides. Looks at the workers of the model, and at machines only when none of them is there. */
export function place(wish: Wish, cluster: ClusterView, nowMs: number): Decision {
  if (wish.node !== undefined) {
    const refused = nodeProblem(wish, { name: wish.node, cluster, nowMs });
    if (refused !== undefined) return refused;
  }
  const workers = servingOf(wish, cluster);
  const unfit = workerProblem(workers, wish);
  const serving = unfit === undefined ? workers.ready : 0;
  const free: { worker: WorkerView; shared: number }[] = [];
  let tried = 0;
  let gathers: WorkerView | undefined;
  if (serving > 0 && !wish.grow) {
    for (const worker of workers.free) {
      if (worker.id === wish.avoid || workerProblem(worker, wish) !== undefined) continue;
      if (worker.trialUntilMs > nowMs) {
        tried++;
        continue;
      }
      if (freeSlots(worker) >= Math.min(wish.slots ?? 1, worker.slots)) {
        free.push({ worker, shared: sharedTokens(worker, wish) });
      } else if (gathers === undefined || hasMoreFree(worker, gathers)) {
        gathers = worker;
      }
    }
  }
  if (free.length > 0) {
    const { worker, shared } = cheapest(wish.suspect ? quietest(free) : free, wish);
    const why = `${worker.id} on ${worker.node} has a free slot${
      shared > 0 ? ` and holds ${shared} tokens of this prompt` : ""
    }.`;
    return { kind: "run", worker, sharedTokens: shared, why };
  }
  const coming = workers.loading + cluster.loadsOf(wish.model);
  if (coming > 0 && !wish.grow) return { kind: "wait", why: `${wish.model} is being loaded.`, gathers };
  if (serving > 0 && !wish.grow) {
    const busy = `All slots of ${serving} worker${serving === 1 ? "" : "s"} are busy`;
    if (gathers !== undefined) {
      return { kind: "wait", why: `It needs ${wish.slots} slots of one worker at once.`, gathers };
    }
    return {
      kind: "wait",
      why: tried === 0 ? `${busy}.` : `${busy}, or kept for a request that lost its worker.`,
    };
  }
  if (unfit !== undefined) return { kind: "never", code: "INVALID_REQUEST", why: unfit };
  return placeLoad(wish, { cluster, nowMs, served: serving > 0 });
}

function servingOf(wish: Wish, cluster: ClusterView): ModelView {
  const { node, nodes, backend, device } = wish;
  if ((node ?? nodes ?? backend ?? device) === undefined) return cluster.modelView(wish.model);
  const there = cluster.workersOf(wish.model, node === undefined ? nodes : [node]);
  return modelViewOf([...there].filter((worker) => matches(worker, wish)));
}

function freeSlots(worker: WorkerView): number {
  return worker.slots - worker.busy;
}

function hasMoreFree(a: WorkerView, b: WorkerView): boolean {
  return freeSlots(a) > freeSlots(b) || (freeSlots(a) === freeSlots(b) && a.id < b.id);
}

/**
 * How many tokens of a wish's prompt a worker still holds. A hash stands for all tokens before it: who holds one holds
 * those of all shorter beginnings. Most workers hold nothing of a prompt, and are asked once, however long it is.
 */
export function sharedTokens(
  { blocks: held }: Pick<WorkerView, "blocks">,
  { blocks = [] }: Pick<Wish, "blocks">,
): number {
  return longestOf(blocks.length, (count) => held.has(blocks[count - 1])) * BLOCK_TOKENS;
}

/** What a worker probably still holds of a session of which no hashes are known. */
function sessionTokens(worker: WorkerView, { preferred, promptTokens = 0 }: Wish): number {
  return worker.id === preferred ? promptTokens / 2 : 0;
}

/** Why nothing can go to a machine, if so. */
export function nodeProblem(
  wish: Pick<Wish, "patient">,
  at: { name: string; cluster: ClusterView; nowMs: number },
): Decision | undefined {
  const { name, cluster, nowMs } = at;
  const node = cluster.node(name);
  if (node?.cordoned) return { kind: "wait", why: `${name} is cordoned: nothing new goes there.` };
  if (node?.presence === "up") return undefined;
  if (cluster.settling) return { kind: "wait", why: `Nothing was heard of ${name} yet.` };
  if (node !== undefined && (wish.patient !== undefined || mayReturn(node, nowMs))) {
    const why = node.presence === "stale" ? "has missed its last heartbeats" : "is down and may come back";
    return { kind: "wait", why: `${name} ${why}.` };
  }
  if (wish.patient === "any") return { kind: "wait", why: `Nothing was heard of ${name}.` };
  return node === undefined
    ? { kind: "never", code: "NODE_NOT_FOUND", why: `There is no node ${name} in this cluster.` }
    : { kind: "never", code: "NODE_UNREACHABLE", why: `${name} is down.` };
}

function matches(worker: WorkerView, wish: Wish): boolean {
  return mayGoTo(wish, worker.node) &&
    (wish.backend === undefined || worker.backend === wish.backend) &&
    (wish.device === undefined || worker.device === wish.device);
}

function workerProblem(worker: Pick<WorkerView, "embeds" | "context">, wish: Wish): string | undefined {
  if (wish.embeds !== undefined && worker.embeds !== undefined && worker.embeds !== wish.embeds) {
    return worker.embeds
      ? `${wish.model} makes embeddings here and cannot continue text.`
      : `${wish.model} continues text here and makes no embeddings.`;
  }
  if (wish.context !== undefined && worker.context !== undefined && wish.context > worker.context) {
    return `${wish.context} tokens are too many for ${wish.model}: its workers hold ${worker.context} at most.`;
  }
  return undefined;
}

/**
 * Where the company of a suspect is least likely to kill the worker, and has least to lose by it: first those where
 * everybody has told a token, then those with the fewest requests.
 */
function quietest<Free extends { worker: WorkerView }>(free: readonly Free[]): Free[] {
  const untold = Math.min(...free.map(({ worker }) => worker.untold));
  const proven = free.filter(({ worker }) => worker.untold === untold);
  const busy = Math.min(...proven.map(({ worker }) => worker.busy));
  return proven.filter(({ worker }) => worker.busy === busy);
}

/**
 * What the first token costs: reading what is not in the cache, slower the more others compute beside it. So the one that
 * holds the prompt is preferred until it is so busy that reading it anew elsewhere is faster. Who was never measured is
 * thought to be as fast as the others, and of those that cost about the same the one with less to lose is taken.
 */
function cheapest<Free extends { worker: WorkerView; shared: number }>(
  free: readonly Free[],
  wish: Wish,
): Free {
  const { promptTokens = BLOCK_TOKENS } = wish;
  const measured = free.flatMap(({ worker }) => worker.readsPerSecond ?? []);
  const usual = measured.length === 0
    ? DEFAULT_READS_PER_SECOND
    : measured.reduce((sum, one) => sum + one, 0) / measured.length;
  let least = Infinity;
  const costs = free.map(({ worker, shared }) => {
    const held = Math.max(shared, sessionTokens(worker, wish));
    const rest = Math.max(1, promptTokens - held);
    const cost = rest * 1000 / (worker.readsPerSecond ?? usual) * (1 + worker.busy);
    least = Math.min(least, cost);
    return cost;
  });
  const most = least * ABOUT_THE_SAME + ABOUT_THE_SAME_MS;
  let best: Free | undefined;
  for (const [i, one] of free.entries()) {
    if (costs[i] > most) continue;
    if (best === undefined || prefers(one.worker, best.worker)) best = one;
  }
  return best!;
}

/** Of two that cost the same, the one that has less to lose: most slots free, least in its cache. */
function prefers(a: WorkerView, b: WorkerView): boolean {
  const aBusy = a.busy / a.slots;
  const bBusy = b.busy / b.slots;
  if (aBusy !== bBusy) return aBusy < bBusy;
  const aHeld = a.blocks.size / a.slots;
  const bHeld = b.blocks.size / b.slots;
  return aHeld !== bHeld ? aHeld < bHeld : a.lastUsedMs < b.lastUsedMs;
}
