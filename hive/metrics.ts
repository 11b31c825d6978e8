/** The hive's metrics; `docs/metrics.md` lists them. */
import { Histogram, type Metric, metricsResponse, Tally } from "../daemon/metrics.ts";
import { type ErrorCode, isErrorCode } from "../protocol/errors.ts";
import { type DownloadEvent, type WorkerInfo, WorkerState } from "../protocol/hive_schemas.ts";
import { BackendName } from "../protocol/spawn_request.ts";
import type { MachineMemory } from "./hardware.ts";
import {
  CRASH_CAUSES,
  type ExitCause,
  isCrash,
  LEAVE_REASONS,
  type WorkerEvent,
} from "./workers/worker_options.ts";

const LOAD_BOUNDS_SECONDS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300];
const MS_PER_SECOND = 1_000;
const BYTES_PER_MB = 1e6;

/** What is read at the time of asking. */
export interface HiveState {
  workers: readonly WorkerInfo[];
  memory: MachineMemory & { reserve_mb: number };
  /** What the workers tell themselves. */
  passedOn: readonly Metric[];
}

/** Counts what the hive did. */
export class HiveMetrics {
  readonly #spawns = new Tally<"started" | "reused" | ErrorCode>(["started", "reused"]);
  readonly #crashes = new Tally<ExitCause>(CRASH_CAUSES);
  readonly #leaves = new Tally<ExitCause>(LEAVE_REASONS);
  readonly #downloads = new Tally<"complete" | ErrorCode>(["complete"]);
  readonly #loads = new Map<BackendName, Histogram>();
  /** Bytes that were there when each running download last told. */
  readonly #downloadBytes = new Map<string, number>();
  #downloadedBytes = 0;

  /** A spawn was answered. */
  spawned(outcome: "started" | "reused" | ErrorCode): void {
    this.#spawns.add(outcome);
  }

  /** Something happened to a worker. */
  workerEvent(event: WorkerEvent): void {
    if (event.kind === "exited") (isCrash(event.cause) ? this.#crashes : this.#leaves).add(event.cause);
    if (event.kind !== "loaded") return;
    const { backend } = event.worker.record;
    const loads = this.#loads.get(backend) ?? new Histogram(LOAD_BOUNDS_SECONDS);
    loads.observe(event.loadMs / MS_PER_SECOND);
    this.#loads.set(backend, loads);
  }

  /** A download said something. */
  downloadEvent(id: string, event: DownloadEvent): void {
    if (event.stage === "downloading") {
      // What the first event tells was there before.
      const before = this.#downloadBytes.get(id) ?? event.bytes_downloaded;
      this.#downloadedBytes += Math.max(0, event.bytes_downloaded - before);
      this.#downloadBytes.set(id, event.bytes_downloaded);
    }
    if (event.stage === "complete") this.#downloads.add("complete");
    if (event.stage === "error" && isErrorCode(event.error.code)) this.#downloads.add(event.error.code);
    if (event.stage === "complete" || event.stage === "error") this.#downloadBytes.delete(id);
  }

  /** `GET /metrics`. */
  response({ workers, memory, passedOn }: HiveState): Promise<Response> {
    const slots = workers.reduce((sum, worker) => sum + worker.slots_total, 0);
    const free = workers.reduce((sum, worker) => sum + worker.slots_available, 0);
    const byBackend = (mbOf: (worker: WorkerInfo) => number | null | undefined) =>
      BackendName.options.flatMap((backend): [string, number][] => {
        const there = workers.filter((worker) => worker.backend === backend);
        if (there.length === 0) return [];
        return [[backend, there.reduce((sum, worker) => sum + (mbOf(worker) ?? 0), 0) * BYTES_PER_MB]];
      });
    return metricsResponse([
      {
        name: "rbee_hive_workers",
        type: "gauge",
        help: "Workers by state.",
        label: "state",
        values: WorkerState.options.filter((state) => state !== "gone")
          .map((state) => [state, workers.filter((worker) => worker.state === state).length]),
      },
      {
        name: "rbee_hive_slots",
        type: "gauge",
        help: "Slots of all workers by state; those of a worker that is not ready are busy.",
        label: "state",
        values: [["free", free], ["busy", slots - free]],
      },
      {
        name: "rbee_hive_spawns_total",
        type: "counter",
        help: "Requests for a worker by outcome: started, reused, or an error code.",
        label: "outcome",
        values: this.#spawns,
      },
      {
        name: "rbee_hive_load_seconds",
        type: "histogram",
        help: "Time from a worker's ready callback to its model being in memory, by backend.",
        label: "backend",
        values: this.#loads,
      },
      {
        name: "rbee_hive_worker_leaves_total",
        type: "counter",
        help: "Workers that left without having failed, by reason.",
        label: "reason",
        values: this.#leaves,
      },
      {
        name: "rbee_hive_worker_crashes_total",
        type: "counter",
        help: "Workers that failed, by cause.",
        label: "cause",
        values: this.#crashes,
      },
      {
        name: "rbee_hive_worker_memory_predicted_bytes",
        type: "gauge",
        help: "Memory that the workers there are were expected to take, by backend.",
        label: "backend",
        values: byBackend(({ memory }) => memory?.predicted_mb),
      },
      {
        name: "rbee_hive_worker_memory_actual_bytes",
        type: "gauge",
        help: "Memory that they take as last known, by backend.",
        label: "backend",
        values: byBackend(({ memory }) => memory?.actual_mb),
      },
      {
        name: "rbee_hive_memory_bytes",
        type: "gauge",
        help: "RAM of the machine: all of it, what is free, and what is kept free for other programs.",
        label: "kind",
        values: Object.entries(memory).map(([kind, mb]) => [kind.replace("_mb", ""), mb * BYTES_PER_MB]),
      },
      {
        name: "rbee_hive_downloads_total",
        type: "counter",
        help: "Downloads by outcome: complete, or an error code.",
        label: "outcome",
        values: this.#downloads,
      },
      {
        name: "rbee_hive_download_bytes_total",
        type: "counter",
        help: "Bytes of models that were fetched; those that had to be fetched again count again.",
        value: this.#downloadedBytes,
      },
      ...passedOn,
    ]);
  }
}
