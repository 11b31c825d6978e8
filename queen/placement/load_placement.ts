/** Where a model can be loaded: what each machine has to say to that, and the best of them. */
import type { ErrorCode } from "../../protocol/errors.ts";
import type { BackendName } from "../../protocol/spawn_request.ts";
import { LOADS_PER_NODE_MAX, MACHINE_REFUSALS_MAX, RETURN_MS } from "../limits.ts";
import type { Decision } from "./decision.ts";
import { type LoadProblem, mostMb, neverAnywhere, noDevice, noRoom, rankOf } from "./load_problem.ts";
import {
  type ClusterView,
  type DeviceView,
  mayGoTo,
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
  if (!onDisk && wish.downloads === false && wish.model.startsWith("hf:")) {
    return {
      why: "Its files are not there, and nothing is downloaded for this key.",
      remedy: `Have it fetched: rbee-keeper models pull ${wish.model} --node ${node.name}`,
      lasting: "MODEL_NOT_FOUND",
    };
  }
  const bytes = node.models.get(wish.model) ?? cluster.sizeOf(wish.model);
  const neededMb = bytes === undefined ? undefined : mbFor(bytes);
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

/** Where a model is loaded that no worker serves, or that needs one more worker. Looks at each machine. */
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
  let problem: { node: NodeView; told: LoadProblem } | undefined;
  for (const node of cluster.nodes()) {
    if (!mayGoTo(wish, node.name)) continue;
    nodes++;
    if (node.presence === "up") up++;
    else returning ||= mayReturn(node, nowMs);
    if (node.loads >= LOADS_PER_NODE_MAX) loading = true;
    const refusal = node.refusals.get(wish.model);
    if (refusal !== undefined && isFinal(refusal)) refusals.push(refusal);
    // A second worker on the machine that has the first computes on the same cores.
    if (served && (hasModel(node, wish.model) || node.isLoading(wish.model))) continue;
    const option = loadOption(wish, { node, cluster, nowMs });
    if ("why" in option) {
      if (option.lasting !== undefined) lasting++;
      if (problem === undefined || rankOf(option) < rankOf(problem.told)) problem = { node, told: option };
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
    return { kind: "never", ...neverAnywhere(wish, { cluster, ...problem! }) };
  }
  if (loading) return { kind: "wait", why: "Other models are being loaded." };
  if (standing.length > 0) return never(standing[0]);
  return {
    kind: "wait",
    why: `No node can load ${wish.model} at present${
      problem === undefined ? "" : `; ${problem.node.name}: ${problem.told.why} ${problem.told.remedy}`
    }`,
  };
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
