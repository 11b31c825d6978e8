/**
 * The greatest of the counts up to `most` that holds; 0: not even 1 does. Whatever holds for a count must hold for all
 * smaller ones. Found by doubling and then by halving: looks at few where few hold, and at one where none does.
 */
export function longestOf(most: number, holds: (count: number) => boolean): number {
  let known = 0;
  let tried = 1;
  while (tried <= most && holds(tried)) {
    known = tried;
    tried *= 2;
  }
  for (let above = Math.min(tried, most + 1); above - known > 1;) {
    const middle = (known + above) >> 1;
    if (holds(middle)) known = middle;
    else above = middle;
  }
  return known;
}
