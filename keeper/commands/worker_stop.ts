/** `workers shutdown` and `pool worker stop`: one worker less, wherever it runs. */
import { newCorrelationId } from "../../protocol/correlation.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { printable } from "../../protocol/printable.ts";
import type { LoadedCommand } from "../cli.ts";
import type { CommandContext } from "../context.ts";
import { askNodes, silenceOf } from "../every_node.ts";
import { MAX_NAMES_SHOWN } from "../limits.ts";
import { openRegistry } from "../registry.ts";
import type { WorkersShutdownFlags } from "../table/workers.ts";
import { withConfig } from "../with_config.ts";

/** The command. */
export const WORKER_STOP: LoadedCommand<WorkersShutdownFlags> = { run: runWorkerStop };

async function runWorkerStop(
  { output, signal }: CommandContext,
  flags: WorkersShutdownFlags,
): Promise<number> {
  return await withConfig(async (config, place) => {
    const context = { output, signal, correlationId: newCorrelationId() };
    const answers = await askNodes(flags.node, {
      ...{ config, place },
      ask: async (client, options) => (await client.workers(options)).workers,
    }, context);
    const all = answers.flatMap((each) =>
      "answer" in each ? each.answer.map((worker) => ({ node: each.node, client: each.client, worker })) : []
    );
    const found = all.filter(({ worker }) => worker.worker_id.startsWith(flags.id));
    if (found.length !== 1) {
      for (const each of answers) if ("error" in each) output.say(silenceOf(each));
      throw notOne(flags.id, {
        found: found.map(({ worker }) => worker.worker_id),
        all: all.map(({ worker }) => worker.worker_id),
      });
    }
    const [{ node, client, worker: { worker_id, model_ref, state } }] = found;
    if (state === "busy") output.say(`Worker ${worker_id} finishes its answers first, for at most 30 s.`);
    await client.shutdownWorker(worker_id, { signal });
    using registry = await openRegistry(config.home);
    registry.forget({ id: worker_id, node });
    if (output.json) await output.document({ node, worker_id, model_ref, stopped: true });
    else output.say(`Worker ${worker_id} (${model_ref}) on ${node} is stopped.`);
    return 0;
  });
}

function notOne(given: string, { found, all }: { found: string[]; all: string[] }): RbeeError {
  const id = printable(given.slice(0, 64));
  const shown = (ids: string[]) => ids.slice(0, MAX_NAMES_SHOWN).join(", ");
  if (found.length > 1) {
    return new RbeeError("INVALID_REQUEST", `More than one worker's id begins with "${id}": ${shown(found)}`);
  }
  return new RbeeError("WORKER_NOT_FOUND", `No worker's id begins with "${id}".`, {
    details: { advice: [all.length === 0 ? "No workers run." : `Workers: ${shown(all)}`] },
  });
}
