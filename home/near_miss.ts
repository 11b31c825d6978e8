/** "Did you mean …?": only for words that are close enough to be worth asking. */
import { closestString, levenshteinDistance } from "@std/text";

/** How many wrong characters still count as a slip. */
const MAX_DISTANCE = 2;
/** Shortest beginning of a word that stands for it. */
const MIN_PREFIX_CHARS = 3;

/** The known word that was probably meant; undefined when none is near. */
export function nearest(given: string, known: readonly string[]): string | undefined {
  if (known.length === 0) return undefined;
  const near = closestString(given, known);
  // Half of a short word wrong is another word, not a slip.
  const allowed = Math.min(MAX_DISTANCE, Math.floor(near.length / 2));
  if (levenshteinDistance(given.toLowerCase(), near.toLowerCase()) <= allowed) return near;
  return given.length < MIN_PREFIX_CHARS ? undefined : known.find((word) => word.startsWith(given));
}
