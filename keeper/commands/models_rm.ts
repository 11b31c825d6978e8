/** `models rm`: one model less. */
import type { LoadedCommand } from "../cli.ts";
import type { OneModelFlags } from "../table/models.ts";
import type { CommandContext } from "../context.ts";
import { referenceOf, unknownModel } from "../known_models.ts";
import { withHive } from "../phases/with_hive.ts";
import { nodeWithModel } from "../queens_node.ts";
import { bytes } from "../progress.ts";

/** The command. */
export const MODELS_RM: LoadedCommand<OneModelFlags> = { run: runModelsRm };

async function runModelsRm(context: CommandContext, flags: OneModelFlags): Promise<number> {
  return await withHive(flags, context, async (hive, { output, signal }) => {
    const { models } = await hive.client.models({ signal });
    const reference = referenceOf(flags.model, models);
    const model = models.find((each) => each.reference === reference);
    if (model === undefined) throw unknownModel(flags.model, models);
    const { size_bytes } = model;
    await hive.client.removeModel(reference, { signal });
    if (output.json) {
      await output.document({ removed: reference, size_bytes });
    } else if (model.provider === "hf") {
      const others = models.filter((other) => other !== model && other.local_path === model.local_path);
      output.say(`Removed ${reference} (${bytes(size_bytes)}).`);
      for (const other of others) output.say(`${other.reference} meant the same files and went along.`);
    } else {
      output.say(`Forgot ${reference}. The file itself stays: ${model.local_path}`);
    }
    return 0;
  }, { choose: nodeWithModel(flags.model) });
}
