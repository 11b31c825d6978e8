/** Where a model can be loaded: what each machine has to say to that, and the best of them. */
import type { ErrorCode } from "../../protocol/errors.ts";
import type { BackendName } from "../../protocol/spawn_request.ts";
import { LOADS_PER_NODE_MAX, MACHINE_REFUSALS_MAX, RETURN_MS } from "../limits.ts";
import type { Decision } from "./decision.ts";
import {
  inWords,
  type LoadProblem,
  mostMb,
  neverAnywhere,
  noDevice,
  noRoom,
  rankOf,
} from "./load_problem.ts";
import {
  type ClusterView,
  type DeviceView,
  mayLeave,
  type NodeView,
  type Refusal,
  type Wish,
} from "./view.ts";

/** What a model needs above its file: the least that a hive asks for, too. */
const SIZE_FACTOR = 1.2;
/** The best first. */
const BACKEND_ORDER: readonly BackendName[] = ["cuda", "metal", "vulkan", "cpu"];

/** A hive that is upgraded or started anew is back within this time, and no reason to fail anything. */
export function mayReturn(node: NodeView, nowMs: number): boolean {
  return node.presence === "stale" || nowMs - node.heardMs < RETURN_MS;
}

/** What a model needs, by its size on any machine; 0 where nobody knows it. */
export function neededMb(model: string, cluster: ClusterView): number {
  return mbFor(cluster.sizeOf(model) ?? 0);
}

function mbFor(bytes: number): number {
  return bytes * SIZE_FACTOR / 1e6;
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

/** As that machine knows it, or another. */
function bytesOf(model: string, at: { node: NodeView; cluster: ClusterView }): number | undefined {
  return at.node.models.get(model) ?? at.cluster.sizeOf(model);
}

/** Whether, where and how a machine can take a model; else why not, and what would help. */
export function loadOption(
  wish: Wish,
  at: { node: NodeView; cluster: ClusterView; nowMs: number },
): LoadOption | LoadProblem {
  const { node, cluster, nowMs } = at;
  const all = node.devices;
  const isAny = wish.backend === undefined && wish.device === undefined;
  const devices = isAny
    ? all
    : all.filter(({ backend, index }) =>
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
      lasting: "MODEL_NOT_FOUND",
      told: () => ({
        why: "The file is on another machine.",
        remedy:
          `Copy it to the same path there and ask for ${node.name} by name, or use a model that the hub has.`,
      }),
    };
  }
  if (!onDisk && wish.downloads === false && wish.model.startsWith("hf:")) {
    return {
      lasting: "MODEL_NOT_FOUND",
      told: () => ({
        why: "Its files are not there, and nothing is downloaded for this key.",
        remedy: `Have it fetched: rbee-keeper models pull ${wish.model} --node ${node.name}`,
      }),
    };
  }
  const bytes = bytesOf(wish.model, at);
  const neededMb = bytes === undefined ? undefined : mbFor(bytes);
  if (devices.length > 0 && devices.every((device) => (neededMb ?? 0) > mostMb(device))) {
    return noRoom(wish.model, { devices, neededMb });
  }
  const busy = busyProblem(wish, { node, nowMs });
  if (busy !== undefined) return busy;
  let best: LoadOption | undefined;
  for (const device of devices) {
    const evicts = evictionsFor(neededMb ?? 0, { node, device });
    if (evicts === undefined) continue;
    const option = { node, device, neededMb, onDisk, evicts };
    if (best === undefined || byGoodness(option, best) < 0) best = option;
  }
  return best ?? noRoom(wish.model, { devices, neededMb });
}

/** Why a machine takes no model, or not this one, whatever room it has. */
function busyProblem(wish: Wish, at: { node: NodeView; nowMs: number }): LoadProblem | undefined {
  const { node, nowMs } = at;
  const told = (why: string, remedy: string): LoadProblem => ({ told: () => ({ why, remedy }) });
  if (node.presence !== "up") {
    return told(`It is ${node.presence}.`, "See to it that its hive runs and reaches the queen.");
  }
  if (node.cordoned) {
    return told(
      "It is cordoned: nothing new goes there.",
      `Give it work again: rbee-keeper nodes uncordon ${node.name}`,
    );
  }
  const refusal = node.refusals.get(wish.model);
  if (refusal !== undefined && refusal.untilMs > nowMs) {
    return told(
      `Its hive refused a moment ago: ${refusal.message}`,
      `It will be asked again in ${Math.ceil((refusal.untilMs - nowMs) / 1000)} s.`,
    );
  }
  if (node.loads >= LOADS_PER_NODE_MAX) {
    return told(`It is loading ${node.loads} models.`, "Wait until one of them is loaded.");
  }
  if (node.devices.length === 0) {
    return told("It has not said yet what it has to compute on.", "Wait for its next report.");
  }
}

/** Idle workers that have to leave; undefined when not even that is enough. */
function evictionsFor(
  neededMb: number,
  at: { node: NodeView; device: DeviceView },
): string[] | undefined {
  const { node, device } = at;
  let missingMb = neededMb - device.freeMb;
  if (missingMb <= 0) return [];
  let idleMb = 0;
  for (const worker of node.workers) if (mayLeave(worker, device)) idleMb += worker.memoryMb;
  if (idleMb < missingMb) return undefined;
  const idle = [...node.workers].filter((worker) => mayLeave(worker, device));
  const evicts: string[] = [];
  for (const worker of idle.sort((a, b) => a.lastUsedMs - b.lastUsedMs)) {
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

/**
 * Where a model is loaded that no worker serves, or that needs one more worker. Looks at each machine, at most of them for
 * their room alone.
 */
export function placeLoad(
  wish: Wish,
  at: { cluster: ClusterView; nowMs: number; served: boolean },
): Decision {
  const { cluster, nowMs, served } = at;
  const refused = cluster.refusalOf(wish.model);
  if (refused !== undefined && refused.untilMs > nowMs) return never(refused);
  let best: LoadOption | undefined;
  let nodes = 0;
  let up = 0;
  let returning = false;
  let loading = false;
  const refusals: Refusal[] = [];
  let lasting = 0;
  let telling: { node: NodeView; problem: LoadProblem } | undefined;
  for (const node of askedOf(wish, cluster)) {
    nodes++;
    if (node.presence === "up") up++;
    else returning ||= mayReturn(node, nowMs);
    if (node.loads >= LOADS_PER_NODE_MAX) loading = true;
    const refusal = node.refusals.get(wish.model);
    if (refusal !== undefined && isFinal(refusal)) refusals.push(refusal);
    // That it has no room is all there is to know, once a machine is found for which waiting may help.
    const isKnown = telling !== undefined && telling.problem.lasting === undefined;
    if (isKnown && mbFor(bytesOf(wish.model, { node, cluster }) ?? 0) > node.roomMb) continue;
    // A second worker on the machine that has the first computes on the same cores.
    if (served && (hasModel(node, wish.model) || node.isLoading(wish.model))) continue;
    const option = loadOption(wish, { node, cluster, nowMs });
    if ("told" in option) {
      if (option.lasting !== undefined) lasting++;
      if (telling === undefined || rankOf(option) < rankOf(telling.problem)) {
        telling = { node, problem: option };
      }
      continue;
    }
    // One more worker is worth no other's place.
    if (served && option.evicts.length > 0) continue;
    if (best === undefined || byGoodness(option, best) < 0) best = option;
  }
  // What three machines can't do the fourth won't do either, and each fetches the files first. A load may take longer
  // than a refusal lasts, so that earlier ones count as long as the last one lasts.
  const standing = refusals.filter(({ untilMs }) => untilMs > nowMs);
  if (!served && standing.length > 0 && refusals.length >= MACHINE_REFUSALS_MAX) return never(standing[0]);
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
    if (returning || (nodes > 0 && wish.patient) || wish.patient === "any") {
      return { kind: "wait", why: "No hive is heard of at present." };
    }
    return {
      kind: "never",
      code: "NODE_UNREACHABLE",
      why: nodes > 0
        ? "No hive is up."
        : wish.nodes === undefined
        ? "No hive has reported to this queen."
        : "No machine of this key has reported to this queen.",
    };
  }
  if (lasting === nodes) {
    if (cluster.settling) return { kind: "wait", why: "Not every hive may have reported yet." };
    return { kind: "never", ...neverAnywhere(wish, { cluster, ...telling! }) };
  }
  if (loading) return { kind: "wait", why: "Other models are being loaded." };
  if (standing.length > 0) return never(standing[0]);
  return {
    kind: "wait",
    why: `No node can load ${wish.model} at present${
      telling === undefined ? "" : `; ${inWords(telling.node, telling.problem)}`
    }`,
  };
}

/** The machines that a wish leaves open. */
function askedOf({ node, nodes }: Wish, cluster: ClusterView): Iterable<NodeView> {
  const names = node === undefined ? nodes : nodes === undefined || nodes.has(node) ? [node] : [];
  if (names === undefined) return cluster.nodes();
  return [...names].flatMap((name) => cluster.node(name) ?? []);
}

function never({ code, message }: Refusal): Decision {
  return { kind: "never", code: code as ErrorCode, why: message };
}

/** Reasons that lie in the model: every machine would find the same. */
const MODEL_REFUSALS = new Set<string>([
  "MODEL_NOT_FOUND",
  "MODEL_ACCESS_DENIED",
  "INVALID_MODEL",
  "INVALID_REQUEST",
  "CHECKSUM_MISMATCH",
]);

/** Whether a load failed for a reason that lies in the model; files named by a path are each machine's own. */
export function liesInModel(model: string, code: string): boolean {
  return MODEL_REFUSALS.has(code) && !model.startsWith("file:");
}

/** Refusals that say nothing of the model or the machine: the next attempt may well succeed. */
const PASSING_REFUSALS = new Set<string>([
  "NODE_UNREACHABLE",
  "SHUTTING_DOWN",
  "NOT_READY",
  "ALL_SLOTS_BUSY",
  "REQUEST_CANCELED",
]);

function isFinal({ code }: Refusal): boolean {
  return !PASSING_REFUSALS.has(code);
}

function hasModel(node: NodeView, model: string): boolean {
  for (const worker of node.workers) {
    if (worker.model === model && worker.state !== "leaving") return true;
  }
  return false;
}
