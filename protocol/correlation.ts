/** The id that ties together what one command caused in every part. */

/** The header that carries it, in and out. */
export const CORRELATION_HEADER = "X-Correlation-Id";

const VALID = /^[a-zA-Z0-9-]{1,64}$/;

/** A fresh id. */
export function newCorrelationId(): string {
  return crypto.randomUUID();
}

/** What the caller sent if it is well-formed, else a fresh id: a log line is no place for foreign text. */
export function correlationIdOf(headers: Headers): string {
  const given = headers.get(CORRELATION_HEADER);
  return given !== null && VALID.test(given) ? given : newCorrelationId();
}
