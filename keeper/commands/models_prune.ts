/** `models prune`: room on the disk. */
import type { PruneResponse } from "../../protocol/hive_schemas.ts";
import { ago } from "../ago.ts";
import type { LoadedCommand } from "../cli.ts";
import type { ModelsPruneFlags } from "../table/models.ts";
import type { CommandContext } from "../context.ts";
import { withHive } from "../phases/with_hive.ts";
import { bytes } from "../progress.ts";
import { nowUnix } from "../registry.ts";
import { textTable } from "../text_table.ts";

const BYTES_PER_GB = 1_000_000_000;

/** The command. */
export const MODELS_PRUNE: LoadedCommand<ModelsPruneFlags> = { run: runModelsPrune };

async function runModelsPrune(context: CommandContext, flags: ModelsPruneFlags): Promise<number> {
  return await withHive(flags, context, async (hive, { output, signal }) => {
    const request = { keep_gb: flags["keep-gb"], dry_run: flags["dry-run"] };
    const pruned = await hive.client.pruneModels(request, { signal });
    if (output.json) {
      await output.document({ node: hive.node.name, dry_run: request.dry_run, ...pruned });
      return 0;
    }
    if (pruned.removed.length > 0) await output.text(textTable(pruned.removed.map(columns)));
    await output.line(summary(pruned, request));
    if (pruned.kept_bytes > request.keep_gb * BYTES_PER_GB) {
      output.insist(
        "That is more than --keep-gb allows: the rest is in use, or also known as a file of your own. " +
          "rbee-keeper models list shows what is in use.",
      );
    }
    return 0;
  });
}

function columns(removed: PruneResponse["removed"][number]): Record<string, string> {
  return {
    REFERENCE: [removed.reference, ...removed.also].join(", "),
    SIZE: bytes(removed.size_bytes),
    "LAST USED": ago(removed.last_used_at_unix, nowUnix()),
  };
}

function summary(pruned: PruneResponse, { dry_run }: { dry_run: boolean }): string {
  const { freed_bytes: freed, partial_bytes: partial, kept_bytes: kept } = pruned;
  const partials = partial === 0 ? "" : ` and ${bytes(partial)} of unfinished downloads`;
  const [removes, keeps] = dry_run ? ["Would remove", "would keep"] : ["Removed", "kept"];
  if (freed === 0 && partial === 0) return `Nothing to remove: downloaded models take ${bytes(kept)}.`;
  return `${removes} ${bytes(freed)} of models${partials}, ${keeps} ${bytes(kept)}.`;
}
