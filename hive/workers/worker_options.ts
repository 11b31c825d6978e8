/** What a worker is given, and what it tells. */
import type { Logger } from "../../daemon/log.ts";
import type { WorkerState } from "../../protocol/hive_schemas.ts";
import type { Clock } from "../clock.ts";
import type { Connect } from "./connection.ts";
import type { ExitStatus, WorkerProcess } from "./process.ts";
import type { WorkerRecord } from "./registry.ts";
import type { Worker } from "./worker.ts";

/** Something that happened to a worker. */
export type WorkerEvent =
  | { kind: "state"; worker: Worker; from: WorkerState; to: WorkerState }
  /** The process is over; a `crash` when nobody had asked for that. */
  | { kind: "exited"; worker: Worker; status: ExitStatus; during: WorkerState; crash: boolean };

/** What a worker needs of its surroundings. */
export interface WorkerOptions {
  /** What is known of it; `url` is filled in by the callback. */
  record: WorkerRecord;
  /** Its running process. */
  process: WorkerProcess;
  /** Accepted once in the ready callback; absent for a worker that is resumed. */
  token?: string;
  /** For every pause and limit. */
  clock: Clock;
  /** Opens its interface. */
  connect: Connect;
  /** Carries the worker's id. */
  log: Logger;
  /** Until the ready callback must have come. */
  callbackTimeoutMs: number;
  /** Until the model must be loaded. */
  loadTimeoutMs: number;
  /** Pause between health checks. */
  healthIntervalMs: number;
  /** Told of everything, synchronously and in order. */
  onEvent: (event: WorkerEvent) => void;
}
