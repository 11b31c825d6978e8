/** The candidate with the least edit distance to `givenWord`. Throws when there are no candidates. */
export declare function closestString(
  givenWord: string,
  possibleWords: ReadonlyArray<string>,
  options?: { caseSensitive?: boolean },
): string;
