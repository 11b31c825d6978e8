/** Bounds on the nesting of JSON that recursive code will read. */

/** Whether a value is nested deeper. Level by level, not recursive: it may be as deep as its sender liked. */
export function deeperThan(value: unknown, levels: number): boolean {
  const inside = (at: unknown) => typeof at === "object" && at !== null ? Object.values(at) : [];
  let level = inside(value);
  for (let depth = 1; depth < levels && level.length > 0; depth++) level = level.flatMap(inside);
  return level.some((at) => typeof at === "object" && at !== null);
}
