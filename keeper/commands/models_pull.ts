/** `models pull`: a download for its own sake. */
import type { LoadedCommand } from "../cli.ts";
import type { OneModelFlags } from "../table/models.ts";
import type { CommandContext } from "../context.ts";
import { fetchModel } from "../phases/fetch_model.ts";
import { withHive } from "../phases/with_hive.ts";
import { nodeToLoad } from "../queens_node.ts";
import { checkModelFlag } from "./model_flag.ts";

/** The command. */
export const MODELS_PULL: LoadedCommand<OneModelFlags> = { check: checkModelFlag, run: runModelsPull };

async function runModelsPull(context: CommandContext, flags: OneModelFlags): Promise<number> {
  return await withHive(flags, context, async (hive, phases) => {
    const { output } = phases;
    const from = { modelRef: flags.model, hiveUrl: hive.node.url };
    const { localPath, cached } = await fetchModel(hive.client, from, phases);
    output.say(cached ? `${flags.model} is there already.` : `${flags.model} is there now.`);
    if (output.json) {
      await output.document({ node: hive.node.name, model_ref: flags.model, local_path: localPath, cached });
    } else await output.line(localPath);
    return 0;
  }, { choose: nodeToLoad(flags.model) });
}
