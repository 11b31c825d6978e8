/** Which of two versions is the older one. */

/** Negative when `a` is older than `b`, 0 when they rank the same. Reads `1.2.3`; what follows a dash is ignored. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [numbersOf(a), numbersOf(b)];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function numbersOf(version: string): number[] {
  return version.split(/[-+]/, 1)[0].split(".").map((part) => Number.parseInt(part, 10) || 0);
}
