/**
 * Whether a worker can be started, and as what. Pure: everything that is known comes in, a plan or the first error in
 * SPEC's order comes out: reference (the schema has checked it), model, disk, backend and device; and then memory, in
 * memory_check.ts.
 */
import { RbeeError } from "../../protocol/errors.ts";
import type { Device } from "../../protocol/hive_schemas.ts";
import { parseModelRef } from "../../protocol/model_ref.ts";
import type { BackendName, SpawnRequest } from "../../protocol/spawn_request.ts";
import { DEFAULT_CTX_SIZE_MAX, SPAWN_DISK_MIN_MB } from "../limits.ts";
import type { GgufFacts } from "../models/gguf.ts";

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

/** A worker as it is going to be, unless one that offers at least as much is there. */
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
 * @throws {RbeeError} `MODEL_NOT_FOUND`, `INSUFFICIENT_DISK`, `BACKEND_UNAVAILABLE`, `DEVICE_NOT_FOUND`,
 * `INVALID_REQUEST` for a context that the model was not trained for.
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
  const modelRef = parseModelRef(request.model_ref).text;
  const { contextLength, recurrentStateLength } = model.facts;
  const trained = contextLength || DEFAULT_CTX_SIZE_MAX;
  // A state that does not grow with the context has no end to it.
  const bounded = contextLength > 0 && recurrentStateLength === 0;
  if (bounded && request.ctx_size !== undefined && request.ctx_size > trained) {
    throw contextTooLarge(request.ctx_size, { trained, modelRef });
  }
  return {
    modelRef,
    modelPath: model.path,
    backend,
    device: request.device,
    slots: request.slots,
    ctxSize: request.ctx_size ?? Math.min(trained, DEFAULT_CTX_SIZE_MAX),
  };
}

/**
 * Whether a worker offers at least what is planned. Two references may stand for one file: what is loaded is what counts.
 */
export function offers(there: Omit<SpawnPlan, "modelRef">, plan: SpawnPlan): boolean {
  return there.modelPath === plan.modelPath && there.backend === plan.backend &&
    there.device === plan.device && there.slots >= plan.slots && there.ctxSize >= plan.ctxSize;
}

function contextTooLarge(ctxSize: number, of: { trained: number; modelRef: string }): RbeeError {
  const message = `${of.modelRef} was trained for ${of.trained} tokens, and ${ctxSize} were asked for.`;
  return new RbeeError("INVALID_REQUEST", message, {
    details: { errors: [{ field: "ctx_size", constraint: "max", message: `must be at most ${of.trained}` }] },
  });
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

/** What a request says of how long a worker stays, if anything: a pinned one forever unless the request says how long. */
export function wishedIdleTimeout(
  { pin, idle_timeout }: Pick<SpawnRequest, "pin" | "idle_timeout">,
): number | undefined {
  return idle_timeout ?? (pin ? 0 : undefined);
}
