/** Letting go of a body that is being read. */

/**
 * Cancels the reader once the signal aborts: what is being waited for then ends like a body that is over. That the
 * signal was given to `fetch` is not enough: once the answer has begun, only a weak reference leads from it to the body,
 * and after a garbage collection an abort reaches nobody. Disposing cancels, too: what has not been read by then is not
 * wanted.
 */
export function cancelOn(
  signal: AbortSignal | undefined,
  reader: { cancel(reason?: unknown): Promise<void> },
): Disposable {
  const cancel = () => void reader.cancel(signal?.reason).catch(() => {});
  signal?.addEventListener("abort", cancel, { once: true });
  if (signal?.aborted) cancel();
  return {
    [Symbol.dispose]() {
      signal?.removeEventListener("abort", cancel);
      cancel();
    },
  };
}
