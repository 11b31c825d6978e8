/** Phases 2 to 7: from a reachable hive to a worker that is ready. */
import type { PhaseContext } from "../context.ts";
import type { AnswerJob } from "./answer.ts";
import { fetchModel } from "./fetch_model.ts";
import type { LiveWorker } from "./find_worker.ts";
import { reachHive } from "./reach_hive.ts";
import { spawnWorker } from "./spawn_worker.ts";

/** Reaches the hive, has the model fetched where it is absent, and a worker started. Throws whatever the phases throw. */
export async function startWorker(job: AnswerJob, context: PhaseContext): Promise<LiveWorker> {
  const { wish, registry, config, watch } = job;
  const hive = await reachHive(job.node, config, context);
  watch?.lap("hive");
  await fetchModel(hive.client, { modelRef: wish.request.model_ref, hiveUrl: hive.node.url }, context);
  watch?.lap("model");
  const loadTimeoutMs = config.config.hive.load_timeout * 1000;
  const worker = await spawnWorker(hive, { request: wish.request, registry, loadTimeoutMs }, context);
  watch?.lap("worker");
  return worker;
}
