/** What a hive tells another one of the models that it has. */
import { join } from "@std/path";
import { RbeeError } from "../../protocol/errors.ts";
import type { CatalogModel, ModelOffer } from "../../protocol/hive_schemas.ts";
import { digestOfEntry } from "./cache_lookup.ts";
import { parseSnapshotPath } from "./cache_removal.ts";
import { fileSize } from "./file_look.ts";
import { DEFAULT_REVISION } from "./hub.ts";
import type { HubRef } from "./model_files.ts";
import { splitPaths } from "./split_name.ts";

/**
 * A model of the catalog with all that another hive needs to take it from here.
 *
 * @throws {RbeeError} `MODEL_NOT_FOUND` when it is not known well enough to vouch for it.
 */
export async function offerOf(row: CatalogModel, ref: HubRef): Promise<ModelOffer> {
  const snapshot = parseSnapshotPath(row.local_path);
  if (snapshot === undefined) {
    throw new RbeeError("MODEL_NOT_FOUND", `${ref.text} is not in the catalog.`);
  }
  const { repoFolder, commit } = snapshot;
  const files = [];
  for (const part of splitPaths(row.local_path)) {
    const digest = await digestOfEntry(part);
    const size = await fileSize(part);
    const path = part.slice(join(repoFolder, "snapshots", commit).length + 1);
    if (digest === undefined || size === undefined) {
      throw new RbeeError("MODEL_NOT_FOUND", `${ref.text} is here without its checksums.`);
    }
    files.push({ path, size, digest });
  }
  return {
    repo: ref.repo,
    revision: ref.revision ?? DEFAULT_REVISION,
    commit,
    files,
    companions: row.companions,
  };
}

/**
 * The file among these models that has this digest.
 *
 * @throws {RbeeError} `MODEL_NOT_FOUND`.
 */
export async function blobOf(rows: readonly CatalogModel[], digestHex: string): Promise<string> {
  for (const row of rows) {
    if (row.provider !== "hf") continue;
    for (const part of splitPaths(row.local_path)) {
      if ((await digestOfEntry(part))?.hex === digestHex) return part;
    }
  }
  throw new RbeeError("MODEL_NOT_FOUND", "No model of the catalog has a file of this digest.");
}
