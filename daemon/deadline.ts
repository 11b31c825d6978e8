/** When a request must have ended, as its headers say. */
import { RbeeError } from "../protocol/errors.ts";

/**
 * Milliseconds that a request has left: `X-Request-Deadline` is a point in time (ISO 8601), `X-Deadline` a number of
 * milliseconds from now; the earlier one counts.
 *
 * @throws {RbeeError} `INVALID_REQUEST` for what is neither, `REQUEST_TIMEOUT` when nothing is left.
 */
export function deadlineOf(headers: Headers, nowMs = Date.now()): number | undefined {
  const left: number[] = [];
  const fail = (name: string, expected: string): never => {
    throw new RbeeError("INVALID_REQUEST", `The header ${name} must be ${expected}.`, {
      details: { errors: [{ field: name, constraint: "format", message: `must be ${expected}` }] },
    });
  };
  const point = headers.get("X-Request-Deadline");
  if (point !== null) {
    const atMs = /^\d{4}-\d\d-\d\dT/.test(point) ? Date.parse(point) : NaN;
    if (Number.isNaN(atMs)) fail("X-Request-Deadline", "a time like 2030-01-31T12:00:00Z");
    left.push(atMs - nowMs);
  }
  const relative = headers.get("X-Deadline");
  if (relative !== null) {
    if (!/^\d{1,12}$/.test(relative)) fail("X-Deadline", "a whole number of milliseconds");
    left.push(Number(relative));
  }
  if (left.length === 0) return undefined;
  const leftMs = Math.min(...left);
  if (leftMs <= 0) throw new RbeeError("REQUEST_TIMEOUT", "The request's deadline has passed.");
  return leftMs;
}
