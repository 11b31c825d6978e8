/** Events are taken as they come, however slowly they are shown: a reader who pauses must not hold up the sender. */

/**
 * Passes on `events` in order. They are read at once and kept until they are asked for, so whoever sends a bounded
 * number of them (an answer has at most its context's tokens) never waits for a terminal or a pager. `onArrival` is
 * told of each when it comes.
 */
export async function* readAhead<T>(
  events: AsyncIterable<T>,
  onArrival: (event: T) => void = () => {},
): AsyncGenerator<T> {
  const source = events[Symbol.asyncIterator]();
  const kept: T[] = [];
  let news = Promise.withResolvers<void>();
  let end: { error?: unknown } | undefined;
  const read = async () => {
    try {
      for (let next = await source.next(); !next.done; next = await source.next()) {
        onArrival(next.value);
        kept.push(next.value);
        news.resolve();
      }
      end = {};
    } catch (error) {
      end = { error };
    }
    news.resolve();
  };
  void read();
  try {
    for (;;) {
      await news.promise;
      news = Promise.withResolvers();
      yield* kept.splice(0);
      if (kept.length > 0) news.resolve();
      else if (end !== undefined) break;
    }
    if (end !== undefined && "error" in end) throw end.error;
  } finally {
    // Not waited for: what is asked of the source already may take its time.
    source.return?.()?.catch(() => {});
  }
}
