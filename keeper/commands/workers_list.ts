/** `workers list`: what runs where, asked of the hives themselves. */
import { loadConfig, type LoadedConfig } from "../../home/config.ts";
import { newCorrelationId } from "../../protocol/correlation.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { WorkerInfo } from "../../protocol/hive_schemas.ts";
import { HEALTH_TIMEOUT_MS } from "../../protocol/limits.ts";
import type { LoadedCommand } from "../cli.ts";
import type { WorkersListFlags } from "../table/workers.ts";
import type { CommandContext, PhaseContext } from "../context.ts";
import type { Place } from "../explain.ts";
import { withPlace } from "../failure.ts";
import { hiveLogPath } from "../../home/paths.ts";
import { knownNodes, LOCALHOST, resolveNode } from "../node.ts";
import { hiveClient, hiveHealth } from "../phases/reach_hive.ts";
import { textTable } from "../text_table.ts";

/** The command. */
export const WORKERS_LIST: LoadedCommand<WorkersListFlags> = { run: runWorkersList };

/** What one node said. */
interface NodeReport {
  node: string;
  workers: WorkerInfo[];
  /** Why there is no answer. */
  error?: RbeeError;
}

async function runWorkersList({ output, signal }: CommandContext, flags: WorkersListFlags): Promise<number> {
  const place: Place = {};
  return await withPlace(place, async () => {
    const config = await loadConfig();
    Object.assign(place, { configPath: config.path, hiveLog: hiveLogPath(config.home) });
    const context = { output, signal, correlationId: newCorrelationId() };
    const reports = flags.node === undefined
      ? await Promise.all(knownNodes(config.config).map((name) => askQuickly(name, config, context)))
      : [await askOne(flags.node, { config, place }, context)];
    const workers = reports.flatMap(({ node, workers }) => workers.map((worker) => ({ node, ...worker })));
    const silent = reports.filter((report) => report.error !== undefined);
    if (output.json) {
      const unreachable = silent.map(({ node, error }) => ({
        node,
        error: error?.toBody(context.correlationId),
      }));
      await output.document({ workers, unreachable });
      return 0;
    }
    for (const { node, error } of silent) output.say(silenceOf(node, error));
    if (workers.length === 0) output.say("No workers run.");
    else await output.text(textTable(workers.map(columns)));
    return 0;
  });
}

/** The node that was named: it has to answer, with EC1's patience. */
async function askOne(
  name: string,
  from: { config: LoadedConfig; place: Place },
  context: PhaseContext,
): Promise<NodeReport> {
  const node = await resolveNode(name, from.config);
  from.place.node = node;
  await hiveHealth(node, context);
  return { node: name, ...await hiveClient(node, context).workers({ signal: context.signal }) };
}

/** One of many: a machine that is off must not spoil the list, nor hold it up. */
async function askQuickly(name: string, config: LoadedConfig, context: PhaseContext): Promise<NodeReport> {
  try {
    const node = await resolveNode(name, config);
    const answer = await hiveClient(node, context).workers({
      signal: context.signal,
      timeoutMs: HEALTH_TIMEOUT_MS,
    });
    return { node: name, ...answer };
  } catch (error) {
    context.signal.throwIfAborted();
    if (!(error instanceof RbeeError)) throw error;
    return { node: name, workers: [], error };
  }
}

function silenceOf(node: string, error: RbeeError | undefined): string {
  // Nothing is wrong with a machine that has not been used yet.
  if (node === LOCALHOST && error?.code === "NODE_UNREACHABLE") return "No hive runs on this machine.";
  return `${node} did not answer: ${error?.message}`;
}

function columns(worker: WorkerInfo & { node: string }): Record<string, string> {
  return {
    NODE: worker.node,
    WORKER: worker.worker_id,
    MODEL: worker.model_ref,
    BACKEND: `${worker.backend}:${worker.device}`,
    STATE: worker.state,
    "FREE SLOTS": `${worker.slots_available}/${worker.slots_total}`,
    URL: worker.url,
  };
}
