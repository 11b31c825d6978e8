/** Carries out what {@linkcode planPrune} decides. */
import { RbeeError } from "../../protocol/errors.ts";
import type { PruneRequest, PruneResponse } from "../../protocol/hive_schemas.ts";
import type { FoundModel } from "./models_options.ts";
import { type PartialsOptions, removePartials } from "./partials.ts";
import { planPrune, type PruneGroup } from "./prune_plan.ts";

const BYTES_PER_GB = 1_000_000_000;

/** What {@linkcode pruneModels} works on. */
export interface PruneOptions {
  /** The catalog, repaired. What can't be looked at stays. */
  models: readonly FoundModel[];
  /** Folder of the cache. */
  root: string;
  /** Whether a worker has it, or a download is bringing it. */
  inUse: (model: FoundModel) => boolean;
  /** Removes a model with all its references to the same path. Throws `MODEL_IN_USE`, `MODEL_NOT_FOUND`. */
  remove: (reference: string) => Promise<void>;
  /** Whether a repository is being downloaded. */
  busy: PartialsOptions["busy"];
}

/** Removes models, then unfinished downloads. What came into use meanwhile stays. */
export async function pruneModels(request: PruneRequest, options: PruneOptions): Promise<PruneResponse> {
  const candidates = options.models.filter(({ unreachable }) => unreachable === undefined)
    .map((model) => ({ ...model, in_use: options.inUse(model) }));
  const plan = planPrune(candidates, Math.round(request.keep_gb * BYTES_PER_GB));
  const removed: PruneGroup[] = [];
  let keptBytes = plan.keptBytes;
  for (const group of plan.remove) {
    if (request.dry_run || await removeGroup(group, options.remove)) removed.push(group);
    else keptBytes += group.size_bytes;
  }
  return {
    removed: removed.map(({ references: [reference, ...also], size_bytes, last_used_at_unix }) => {
      return { reference, also, size_bytes, last_used_at_unix };
    }),
    kept_bytes: keptBytes,
    freed_bytes: removed.reduce((sum, { size_bytes }) => sum + size_bytes, 0),
    partial_bytes: await removePartials(options.root, { dryRun: request.dry_run, busy: options.busy }),
  };
}

/** Whether all of it is gone. */
async function removeGroup(group: PruneGroup, remove: PruneOptions["remove"]): Promise<boolean> {
  for (const reference of group.references) {
    try {
      await remove(reference);
    } catch (error) {
      if (!(error instanceof RbeeError)) throw error;
      if (error.code === "MODEL_IN_USE") return false;
      // An earlier reference took it along.
      if (error.code !== "MODEL_NOT_FOUND") throw error;
    }
  }
  return true;
}
