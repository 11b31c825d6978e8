/** A model as a person names it, among those that a machine has. Pure. */
import { nearest } from "../home/near_miss.ts";
import { RbeeError } from "../protocol/errors.ts";
import type { ListedModel } from "../protocol/hive_schemas.ts";
import { parseModelRef } from "../protocol/model_ref.ts";
import { printable } from "../protocol/printable.ts";
import { MAX_NAMES_SHOWN } from "./limits.ts";

/** A model that some machine has. */
type KnownModel = Pick<ListedModel, "reference">;

/** Shortest part of a name that stands for it. */
const MIN_PART_CHARS = 3;

/**
 * A reference in its normal form.
 *
 * @throws {RbeeError} for what is no reference: `MODEL_NOT_FOUND` with the models that were probably meant, else
 * `INVALID_REQUEST`.
 */
export function referenceOf(given: string, models: readonly KnownModel[]): string {
  try {
    return parseModelRef(given).text;
  } catch (error) {
    throw nearModels(given, models).length === 0 ? error : unknownModel(given, models);
  }
}

/** The error for a reference that is not in the catalog. */
export function unknownModel(given: string, models: readonly KnownModel[]): RbeeError {
  const near = nearModels(given, models).slice(0, MAX_NAMES_SHOWN);
  return new RbeeError("MODEL_NOT_FOUND", `There is no model "${printable(given.slice(0, 120))}" here.`, {
    details: {
      near,
      advice: [
        ...(near.length === 0 ? [] : [`Did you mean ${near.join(", ")}?`]),
        "rbee-keeper models list shows those there are; models pull brings others.",
      ],
    },
  });
}

/** Those that hold what was given, or are held by it; else the one that is a slip away. */
function nearModels(given: string, models: readonly KnownModel[]): string[] {
  const known = models.map(({ reference }) => reference);
  const text = given.toLowerCase();
  const alike = known.filter((reference) => {
    const other = reference.toLowerCase();
    return text.length >= MIN_PART_CHARS && (other.includes(text) || text.startsWith(other));
  });
  const slip = alike.length === 0 ? nearest(given, known) : undefined;
  return slip === undefined ? alike : [slip];
}
