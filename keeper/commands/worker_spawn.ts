/** `pool worker spawn`: a worker for later. */
import type { LoadedCommand } from "../cli.ts";
import type { CommandContext } from "../context.ts";
import { fetchModel } from "../phases/fetch_model.ts";
import { spawnByQueen } from "../phases/spawn_by_queen.ts";
import { spawnWorker } from "../phases/spawn_worker.ts";
import { withHive } from "../phases/with_hive.ts";
import { openRegistry } from "../registry.ts";
import type { WorkerSpawnFlags } from "../table/pool.ts";
import { spawnRequest } from "./infer_input.ts";
import { checkModelFlag } from "./model_flag.ts";

/** The command. */
export const WORKER_SPAWN: LoadedCommand<WorkerSpawnFlags> = { check: checkModelFlag, run: runWorkerSpawn };

async function runWorkerSpawn(context: CommandContext, flags: WorkerSpawnFlags): Promise<number> {
  return await withHive({ ...flags, node: flags.host }, context, async (hive, phases, { config, home }) => {
    const { output } = phases;
    const request = spawnRequest(flags, config.keeper.model);
    await fetchModel(hive.client, { modelRef: request.model_ref, hiveUrl: hive.node.url }, phases);
    using registry = await openRegistry(home);
    const wish = { request, registry, loadTimeoutMs: config.hive.load_timeout * 1000 };
    const { id, url, node } = hive.node.byQueen
      ? await spawnByQueen(hive, wish, phases)
      : await spawnWorker(hive, wish, phases);
    if (output.json) await output.document({ node, worker_id: id, url, model_ref: request.model_ref });
    else await output.line(id);
    return 0;
  });
}
