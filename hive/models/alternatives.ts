/** The same model in other quantisations: what could be suggested when one is too large. */
import type { Logger } from "../../daemon/log.ts";
import type { CatalogModel } from "../../protocol/hive_schemas.ts";
import { type ModelRef, parseModelRef } from "../../protocol/model_ref.ts";
import type { HubRef, Quantisation } from "./model_files.ts";

/** As the hub has them; where it can't tell, as they are here. Never throws. */
export async function findAlternatives(ref: ModelRef, where: {
  atHub: (ref: HubRef) => Promise<Quantisation[]>;
  here: () => CatalogModel[];
  log: Logger;
}): Promise<Quantisation[]> {
  if (ref.provider !== "hf") return [];
  try {
    return await where.atHub(ref);
  } catch (error) {
    where.log.debug("the hub does not say which quantisations there are", { model_ref: ref.text, error });
    const isSameRepo = (row: CatalogModel) => {
      const other = parseModelRef(row.reference);
      return other.provider === "hf" && other.repo === ref.repo;
    };
    return where.here().filter(isSameRepo)
      .map(({ reference, size_bytes }) => ({ modelRef: reference, bytes: size_bytes }));
  }
}
