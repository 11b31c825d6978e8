/** Waits `ms`. Rejects with the signal's reason once that aborts. Unless `persistent`, it keeps no process alive. */
export declare function delay(
  ms: number,
  options?: { signal?: AbortSignal; persistent?: boolean },
): Promise<void>;

/** Settles as `promise` does, or rejects with the signal's reason once that aborts. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T>;
