/** `workers shutdown` and `pool worker stop`: one worker less, wherever it runs. */
import { newCorrelationId } from "../../protocol/correlation.ts";
import type { LoadedConfig } from "../../home/config.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { HiveClient } from "../../protocol/hive_client.ts";
import { printable } from "../../protocol/printable.ts";
import { QueenClient } from "../../protocol/queen_client.ts";
import type { LoadedCommand } from "../cli.ts";
import type { CommandContext, PhaseContext } from "../context.ts";
import type { Place } from "../explain.ts";
import { askNodes, silenceOf } from "../every_node.ts";
import { MAX_NAMES_SHOWN } from "../limits.ts";
import { placeOfQueen, queenOf } from "../queen.ts";
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
    const { all, silent } = await runningWorkers(flags, { config, place }, context);
    const found = all.filter(({ worker }) => worker.worker_id.startsWith(flags.id));
    if (found.length !== 1) {
      for (const each of silent) output.say(silenceOf(each));
      throw notOne(flags.id, {
        found: found.map(({ worker }) => worker.worker_id),
        all: all.map(({ worker }) => worker.worker_id),
      });
    }
    const [{ node, client, worker: { worker_id, model_ref }, isBusy }] = found;
    if (isBusy) output.say(`Worker ${worker_id} finishes its answers first, for at most 30 s.`);
    await client.shutdownWorker(worker_id, { signal });
    using registry = await openRegistry(config.home);
    registry.forget({ id: worker_id, node });
    if (output.json) await output.document({ node, worker_id, model_ref, stopped: true });
    else output.say(`Worker ${worker_id} (${model_ref}) on ${node} is stopped.`);
    return 0;
  });
}

interface RunningWorker {
  node: string;
  /** Of its hive. */
  client: HiveClient;
  worker: { worker_id: string; model_ref: string };
  isBusy: boolean;
}

/** Those that may be meant: of the queen's machines where there is a queen to be asked, as `workers list` shows them. */
async function runningWorkers(
  flags: WorkersShutdownFlags,
  from: { config: LoadedConfig; place: Place },
  context: PhaseContext,
): Promise<{ all: RunningWorker[]; silent: { node: string; error: RbeeError }[] }> {
  const straight = flags.node !== undefined && flags.queen === undefined;
  const queen = straight ? undefined : await queenOf({ queen: flags.queen }, from.config);
  if (queen !== undefined) {
    from.place.node = placeOfQueen(queen);
    const { url: baseUrl, apiKey } = queen;
    const options = { baseUrl, apiKey, correlationId: context.correlationId };
    const workers = await new QueenClient(options).workers({ signal: context.signal });
    const all = workers.filter(({ node }) => flags.node === undefined || node === flags.node)
      .map((worker): RunningWorker => {
        const { node, slots_busy } = worker;
        return { node, client: new HiveClient(options, node), worker, isBusy: slots_busy > 0 };
      });
    return { all, silent: [] };
  }
  const answers = await askNodes(flags.node, {
    ...from,
    ask: async (client, options) => (await client.workers(options)).workers,
  }, context);
  const all = answers.flatMap((each): RunningWorker[] => {
    if ("error" in each) return [];
    const { node, client, answer } = each;
    return answer.map((worker) => ({ node, client, worker, isBusy: worker.state === "busy" }));
  });
  return { all, silent: answers.filter((each) => "error" in each) };
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
