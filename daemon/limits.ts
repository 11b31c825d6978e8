/** Numbers that every daemon shares. */

/** Time for all steps of a shutdown together, before the process leaves anyway. */
export const SHUTDOWN_TIMEOUT_MS = 45_000;
/** Time for the whole body of a request to arrive. */
export const BODY_TIMEOUT_MS = 60_000;
/** Largest sum of the bodies whose requests are under way; one that is alone may be larger. */
export const BODIES_MAX_BYTES = 128 * 1024 * 1024;
/** Time for open answers to finish once the server stops accepting. */
export const SERVER_DRAIN_TIMEOUT_MS = 2_000;
/** Most connections at a time, where the process may open enough descriptors for them. */
export const CONNECTIONS_MAX = 8_192;
/** As many as a daemon looks for descriptors for when it starts; for twice as many each time that they are in use. */
export const CONNECTIONS_MAX_FIRST = 32;
/** Descriptors that connections leave to files, and to calls to other daemons. */
export const DESCRIPTORS_RESERVED = 64;
/** From a new connection to the end of its first request's header. */
export const HEADER_TIMEOUT_MS = 15_000;
/** From one answer to the next request's header. Longer than the 90 s for which `fetch` keeps idle connections. */
export const IDLE_CONNECTION_TIMEOUT_MS = 120_000;
/** Between two looks for connections that are past a limit. */
export const CONNECTION_SWEEP_INTERVAL_MS = 1_000;
/** Pause after an accept that failed. */
export const ACCEPT_RETRY_DELAY_MS = 100;
/** In one turn of the event loop, before connections that have had one answered wait for the next turn. */
export const REQUESTS_PER_TURN = 32;
/** Shortest time between two log lines that say the same of a limit. */
export const LIMIT_LOG_INTERVAL_MS = 10_000;
