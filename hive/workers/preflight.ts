/**
 * Whether a worker can be started, and as what. Pure: everything that is known comes in, a plan or the first error in
 * SPEC's order comes out: reference (the schema has checked it), model, disk, backend and device, memory.
 */
import { RbeeError } from "../../protocol/errors.ts";
import type { Device, SpawnRequest } from "../../protocol/hive_schemas.ts";
import { parseModelRef } from "../../protocol/model_ref.ts";
import type { BackendName } from "../../protocol/worker_schemas.ts";
import { DEFAULT_CTX_SIZE_MAX, SPAWN_DISK_MIN_MB, SUGGESTED_CTX_SIZE_MIN } from "../limits.ts";
import type { GgufFacts } from "../models/gguf.ts";
import { estimateMemory, type MemoryEstimate } from "../models/memory_estimate.ts";

/** What `auto` takes: the first of these that is present. */
export const BACKEND_PREFERENCE: readonly BackendName[] = ["cuda", "metal", "vulkan", "cpu"];

/** The model of a request as this machine has it. */
export interface PresentModel {
  /** The file to load. */
  path: string;
  /** Read from it. */
  facts: GgufFacts;
}

/** What {@linkcode planSpawn} goes by. */
export interface SpawnSituation {
  /** Undefined when the model is not on this machine. */
  model: PresentModel | undefined;
  /** All that may be used. */
  devices: readonly Device[];
  /** Where the log and the registry are written. */
  freeDiskMb: number;
}

/** A worker as it is going to be. Two equal plans are served by one worker. */
export interface SpawnPlan {
  /** Normal form of the reference. */
  modelRef: string;
  /** The file to load. */
  modelPath: string;
  /** Never `auto`. */
  backend: BackendName;
  /** Counted within the backend. */
  device: number;
  /** Requests at the same time. */
  slots: number;
  /** Tokens per slot. */
  ctxSize: number;
}

/**
 * Everything up to the choice of backend and device.
 *
 * @throws {RbeeError} `MODEL_NOT_FOUND`, `INSUFFICIENT_DISK`, `BACKEND_UNAVAILABLE`, `DEVICE_NOT_FOUND`.
 */
export function planSpawn(request: SpawnRequest, situation: SpawnSituation): SpawnPlan {
  const { model, devices, freeDiskMb } = situation;
  if (model === undefined) throw modelAbsent(request.model_ref);
  if (freeDiskMb < SPAWN_DISK_MIN_MB) {
    throw new RbeeError(
      "INSUFFICIENT_DISK",
      `A worker's log needs ${SPAWN_DISK_MIN_MB} MB of disk and ${Math.floor(freeDiskMb)} MB are free.`,
      { details: { required_mb: SPAWN_DISK_MIN_MB, available_mb: Math.floor(freeDiskMb) } },
    );
  }
  const backend = chooseBackend(request, devices);
  if (!devices.some((device) => device.backend === backend && device.index === request.device)) {
    const available = devices.filter((device) => device.backend === backend)
      .map(({ index, name }) => ({ backend, device: index, name }));
    throw new RbeeError(
      "DEVICE_NOT_FOUND",
      `There is no ${backend} device ${request.device} on this machine; there is ${
        available.map(({ device, name }) => `${device} (${name})`).join(", ")
      }.`,
      { details: { available } },
    );
  }
  const trained = model.facts.contextLength || DEFAULT_CTX_SIZE_MAX;
  return {
    modelRef: parseModelRef(request.model_ref).text,
    modelPath: model.path,
    backend,
    device: request.device,
    slots: request.slots,
    ctxSize: request.ctx_size ?? Math.min(trained, DEFAULT_CTX_SIZE_MAX),
  };
}

/** What {@linkcode checkMemory} goes by, in MB. */
export interface MemorySituation {
  /** Read from the model's file. */
  facts: GgufFacts;
  /** With their free memory. */
  devices: readonly Device[];
  /** Memory that a program can still get without swapping. */
  freeRamMb: number;
  /** Promised on the same device to workers that are still loading. */
  promisedMb: number;
}

/**
 * Whether the plan fits into free memory.
 *
 * @returns what it will take.
 * @throws {RbeeError} `INSUFFICIENT_RAM` or `VRAM_EXHAUSTED` with what would fit, if anything would.
 */
export function checkMemory(plan: SpawnPlan, situation: MemorySituation): MemoryEstimate {
  const device = situation.devices.find((at) => at.backend === plan.backend && at.index === plan.device);
  const freeMb = plan.backend === "cpu" ? situation.freeRamMb : device?.memory_free_mb ?? 0;
  const availableMb = Math.max(0, Math.floor(freeMb - situation.promisedMb));
  const estimate = estimateMemory(situation.facts, plan);
  if (estimate.required_mb <= availableMb) return estimate;
  const fitting = smallerPlan(plan, { facts: situation.facts, availableMb });
  const advice = fitting === undefined
    ? "Stop a worker or another program, or use a smaller quantisation of the model."
    : `With --slots ${fitting.slots} --ctx-size ${fitting.ctx_size} it needs ${fitting.required_mb} MB and fits.`;
  throw new RbeeError(
    plan.backend === "cpu" ? "INSUFFICIENT_RAM" : "VRAM_EXHAUSTED",
    `${plan.modelRef} with ${plan.slots} slots of ${plan.ctxSize} tokens needs ${estimate.required_mb} MB and ` +
      `${availableMb} MB are free on ${plan.backend} device ${plan.device}. ${advice}`,
    { details: { ...estimate, available_mb: availableMb, suggestion: fitting } },
  );
}

function modelAbsent(reference: string): RbeeError {
  const ref = parseModelRef(reference);
  const what = ref.provider === "file"
    ? `There is no file ${ref.path} on this machine.`
    : `${ref.text} is not on this machine. Download it first with POST /v1/models/download; rbee-keeper infer does so by itself.`;
  return new RbeeError("MODEL_NOT_FOUND", what, { details: { model_ref: ref.text } });
}

function chooseBackend(request: SpawnRequest, devices: readonly Device[]): BackendName {
  const available = BACKEND_PREFERENCE.filter((name) => devices.some((device) => device.backend === name));
  const wanted = request.backend === "auto" ? available.at(0) : request.backend;
  if (wanted !== undefined && available.includes(wanted)) return wanted;
  throw new RbeeError(
    "BACKEND_UNAVAILABLE",
    `This machine can't compute on ${request.backend}; it can on ${available.join(", ") || "nothing"}.`,
    { details: { available } },
  );
}

/** The nearest thing that fits: first fewer slots, then less context, then both. */
function smallerPlan(plan: SpawnPlan, given: { facts: GgufFacts; availableMb: number }) {
  const contexts = [plan.ctxSize];
  for (let size = plan.ctxSize / 2; size >= SUGGESTED_CTX_SIZE_MIN; size /= 2) {
    contexts.push(Math.floor(size));
  }
  const candidates = [
    { slots: 1, ctxSize: plan.ctxSize },
    ...contexts.map((ctxSize) => ({ slots: plan.slots, ctxSize })),
    ...contexts.map((ctxSize) => ({ slots: 1, ctxSize })),
  ];
  for (const candidate of candidates) {
    const { required_mb } = estimateMemory(given.facts, { ...candidate, backend: plan.backend });
    if (required_mb <= given.availableMb) {
      return { slots: candidate.slots, ctx_size: candidate.ctxSize, required_mb };
    }
  }
  return undefined;
}
