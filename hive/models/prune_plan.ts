/** Which models go when there is too much of them: a pure function from the catalog to a plan. */
import type { CatalogModel } from "../../protocol/hive_schemas.ts";

/** What the plan needs to know of a row of the catalog. */
export interface PruneCandidate
  extends
    Pick<CatalogModel, "provider" | "reference" | "size_bytes" | "last_used_at_unix" | "downloaded_at_unix"> {
  /** Where the first part really lies: the same for rows that stand for the same bytes. */
  files: string;
  /** A worker has it, or a download is bringing it. */
  in_use: boolean;
}

/** The same files under all their names. */
export interface PruneGroup {
  /** In the order of the rows. */
  references: string[];
  /** Counted once. */
  size_bytes: number;
  /** The latest under any name. */
  last_used_at_unix: number | null;
}

/** Why a group stays. */
export type KeepReason =
  /** See {@linkcode PruneCandidate.in_use}. */
  | "in_use"
  /** It is also known as `file:` or `builtin:`, so it is somebody's own. */
  | "own_file"
  /** There is room for it. */
  | "fits";

/** What is to be done. */
export interface PrunePlan {
  /** Least recently used first. */
  remove: PruneGroup[];
  /** Hub models that stay. */
  keep: (PruneGroup & { reason: KeepReason })[];
  /** Of all that stay. */
  keptBytes: number;
}

/**
 * Removes groups of hub models, least recently used first, until the rest take at most `keepBytes`. What was never
 * used counts as used when it came. Other files are neither counted nor removed; what is in use is counted, so the
 * rest may be more than `keepBytes`.
 */
export function planPrune(candidates: readonly PruneCandidate[], keepBytes: number): PrunePlan {
  const groups = [...Map.groupBy(candidates, ({ files }) => files).values()]
    .filter((rows) => rows.some(({ provider }) => provider === "hf"))
    .map((rows) => ({
      references: rows.map(({ reference }) => reference),
      size_bytes: Math.max(...rows.map(({ size_bytes }) => size_bytes)),
      last_used_at_unix: rows.reduce<number | null>(
        (latest, { last_used_at_unix: used }) => used === null ? latest : Math.max(used, latest ?? used),
        null,
      ),
      ageUnix: Math.max(...rows.map((row) => Math.max(row.last_used_at_unix ?? 0, row.downloaded_at_unix))),
      reason: reasonToKeep(rows),
    }))
    .sort((a, b) => a.ageUnix - b.ageUnix);
  const plan: PrunePlan = { remove: [], keep: [], keptBytes: 0 };
  plan.keptBytes = groups.reduce((sum, group) => sum + group.size_bytes, 0);
  for (const { ageUnix: _, reason, ...group } of groups) {
    if (reason === "fits" && plan.keptBytes > keepBytes) {
      plan.remove.push(group);
      plan.keptBytes -= group.size_bytes;
    } else {
      plan.keep.push({ ...group, reason });
    }
  }
  return plan;
}

function reasonToKeep(rows: readonly PruneCandidate[]): KeepReason {
  if (rows.some(({ in_use }) => in_use)) return "in_use";
  return rows.some(({ provider }) => provider !== "hf") ? "own_file" : "fits";
}
