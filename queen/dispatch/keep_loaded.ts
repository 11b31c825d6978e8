/** Models that the configuration wants loaded, whoever asks for them. */
import type { Logger } from "../../daemon/log.ts";
import type { Config } from "../../home/config_schema.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { place } from "../placement/placement.ts";
import type { Loads } from "./loads.ts";

/** Starts what is missing. One load of a model at a time: the next look comes soon. */
export function keepLoaded(
  models: Config["queen"]["models"],
  context: { cluster: Cluster; loads: Loads; log: Logger; nowMs: number },
): void {
  const { cluster, loads, log, nowMs } = context;
  if (cluster.settling) return;
  for (const [model, { keep_loaded, min_replicas }] of Object.entries(models)) {
    const wanted = Math.max(min_replicas, keep_loaded ? 1 : 0);
    if (cluster.loadsOf(model) > 0) continue;
    const { ready, loading } = cluster.modelView(model);
    const there = ready + loading;
    if (there >= wanted) continue;
    const decision = place({ model, grow: true }, cluster, nowMs);
    if (decision.kind !== "load") continue;
    log.info("model is kept loaded", { model_ref: model, node: decision.node, replicas: there, wanted });
    loads.start({ ...decision, model }, () => {})
      .catch((error) => log.warn("model was not loaded", { model_ref: model, node: decision.node, error }));
  }
}
