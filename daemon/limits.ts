/** Numbers that every daemon shares. */

/** Time for all steps of a shutdown together, before the process leaves anyway. */
export const SHUTDOWN_TIMEOUT_MS = 45_000;
/** Time for the whole body of a request to arrive. */
export const BODY_TIMEOUT_MS = 60_000;
/** Time for open answers to finish once the server stops accepting. */
export const SERVER_DRAIN_TIMEOUT_MS = 2_000;
