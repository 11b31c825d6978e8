/** Why a model can't be loaded on a machine, in words that say what would help. Pure. */
import type { ErrorCode } from "../../protocol/errors.ts";
import { type ClusterView, type DeviceView, mayGoTo, type NodeView, type Wish } from "./view.ts";

/** Why a machine can't take a model, and what would help. */
export interface LoadProblem {
  why: string;
  remedy: string;
  /** Waiting changes nothing about it: what it comes to as an error. */
  lasting?: ErrorCode;
}

/** The most that workers can ever have of a device. */
export function mostMb({ totalMb, reserveMb = 0 }: DeviceView): number {
  return totalMb - reserveMb;
}

/** It has not the device that is asked for. */
export function noDevice(wish: Wish, devices: readonly DeviceView[]): LoadProblem {
  const there = devices.map(({ backend, index }) => `${backend}:${index}`).join(", ");
  const hasBackend = devices.some(({ backend }) => backend === wish.backend);
  return {
    why: `It has ${there} to compute on.`,
    remedy: `Ask for one of these, or leave it open.`,
    lasting: wish.backend === undefined || hasBackend ? "DEVICE_NOT_FOUND" : "BACKEND_UNAVAILABLE",
  };
}

/** None of its devices that are asked for has room. */
export function noRoom(
  model: string,
  at: { devices: readonly DeviceView[]; neededMb: number | undefined },
): LoadProblem {
  const { devices, neededMb = 0 } = at;
  const able = devices.filter((device) => neededMb <= mostMb(device));
  const most = (able.length > 0 ? able : devices).reduce((a, b) => a.freeMb > b.freeMb ? a : b);
  const { totalMb, reserveMb = 0 } = most;
  const reserve = reserveMb > 0
    ? `, after the ${mb(reserveMb)} that are kept for other programs (hive.reserve_mb)`
    : "";
  const needs = at.neededMb === undefined ? "needs memory" : `needs ${mb(neededMb)}`;
  const why = `${model} ${needs}, ${most.backend}:${most.index} has ${
    mb(Math.max(0, most.freeMb))
  } free${reserve}.`;
  if (neededMb > mostMb(most)) {
    return {
      why,
      remedy: neededMb > totalMb
        ? `Use a smaller quantisation: the whole device has ${mb(totalMb)}.`
        : `Lower hive.reserve_mb there: the whole device has ${mb(totalMb)}.`,
      lasting: most.backend === "cpu" ? "INSUFFICIENT_RAM" : "VRAM_EXHAUSTED",
    };
  }
  const missingMb = neededMb - most.freeMb;
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

/** Every machine has a problem that waiting does not change: the refusal, made from the one that says most. */
export function neverAnywhere(
  wish: Wish,
  of: { cluster: ClusterView; node: NodeView; told: LoadProblem },
): { code: ErrorCode; why: string } {
  const { cluster, node, told } = of;
  const code = told.lasting!;
  if (code !== "BACKEND_UNAVAILABLE" && code !== "DEVICE_NOT_FOUND") {
    return { code, why: `${node.name}: ${told.why} ${told.remedy}` };
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
  return `${Math.ceil(value).toLocaleString("en-US")} MB`;
}
