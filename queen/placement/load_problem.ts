/** Why a model can't be loaded on a machine, in words that say what would help. Pure. */
import type { ErrorCode } from "../../protocol/errors.ts";
import { type ClusterView, type DeviceView, mayGoTo, type NodeView, type Wish } from "./view.ts";

const THOUSANDS = new Intl.NumberFormat("en-US");

/** Why a machine can't take a model. */
export interface LoadProblem {
  /** Waiting changes nothing about it: what it comes to as an error. */
  lasting?: ErrorCode;
  /** The same in words. Of a thousand machines those of one are shown, so they are made for that one alone. */
  told: () => ProblemText;
}

/** What is wrong, and what would help. */
export interface ProblemText {
  why: string;
  remedy: string;
}

/** The most that workers can ever have of a device. */
export function mostMb({ totalMb, reserveMb = 0 }: DeviceView): number {
  return totalMb - reserveMb;
}

/** It has not the device that is asked for. */
export function noDevice(wish: Wish, devices: readonly DeviceView[]): LoadProblem {
  const hasBackend = devices.some(({ backend }) => backend === wish.backend);
  return {
    lasting: wish.backend === undefined || hasBackend ? "DEVICE_NOT_FOUND" : "BACKEND_UNAVAILABLE",
    told: () => ({
      why: `It has ${devices.map(({ backend, index }) => `${backend}:${index}`).join(", ")} to compute on.`,
      remedy: `Ask for one of these, or leave it open.`,
    }),
  };
}

/** None of its devices that are asked for has room. */
export function noRoom(
  model: string,
  at: { devices: readonly DeviceView[]; neededMb: number | undefined },
): LoadProblem {
  const { devices, neededMb = 0 } = at;
  const most = roomiest(devices, neededMb);
  const told = () => {
    const needs = at.neededMb === undefined ? "needs memory" : `needs ${mb(neededMb)}`;
    return roomText(`${model} ${needs}`, { device: most, neededMb });
  };
  if (neededMb <= mostMb(most)) return { told };
  return { lasting: most.backend === "cpu" ? "INSUFFICIENT_RAM" : "VRAM_EXHAUSTED", told };
}

/** Of those that could ever hold it the one with the most room now, or else of all. */
function roomiest(devices: readonly DeviceView[], neededMb: number): DeviceView {
  const isAble = (device: DeviceView) => neededMb <= mostMb(device);
  return devices.reduce((a, b) => {
    if (isAble(a) !== isAble(b)) return isAble(a) ? a : b;
    return a.freeMb > b.freeMb ? a : b;
  });
}

function roomText(needs: string, of: { device: DeviceView; neededMb: number }): ProblemText {
  const { device, neededMb } = of;
  const { totalMb, reserveMb = 0 } = device;
  const reserve = reserveMb > 0
    ? `, after the ${mb(reserveMb)} that are kept for other programs (hive.reserve_mb)`
    : "";
  const free = mb(Math.max(0, device.freeMb));
  const why = `${needs}, ${device.backend}:${device.index} has ${free} free${reserve}.`;
  if (neededMb > mostMb(device)) {
    return {
      why,
      remedy: neededMb > totalMb
        ? `Use a smaller quantisation: the whole device has ${mb(totalMb)}.`
        : `Lower hive.reserve_mb there: the whole device has ${mb(totalMb)}.`,
    };
  }
  const missingMb = neededMb - device.freeMb;
  return {
    why,
    remedy: missingMb <= reserveMb
      ? `Free ${mb(missingMb)} there, or lower hive.reserve_mb by as much.`
      : `Free ${mb(missingMb)} there: stop a worker that is pinned or busy, or another program.`,
  };
}

/** What problems come to, the one that says most first: what waiting may change, then what comes nearest to a load. */
const REASONS: readonly (ErrorCode | undefined)[] = [
  undefined,
  "INSUFFICIENT_RAM",
  "VRAM_EXHAUSTED",
  "DEVICE_NOT_FOUND",
  "BACKEND_UNAVAILABLE",
  "MODEL_NOT_FOUND",
];

/** The smaller, the more a problem says of why a model can't be loaded anywhere. */
export function rankOf({ lasting }: LoadProblem): number {
  return REASONS.indexOf(lasting);
}

/** A machine's problem for who is shown no other. */
export function inWords({ name }: NodeView, problem: LoadProblem): string {
  const { why, remedy } = problem.told();
  return `${name}: ${why} ${remedy}`;
}

/** Every machine has a problem that waiting does not change: the refusal, made from the one that says most. */
export function neverAnywhere(
  wish: Wish,
  of: { cluster: ClusterView; node: NodeView; problem: LoadProblem },
): { code: ErrorCode; why: string } {
  const { cluster, node, problem } = of;
  const code = problem.lasting!;
  if (code !== "BACKEND_UNAVAILABLE" && code !== "DEVICE_NOT_FOUND") {
    return { code, why: inWords(node, problem) };
  }
  const asked = `${wish.backend ?? "device "}${wish.device === undefined ? "" : `:${wish.device}`}`;
  const there = new Set<string>();
  for (const { name, devices } of cluster.nodes()) {
    if (!mayGoTo(wish, name)) continue;
    for (const { backend, index } of devices) there.add(`${backend}:${index}`);
  }
  const where = wish.node ?? "No machine of this cluster";
  return {
    code,
    why: `${where} ${wish.node === undefined ? "can" : "can't"} compute on ${asked}; there is ${
      [...there].join(", ")
    }.`,
  };
}

function mb(value: number): string {
  return `${THOUSANDS.format(Math.ceil(value))} MB`;
}
