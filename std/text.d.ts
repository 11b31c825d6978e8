/** The candidate with the least edit distance to `givenWord`. Throws when there are no candidates. */
export declare function closestString(
  givenWord: string,
  possibleWords: ReadonlyArray<string>,
  options?: { caseSensitive?: boolean },
): string;
/** How many single-character edits lie between two words. */
export declare function levenshteinDistance(str1: string, str2: string): number;
/** How many characters must be added, taken away or replaced to get from one word to the other. */
export declare function levenshteinDistance(first: string, second: string): number;
