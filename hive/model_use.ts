/** When a model was last used: the catalog is told of what happens to workers. */
import type { Models } from "./models/models.ts";
import type { WorkerEvent } from "./workers/worker_options.ts";

/** Notes the use of a model when a worker begins to load it, and when that worker's process is over. */
export function noteModelUse(models: Pick<Models, "noteUse">, event: WorkerEvent): void {
  const began = event.kind === "state" && event.to === "loading";
  if (began || event.kind === "exited") models.noteUse(event.worker.record.modelPath);
}
