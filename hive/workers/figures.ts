/** What a worker has told of itself, as last known. */
import type { WorkerInfo, WorkerState } from "../../protocol/hive_schemas.ts";
import type { ReportedWorker } from "../../protocol/queen_schemas.ts";
import type { ReadyResponse, Sandbox, WorkerMemory } from "../../protocol/worker_schemas.ts";
import type { BackendName } from "../../protocol/spawn_request.ts";
import { type Clock, unixSeconds } from "../../daemon/clock.ts";
import type { WorkerRecord } from "./registry.ts";

/** The answer of a worker that has its model in memory. */
type Loaded = Extract<ReadyResponse, { ready: true }>;

/** MB of the memory that its backend computes in: RAM for the CPU, the device's own for a GPU. */
export function takenMb(backend: BackendName, memory: WorkerMemory): number {
  if (backend === "cpu") return memory.private_mb + memory.mapped_mb;
  return memory.weights_mb - memory.mapped_mb + memory.kv_mb + memory.compute_mb;
}

/** One worker's figures; whoever owns the worker writes them. */
export class WorkerFigures {
  readonly #record: WorkerRecord;
  readonly #clock: Clock;
  #slotsAvailable = 0;
  #lastActivityMs: number;
  #lastHealthUnix = 0;
  #takenMb: number | undefined;
  #model: { context: number; embeds: boolean } | undefined;
  #blocks: string | undefined;
  #mappedMb = 0;
  #slotKvMb = 0;
  #sandbox: Sandbox | undefined;

  /** Nothing is known yet. */
  constructor(record: WorkerRecord, clock: Clock) {
    this.#record = record;
    this.#clock = clock;
    this.#lastActivityMs = record.startedUnix * 1000;
  }

  /** Milliseconds since 1970 of its last request's end, or of its load. */
  get lastActivityMs(): number {
    return this.#lastActivityMs;
  }

  /** The most it has reported to take, in MB as {@linkcode takenMb}; else what is expected. */
  get takenMb(): number {
    return this.#takenMb ?? this.#record.requiredMb;
  }

  /** Of that, what lies in mapped files: the system calls that memory available. */
  get mappedMb(): number {
    return this.#mappedMb;
  }

  /** Of that, keys and values of one slot. */
  get slotKvMb(): number {
    return this.#slotKvMb;
  }

  /** Whether it has reported what it takes. */
  get isMeasured(): boolean {
    return this.#takenMb !== undefined;
  }

  /** Its model came into memory that long ago, or its last request ended then. */
  loaded(idleMs: number): void {
    this.#slotsAvailable = this.#record.slots;
    this.#lastActivityMs = this.#clock.unixMs() - idleMs;
  }

  /** It has answered a health check. */
  healthy(): void {
    this.#lastHealthUnix = unixSeconds(this.#clock);
  }

  /** Takes its own report over. Whether it takes more memory than was known. */
  learn(ready: Loaded): boolean {
    this.#slotsAvailable = ready.slots_available;
    this.#lastActivityMs = this.#clock.unixMs() - ready.idle_ms;
    this.#mappedMb = ready.memory.mapped_mb;
    this.#slotKvMb = ready.memory.kv_mb / this.#record.slots;
    this.#sandbox = ready.sandbox;
    this.#model = { context: ready.model.context, embeds: ready.model.pooling !== undefined };
    if (ready.blocks !== undefined) this.#blocks = ready.blocks;
    const actualMb = Math.ceil(takenMb(this.#record.backend, ready.memory));
    if (this.#takenMb !== undefined && actualMb <= this.#takenMb) return false;
    this.#takenMb = actualMb;
    return true;
  }

  /** As a queen is told. */
  report(state: WorkerState): ReportedWorker {
    const record = this.#record;
    const info = this.info(state);
    return {
      worker_id: record.id,
      url: info.url,
      api_key: record.apiKey,
      model_ref: record.modelRef,
      backend: record.backend,
      device: record.device,
      state,
      slots_total: record.slots,
      slots_available: info.slots_available,
      pinned: record.pinned,
      memory_mb: this.takenMb,
      last_activity_unix: info.last_activity_unix,
      ...this.#model,
      blocks: this.#blocks,
    };
  }

  /** As the wire has it. */
  info(state: WorkerState): WorkerInfo {
    const record = this.#record;
    return {
      worker_id: record.id,
      url: record.url ?? "",
      model_ref: record.modelRef,
      backend: record.backend,
      device: record.device,
      state,
      slots_total: record.slots,
      slots_available: state === "idle" || state === "busy" ? this.#slotsAvailable : 0,
      pid: record.pid,
      started_unix: record.startedUnix,
      last_activity_unix: Math.floor(this.#lastActivityMs / 1000),
      last_health_unix: this.#lastHealthUnix,
      pinned: record.pinned,
      idle_timeout_seconds: record.idleTimeoutSeconds,
      memory: { predicted_mb: record.requiredMb, actual_mb: this.#takenMb ?? null },
      sandbox: this.#sandbox,
    };
  }
}
