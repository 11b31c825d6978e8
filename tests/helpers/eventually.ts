/** Waiting for a condition, the only kind of waiting that tests do. */

/** Longer than anything takes, also on a machine that does much else: how fast something is, no test says. */
const TIMEOUT_MS = 30_000;
/** Pause between two looks, in ms. */
const LOOK_INTERVAL_MS = 5;

/**
 * Resolves with the first value of `look` that is neither false nor undefined.
 *
 * @throws {Error} naming `what` when there is none within `timeoutMs`.
 */
export async function eventually<T>(
  what: string,
  look: () => T | Promise<T>,
  timeoutMs = TIMEOUT_MS,
): Promise<Exclude<T, false | undefined>> {
  const untilMs = performance.now() + timeoutMs;
  for (;;) {
    const value = await look();
    if (value !== false && value !== undefined) return value as Exclude<T, false | undefined>;
    if (performance.now() > untilMs) throw new Error(`Waited ${timeoutMs} ms in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL_MS));
  }
}
