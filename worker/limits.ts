/** Numbers of the worker. Those that callers must know as well stand in protocol/limits.ts. */

/** Running answers may go on for that long after a shutdown was asked for. */
export const DRAIN_TIMEOUT_MS = 30_000;
/** How long a worker whose load failed stays to tell why. */
export const FAILED_LINGER_MS = 5_000;
/** The callback to the hive: pause before each attempt. */
export const CALLBACK_DELAYS_MS = [0, 200, 400] as const;
/** Longest delay a timer takes. */
export const MAX_TIMER_MS = 2_147_483_647;
/** Time for the engine to let go of the model. */
export const CLOSE_TIMEOUT_MS = 10_000;
/** Longest time until an answer that waits for a slot looks whether others have given one back. */
export const SLOT_RETRY_DELAY_MS = 50;
