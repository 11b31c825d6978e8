/**
 * Where work goes: a pure function from a wish and the cluster to a decision with its reasons. A free slot where the
 * model is loaded; else a machine where it fits, one that has its files first; else one that can make room for it;
 * else it waits.
 */
import type { ErrorCode } from "../../protocol/errors.ts";
import type { BackendName } from "../../protocol/spawn_request.ts";
import { BLOCK_TOKENS } from "../../protocol/prefix_blocks.ts";
import { DEFAULT_READS_PER_SECOND, LOADS_PER_NODE_MAX } from "../limits.ts";
import { type LoadProblem, mostMb, neverAnywhere, noDevice, noRoom, rankOf } from "./load_problem.ts";
import type { ClusterView, DeviceView, NodeView, Wish, WorkerView } from "./view.ts";

/** What is to be done. `why` is for people. */
export type Decision =
  /** `sharedTokens` of the prompt are in the worker's cache. */
  | { kind: "run"; worker: WorkerView; sharedTokens: number; why: string }
  | { kind: "load"; node: string; backend: BackendName; device: number; evicts: string[]; why: string }
  | { kind: "wait"; why: string }
  | { kind: "never"; code: ErrorCode; why: string };

/** What a model needs above its file: the least that a hive asks for, too. */
const SIZE_FACTOR = 1.2;
/** The best first. */
const BACKEND_ORDER: readonly BackendName[] = ["cuda", "metal", "vulkan", "cpu"];

/** Costs that no measurement tells apart: by this factor, and by this many ms. */
const ABOUT_THE_SAME = 1.25;
const ABOUT_THE_SAME_MS = 1;

/** Decides. Looks at the workers of the model, and at machines only when none of them is there. */
export function place(wish: Wish, cluster: ClusterView, nowMs: number): Decision {
  if (wish.node !== undefined) {
    const refused = nodeProblem(wish.node, cluster);
    if (refused !== undefined) return refused;
  }
  let serving = 0;
  let loading = 0;
  let tried = 0;
  let unfit: string | undefined;
  const free: { worker: WorkerView; shared: number }[] = [];
  for (const worker of cluster.workersOf(wish.model)) {
    if (worker.state === "leaving" || !matches(worker, wish)) continue;
    if (worker.state === "loading") {
      loading++;
      continue;
    }
    const problem = workerProblem(worker, wish);
    if (problem !== undefined) {
      unfit = problem;
      continue;
    }
    serving++;
    if (worker.trialUntilMs > nowMs) {
      tried++;
      continue;
    }
    if (worker.busy >= worker.slots) continue;
    free.push({ worker, shared: sharedTokens(worker, wish) });
  }
  if (free.length > 0 && !wish.grow) {
    const { worker, shared } = cheapest(wish.suspect ? quietest(free) : free, wish);
    const why = `${worker.id} on ${worker.node} has a free slot${
      shared > 0 ? ` and holds ${shared} tokens of this prompt` : ""
    }.`;
    return { kind: "run", worker, sharedTokens: shared, why };
  }
  const coming = loading + cluster.loadsOf(wish.model);
  if (coming > 0) return { kind: "wait", why: `${wish.model} is being loaded.` };
  if (serving > 0 && !wish.grow) {
    const busy = `All slots of ${serving} worker${serving === 1 ? "" : "s"} are busy`;
    return {
      kind: "wait",
      why: tried === 0 ? `${busy}.` : `${busy}, or kept for a request that lost its worker.`,
    };
  }
  if (serving === 0 && unfit !== undefined) return { kind: "never", code: "INVALID_REQUEST", why: unfit };
  return placeLoad(wish, { cluster, nowMs, served: serving > 0 });
}

/** How many tokens of a wish's prompt a worker still holds. */
export function sharedTokens(worker: WorkerView, { blocks = [] }: Wish): number {
  for (let count = blocks.length; count > 0; count--) {
    if (worker.blocks.has(blocks[count - 1])) return count * BLOCK_TOKENS;
  }
  return 0;
}

/** What a worker probably still holds of a session of which no hashes are known. */
function sessionTokens(worker: WorkerView, { preferred, promptTokens = 0 }: Wish): number {
  return worker.id === preferred ? promptTokens / 2 : 0;
}

/** Why nothing can go to a machine, if so. */
export function nodeProblem(name: string, cluster: ClusterView): Decision | undefined {
  const node = cluster.node(name);
  if (node?.cordoned) return { kind: "wait", why: `${name} is cordoned: nothing new goes there.` };
  if (node?.presence === "up") return undefined;
  if (cluster.settling) return { kind: "wait", why: `Nothing was heard of ${name} yet.` };
  if (node === undefined) {
    return { kind: "never", code: "NODE_NOT_FOUND", why: `There is no node ${name} in this cluster.` };
  }
  if (node.presence === "stale") return { kind: "wait", why: `${name} has missed its last heartbeats.` };
  return { kind: "never", code: "NODE_UNREACHABLE", why: `${name} is down.` };
}

function matches(worker: WorkerView, wish: Wish): boolean {
  return (wish.node === undefined || worker.node === wish.node) &&
    (wish.backend === undefined || worker.backend === wish.backend) &&
    (wish.device === undefined || worker.device === wish.device);
}

function workerProblem(worker: WorkerView, wish: Wish): string | undefined {
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

/** How a machine takes to a model that is not loaded. */
export interface LoadOption {
  node: NodeView;
  device: DeviceView;
  /** Undefined: nobody knows its size yet, the hive will see. */
  neededMb?: number;
  onDisk: boolean;
  /** Ids of idle workers that have to leave, the longest unused first. */
  evicts: string[];
}

/** Whether, where and how a machine can take a model; else why not, and what would help. */
export function loadOption(
  wish: Wish,
  at: { node: NodeView; cluster: ClusterView; nowMs: number },
): LoadOption | LoadProblem {
  const { node, cluster, nowMs } = at;
  const all = node.devices;
  const devices = all.filter(({ backend, index }) =>
    (wish.backend === undefined || backend === wish.backend) &&
    (wish.device === undefined || index === wish.device)
  );
  if (devices.length === 0 && all.length > 0) return noDevice(wish, all);
  const onDisk = node.models.has(wish.model);
  // A file that some machine has listed is a file of that machine: nobody can fetch it. Whoever asks for another machine
  // by name may know better than its list.
  const isOpen = wish.node === undefined;
  if (!onDisk && isOpen && wish.model.startsWith("file:") && cluster.sizeOf(wish.model) !== undefined) {
    return {
      why: "The file is on another machine.",
      remedy:
        `Copy it to the same path there and ask for ${node.name} by name, or use a model that the hub has.`,
      lasting: "MODEL_NOT_FOUND",
    };
  }
  const bytes = node.models.get(wish.model) ?? cluster.sizeOf(wish.model);
  const neededMb = bytes === undefined ? undefined : bytes * SIZE_FACTOR / 1e6;
  if (devices.length > 0 && devices.every((device) => (neededMb ?? 0) > mostMb(device))) {
    return noRoom(wish.model, { devices, neededMb });
  }
  if (node.presence !== "up") {
    return { why: `It is ${node.presence}.`, remedy: "See to it that its hive runs and reaches the queen." };
  }
  if (node.cordoned) {
    return {
      why: "It is cordoned: nothing new goes there.",
      remedy: `Give it work again: rbee-keeper nodes uncordon ${node.name}`,
    };
  }
  const refusal = node.refusals.get(wish.model);
  if (refusal !== undefined && refusal.untilMs > nowMs) {
    return {
      why: `Its hive refused a moment ago: ${refusal.message}`,
      remedy: `It will be asked again in ${Math.ceil((refusal.untilMs - nowMs) / 1000)} s.`,
    };
  }
  if (node.loads >= LOADS_PER_NODE_MAX) {
    return { why: `It is loading ${node.loads} models.`, remedy: "Wait until one of them is loaded." };
  }
  if (devices.length === 0) {
    return { why: "It has not said yet what it has to compute on.", remedy: "Wait for its next report." };
  }
  const options = devices.flatMap((device): LoadOption[] => {
    const evicts = evictionsFor(neededMb ?? 0, { node, device });
    return evicts === undefined ? [] : [{ node, device, neededMb, onDisk, evicts }];
  }).sort((a, b) => byGoodness(a, b));
  if (options.length > 0) return options[0];
  return noRoom(wish.model, { devices, neededMb });
}

/** Idle workers that have to leave; undefined when not even that is enough. */
function evictionsFor(
  neededMb: number,
  at: { node: NodeView; device: DeviceView },
): string[] | undefined {
  const { node, device } = at;
  let missingMb = neededMb - device.freeMb;
  if (missingMb <= 0) return [];
  const idle = [...node.workers].filter((worker) =>
    worker.backend === device.backend && worker.device === device.index && worker.state === "ready" &&
    worker.busy === 0 && !worker.pinned
  ).sort((a, b) => a.lastUsedMs - b.lastUsedMs);
  const evicts: string[] = [];
  for (const worker of idle) {
    evicts.push(worker.id);
    missingMb -= worker.memoryMb;
    if (missingMb <= 0) return evicts;
  }
  return undefined;
}

/** Nobody has to leave, files that are there, the faster backend, less that is being loaded, more room. */
function byGoodness(a: LoadOption, b: LoadOption): number {
  const backend = (option: LoadOption) => BACKEND_ORDER.indexOf(option.device.backend);
  return Number(a.evicts.length > 0) - Number(b.evicts.length > 0) ||
    Number(b.onDisk) - Number(a.onDisk) || backend(a) - backend(b) || a.node.loads - b.node.loads ||
    a.evicts.length - b.evicts.length || b.device.freeMb - a.device.freeMb;
}

function placeLoad(
  wish: Wish,
  at: { cluster: ClusterView; nowMs: number; served: boolean },
): Decision {
  const { cluster, nowMs, served } = at;
  let best: LoadOption | undefined;
  let nodes = 0;
  let up = 0;
  let refusal: { code: string; message: string } | undefined;
  let loading = false;
  let lasting = 0;
  let problem: { node: NodeView; told: LoadProblem } | undefined;
  for (const node of cluster.nodes()) {
    if (wish.node !== undefined && node.name !== wish.node) continue;
    nodes++;
    if (node.presence === "up") up++;
    if (node.loads >= LOADS_PER_NODE_MAX) loading = true;
    // A second worker on the machine that has the first computes on the same cores.
    if (served && hasModel(node, wish.model)) continue;
    const option = loadOption(wish, { node, cluster, nowMs });
    if ("why" in option) {
      refusal ??= node.refusals.get(wish.model);
      if (option.lasting !== undefined) lasting++;
      if (problem === undefined || rankOf(option) < rankOf(problem.told)) problem = { node, told: option };
      continue;
    }
    // One more worker is worth no other's place.
    if (served && option.evicts.length > 0) continue;
    if (best === undefined || byGoodness(option, best) < 0) best = option;
  }
  if (best !== undefined) {
    const { node, device, evicts, onDisk } = best;
    const why = `${node.name} ${onDisk ? "has its files" : "can fetch it"} and ${
      evicts.length > 0 ? `room once ${evicts.join(", ")} left` : "room for it"
    }.`;
    return { kind: "load", node: node.name, backend: device.backend, device: device.index, evicts, why };
  }
  if (served) return { kind: "wait", why: "All slots are busy, and no other node has room." };
  if (up === 0) {
    if (cluster.settling) return { kind: "wait", why: "No hive has reported yet." };
    return {
      kind: "never",
      code: "NODE_UNREACHABLE",
      why: nodes === 0 ? "No hive has reported to this queen." : "No hive is up.",
    };
  }
  if (lasting === nodes) {
    if (cluster.settling) return { kind: "wait", why: "Not every hive may have reported yet." };
    return { kind: "never", ...neverAnywhere(wish, { cluster, ...problem! }) };
  }
  if (loading) return { kind: "wait", why: "Other models are being loaded." };
  if (refusal !== undefined && FINAL_REFUSALS.has(refusal.code)) {
    return { kind: "never", code: refusal.code as ErrorCode, why: refusal.message };
  }
  return {
    kind: "wait",
    why: `No node can load ${wish.model} at present${
      problem === undefined ? "" : `; ${problem.node.name}: ${problem.told.why} ${problem.told.remedy}`
    }`,
  };
}

/** What a hive refused with that waiting will not change. */
const FINAL_REFUSALS = new Set<string>([
  "MODEL_NOT_FOUND",
  "MODEL_ACCESS_DENIED",
  "INVALID_MODEL",
  "INVALID_REQUEST",
  "BACKEND_UNAVAILABLE",
  "DEVICE_NOT_FOUND",
  "CHECKSUM_MISMATCH",
  "DOWNLOAD_FAILED",
  "DOWNLOAD_TIMEOUT",
  "INSUFFICIENT_RAM",
  "VRAM_EXHAUSTED",
  "INSUFFICIENT_DISK",
  "WORKER_START_FAILED",
  "LOADING_TIMEOUT",
  "WORKER_CRASHED",
]);

function hasModel(node: NodeView, model: string): boolean {
  for (const worker of node.workers) {
    if (worker.model === model && worker.state !== "leaving") return true;
  }
  return false;
}
