/** Everything that happens on this machine, told to whoever follows `GET /v1/events`. */
import type { DownloadEvent, HiveEvent } from "../protocol/hive_schemas.ts";
import type { WorkerEvent } from "./workers/worker_options.ts";

/** Takes what happens from its owners and passes it on; keeps nothing. */
export class HiveEvents {
  readonly #followers = new Set<(event: HiveEvent) => void>();

  /** Tells `follower` all that happens from now on, synchronously. Returns how to stop that. */
  follow(follower: (event: HiveEvent) => void): () => void {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }

  /** Something happened to a worker. */
  worker(event: WorkerEvent): void {
    const { record, figures, state } = event.worker;
    const about = { kind: "worker", worker_id: record.id, model_ref: record.modelRef } as const;
    switch (event.kind) {
      case "listed":
        return this.#tell({ ...about, what: event.adopted ? "adopted" : "started", state });
      case "state":
        return this.#tell({ ...about, what: "state", state: event.to });
      case "loaded":
        return this.#tell({ ...about, what: "loaded", state, load_ms: Math.round(event.loadMs) });
      case "measured":
        return this.#tell({ ...about, what: "measured", state, actual_mb: figures.takenMb });
      case "leaving":
        return this.#tell({ ...about, what: "leaving", state, reason: event.reason });
      case "exited":
        return this.#tell({
          ...about,
          what: "exited",
          state,
          reason: event.cause,
          exit_code: event.status.code,
          signal: event.status.signal,
        });
    }
  }

  /** A download said something. */
  download(about: { download_id: string; model_ref: string }, event: DownloadEvent): void {
    this.#tell({ kind: "download", ...about, event });
  }

  /** Memory as last looked at, in MB. */
  memory(figures: { total_mb: number; free_mb: number; reserve_mb: number }): void {
    this.#tell({ kind: "memory", ...figures });
  }

  #tell(event: HiveEvent): void {
    for (const follower of [...this.#followers]) follower(event);
  }
}
