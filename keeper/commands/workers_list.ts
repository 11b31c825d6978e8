/** `workers list` and `workers health`: what runs where, asked of the hives themselves. */
import { newCorrelationId } from "../../protocol/correlation.ts";
import type { WorkerInfo } from "../../protocol/hive_schemas.ts";
import { QueenClient } from "../../protocol/queen_client.ts";
import { ago } from "../ago.ts";
import type { LoadedCommand } from "../cli.ts";
import type { CommandContext } from "../context.ts";
import { askNodes, isWrong, silenceOf } from "../every_node.ts";
import { nowUnix } from "../registry.ts";
import { placeOfQueen, queenOf } from "../queen.ts";
import type { WorkersListFlags, WorkersOfAllFlags } from "../table/workers.ts";
import { textTable } from "../text_table.ts";
import { workerColumns } from "../worker_columns.ts";
import { withConfig } from "../with_config.ts";

/** A worker and the machine it is on. */
type PlacedWorker = WorkerInfo & { node: string };

/** `workers list`. */
export const WORKERS_LIST: LoadedCommand<WorkersOfAllFlags> = {
  run: async (context, flags) =>
    await listOfQueen(context, flags) ??
      await runList(context, flags, { columns: workerColumns, exitCode: () => 0 }),
};

/** `workers health`. */
export const WORKERS_HEALTH: LoadedCommand<WorkersListFlags> = {
  run: (context, flags) =>
    runList(context, flags, {
      columns: healthColumns,
      exitCode: (workers) => workers.some(({ state }) => state === "failed") ? 1 : 0,
    }),
};

/** Those of all machines that a queen knows; undefined when there is none to be asked, or it is about one machine. */
async function listOfQueen(
  { output, signal }: CommandContext,
  flags: WorkersOfAllFlags,
): Promise<number | undefined> {
  if (flags.node !== undefined && flags.queen === undefined) return undefined;
  return await withConfig(async (config, place) => {
    const queen = await queenOf({ queen: flags.queen }, config);
    if (queen === undefined) return undefined;
    place.node = placeOfQueen(queen);
    const client = new QueenClient({
      ...{ baseUrl: queen.url, apiKey: queen.apiKey, correlationId: newCorrelationId() },
    });
    const all = await client.workers({ signal });
    const workers = all.filter(({ node }) => flags.node === undefined || node === flags.node);
    if (output.json) await output.document({ workers, queen: queen.url });
    else if (workers.length === 0) output.say("No workers run.");
    else {
      await output.text(textTable(workers.map(({ slots_total: slots, slots_busy: busy, ...worker }) => ({
        NODE: worker.node,
        ...workerColumns({ ...worker, slots_total: slots, slots_available: slots - busy }),
      }))));
    }
    return 0;
  });
}

async function runList(
  { output, signal }: CommandContext,
  flags: WorkersListFlags,
  as: {
    columns: (worker: WorkerInfo) => Record<string, string>;
    exitCode: (workers: readonly PlacedWorker[]) => number;
  },
): Promise<number> {
  return await withConfig(async (config, place) => {
    const context = { output, signal, correlationId: newCorrelationId() };
    const answers = await askNodes(flags.node, {
      ...{ config, place },
      ask: async (client, options) => (await client.workers(options)).workers,
    }, context);
    const workers = answers.flatMap((each): PlacedWorker[] =>
      "answer" in each ? each.answer.map((worker) => ({ node: each.node, ...worker })) : []
    );
    const silent = answers.filter((each) => "error" in each);
    const isPartial = silent.some(isWrong);
    const exitCode = isPartial ? 1 : as.exitCode(workers);
    if (output.json) {
      const unreachable = silent.map(({ node, error }) => ({
        node,
        error: error.toBody(context.correlationId),
      }));
      await output.document({ workers, unreachable });
      return exitCode;
    }
    for (const each of silent) output.say(silenceOf(each));
    if (workers.length > 0) {
      await output.text(textTable(workers.map((worker) => ({ NODE: worker.node, ...as.columns(worker) }))));
    } else output.say(isPartial ? "No workers run on the machines that answered." : "No workers run.");
    return exitCode;
  });
}

function healthColumns(worker: WorkerInfo): Record<string, string> {
  const { error, memory } = worker;
  return {
    WORKER: worker.worker_id,
    MODEL: worker.model_ref,
    STATE: worker.state,
    "LAST HEALTHY": ago(worker.last_health_unix || null, nowUnix()),
    "LAST USED": ago(worker.last_activity_unix, nowUnix()),
    MEMORY: memory?.actual_mb == null ? "?" : `${Math.round(memory.actual_mb)} MB`,
    PROBLEM: error?.message ?? "",
  };
}
