/** `models list`: what a machine has, how large, and when it was last used. */
import type { ListedModel } from "../../protocol/hive_schemas.ts";
import type { ClusterModel } from "../../protocol/queen_schemas.ts";
import { ago } from "../ago.ts";
import type { LoadedCommand } from "../cli.ts";
import type { ModelsListFlags } from "../table/models.ts";
import type { CommandContext } from "../context.ts";
import { withHive } from "../phases/with_hive.ts";
import { bytes } from "../progress.ts";
import { nowUnix } from "../registry.ts";
import { textTable } from "../text_table.ts";
import type { QueenAddress } from "../queen.ts";
import { type QueenContext, throughQueen } from "./nodes_of_queen.ts";
import { ask } from "./queen_calls.ts";

/** The command. */
export const MODELS_LIST: LoadedCommand<ModelsListFlags> = { run: runModelsList };

async function runModelsList(context: CommandContext, flags: ModelsListFlags): Promise<number> {
  if (flags.node === undefined) {
    const listed = await throughQueen(flags, context, listOfAll);
    if (listed !== undefined) return listed;
  }
  return await withHive(flags, context, async (hive, { output, signal }) => {
    const { models } = await hive.client.models({ signal });
    const total = totalBytes(models);
    if (output.json) {
      await output.document({ node: hive.node.name, models, total_bytes: total });
    } else if (models.length === 0) {
      output.say(`There are no models on ${hive.node.name} yet.`);
    } else {
      await output.text(textTable(models.map((model) => columns(model, flags))));
      for (const { reference, unreachable } of models) {
        if (unreachable !== undefined) output.insist(`${reference}: ${unreachable}`);
      }
      await output.line(`${models.length === 1 ? "1 model" : `${models.length} models`}, ${bytes(total)}`);
    }
    return 0;
  });
}

/** Which model lies where, on all machines of a queen. */
async function listOfAll(
  queen: QueenAddress,
  { place, output, correlationId, signal }: QueenContext,
): Promise<number> {
  const models = await ask(queen, place, {
    correlationId,
    work: (client) => client.models({}, { signal }),
  });
  if (output.json) await output.document({ queen: queen.url, models });
  else if (models.length === 0) output.say("There are no models on the queen's machines yet.");
  else await output.text(textTable(models.map(columnsOfAll)));
  return 0;
}

function columnsOfAll({ model_ref, size_bytes, nodes }: ClusterModel): Record<string, string> {
  const namesOf = (those: ClusterModel["nodes"]) => those.map(({ node }) => node).join(", ");
  return {
    REFERENCE: model_ref,
    SIZE: size_bytes === null ? "?" : bytes(size_bytes),
    "ON DISK": namesOf(nodes.filter(({ on_disk }) => on_disk)),
    LOADED: namesOf(nodes.filter(({ worker_ids }) => worker_ids.length > 0)),
  };
}

function columns(model: ListedModel, flags: ModelsListFlags): Record<string, string> {
  return {
    REFERENCE: model.reference,
    SIZE: bytes(model.size_bytes),
    "LAST USED": model.in_use ? "now" : ago(model.last_used_at_unix, nowUnix()),
    "IN USE": model.in_use ? "yes" : "no",
    ...(flags.verbose ? { PATH: model.local_path } : {}),
  };
}

/** Two references to the same files take the room of one. */
function totalBytes(models: readonly ListedModel[]): number {
  const sizes = new Map(models.map((model) => [model.local_path, model.size_bytes]));
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}
