/** A worker as a row of a list. */
import type { WorkerInfo } from "../protocol/hive_schemas.ts";

/** What the columns tell of. */
type Shown =
  & Pick<
    WorkerInfo,
    "worker_id" | "model_ref" | "backend" | "device" | "slots_available" | "slots_total" | "url"
  >
  & { state: string };

/** What people want to know first. */
export function workerColumns(worker: Shown): Record<string, string> {
  return {
    WORKER: worker.worker_id,
    MODEL: worker.model_ref,
    BACKEND: `${worker.backend}:${worker.device}`,
    STATE: worker.state,
    "FREE SLOTS": `${worker.slots_available}/${worker.slots_total}`,
    URL: worker.url,
  };
}
