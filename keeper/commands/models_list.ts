/** `models list`: what a machine has, how large, and when it was last used. */
import type { ListedModel } from "../../protocol/hive_schemas.ts";
import { ago } from "../ago.ts";
import type { LoadedCommand } from "../cli.ts";
import type { ModelsListFlags } from "../table/models.ts";
import type { CommandContext } from "../context.ts";
import { withHive } from "../phases/with_hive.ts";
import { bytes } from "../progress.ts";
import { nowUnix } from "../registry.ts";
import { textTable } from "../text_table.ts";

/** The command. */
export const MODELS_LIST: LoadedCommand<ModelsListFlags> = { run: runModelsList };

async function runModelsList(context: CommandContext, flags: ModelsListFlags): Promise<number> {
  return await withHive(flags.node, context, async (hive, { output, signal }) => {
    const { models } = await hive.client.models({ signal });
    const total = totalBytes(models);
    if (output.json) {
      await output.document({ node: hive.node.name, models, total_bytes: total });
    } else if (models.length === 0) {
      output.say(`There are no models on ${hive.node.name} yet.`);
    } else {
      await output.text(textTable(models.map((model) => columns(model, flags))));
      await output.line(`${models.length === 1 ? "1 model" : `${models.length} models`}, ${bytes(total)}`);
    }
    return 0;
  });
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
