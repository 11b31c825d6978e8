/** How long ago something was, as people say it. */

const UNITS = [
  ["year", 365 * 24 * 3600],
  ["month", 30 * 24 * 3600],
  ["day", 24 * 3600],
  ["hour", 3600],
  ["minute", 60],
] as const;

/** `3 days ago`; `just now` below a minute, also for another machine's clock that goes ahead; `never` for null. */
export function ago(unix: number | null, nowUnix: number): string {
  if (unix === null) return "never";
  const seconds = nowUnix - unix;
  for (const [unit, length] of UNITS) {
    const count = Math.floor(seconds / length);
    if (count >= 1) return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
  }
  return "just now";
}
