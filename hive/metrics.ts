/** The hive's metrics: plain numbers while it works, put into prom-client's form when somebody asks. */
import { metricsResponse } from "../daemon/metrics.ts";
import { type DownloadEvent, type WorkerInfo, WorkerState } from "../protocol/hive_schemas.ts";
import { isCrash, type WorkerEvent } from "./workers/worker_options.ts";

/** Counts what the hive did. */
export class HiveMetrics {
  readonly #spawns = new Map<string, number>();
  readonly #crashes = new Map<string, number>();
  readonly #downloads = new Map<string, number>();

  /** A spawn was answered: `started`, `reused`, or an error code. */
  spawned(outcome: string): void {
    count(this.#spawns, outcome);
  }

  /** Something happened to a worker. */
  workerEvent(event: WorkerEvent): void {
    if (event.kind === "exited" && isCrash(event.cause)) count(this.#crashes, event.cause);
  }

  /** A download said something; its last word is counted. */
  downloadEvent(event: DownloadEvent): void {
    if (event.stage === "complete") count(this.#downloads, "complete");
    if (event.stage === "error") count(this.#downloads, event.error.code);
  }

  /** `GET /metrics`. */
  async response(workers: readonly WorkerInfo[]): Promise<Response> {
    // Loaded late: it costs more time than the rest of the hive's start.
    const { Counter, Gauge, Registry } = await import("prom-client");
    const registry = new Registry();
    const registers = [registry];
    const states = new Gauge({
      name: "rbee_hive_workers",
      help: "Workers by state.",
      labelNames: ["state"],
      registers,
    });
    for (const state of WorkerState.options.filter((known) => known !== "gone")) {
      states.set({ state }, workers.filter((worker) => worker.state === state).length);
    }
    const counter = (name: string, of: { help: string; label: string; counts: Map<string, number> }) => {
      const metric = new Counter({ name, help: of.help, labelNames: [of.label], registers });
      for (const [value, times] of of.counts) metric.inc({ [of.label]: value }, times);
    };
    counter("rbee_hive_spawns_total", {
      help: "Requests for a worker by outcome: started, reused, or an error code.",
      label: "outcome",
      counts: this.#spawns,
    });
    counter("rbee_hive_worker_crashes_total", {
      help: "Workers that failed, by cause.",
      label: "cause",
      counts: this.#crashes,
    });
    counter("rbee_hive_downloads_total", {
      help: "Downloads by outcome: complete, or an error code.",
      label: "outcome",
      counts: this.#downloads,
    });
    return await metricsResponse(registry);
  }
}

function count(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
