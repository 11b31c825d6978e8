/** Who may call: bearer keys, compared in constant time (SPEC §3). */
import { createHash, timingSafeEqual } from "node:crypto";
import type { Dialect } from "../protocol/dialects.ts";
import { RbeeError } from "../protocol/errors.ts";
import { MAX_AUTH_HEADER_BYTES } from "../protocol/limits.ts";
import { type Caller, may, OWNER, type Right } from "../protocol/rights.ts";

const SCHEME = "Bearer ";

/**
 * The bearer of a request; undefined when it has none.
 *
 * @throws {RbeeError} `INVALID_REQUEST` for a header that is too long or holds control characters.
 */
export function bearerOf(headers: Headers): string | undefined {
  const header = headers.get("Authorization");
  if (header === null) return undefined;
  if (header.length > MAX_AUTH_HEADER_BYTES) {
    throw new RbeeError(
      "INVALID_REQUEST",
      `The Authorization header is longer than ${MAX_AUTH_HEADER_BYTES} bytes.`,
    );
  }
  // deno-lint-ignore no-control-regex
  if (/[\u0000-\u001f\u007f]/.test(header)) {
    throw new RbeeError("INVALID_REQUEST", "The Authorization header holds control characters.");
  }
  return header.startsWith(SCHEME) ? header.slice(SCHEME.length) : undefined;
}

/** Whether two secrets are equal, in time that depends on neither. */
export function secretsEqual(given: string, expected: string): boolean {
  return timingSafeEqual(digestOf(given), digestOf(expected));
}

/** What {@linkcode requireKey} compares keys by. */
export function digestOf(secret: string): Uint8Array {
  return createHash("sha256").update(secret).digest();
}

/** Whose a key is, by its {@linkcode digestOf}; undefined: nobody's. */
export type Clients = (digest: Uint8Array) => Caller | undefined;

/**
 * Lets a request with the daemon's own key pass, which is known by its {@linkcode digestOf}, or with that of one of
 * `clients` who has one of `rights`.
 *
 * @returns who calls.
 * @throws {RbeeError} `MISSING_API_KEY`, `INVALID_API_KEY`, or `FORBIDDEN` for a key that has not the right: that says
 * which right the route takes, and nothing of the key.
 */
export function requireKey(
  headers: Headers,
  wanted: { digest: Uint8Array; dialect?: Dialect; clients?: Clients; rights?: readonly Right[] },
): Caller {
  // Anthropic's clients have a header of their own.
  const given = bearerOf(headers) ?? (wanted.dialect === "anthropic" ? headers.get("X-Api-Key") : null);
  if (given === null) {
    throw new RbeeError(
      "MISSING_API_KEY",
      "This route needs a key: send the header Authorization: Bearer KEY.",
    );
  }
  const digest = digestOf(given);
  if (timingSafeEqual(digest, wanted.digest)) return OWNER;
  const client = wanted.clients?.(digest);
  if (client === undefined) throw new RbeeError("INVALID_API_KEY", "The key is not the one of this daemon.");
  const { rights = [] } = wanted;
  if (may(client, "owner") || rights.some((right) => may(client, right))) return client;
  throw new RbeeError(
    "FORBIDDEN",
    rights.length === 0
      ? "This route takes an owner's key only."
      : `This route takes a key with the right ${rights.join(" or ")}, which this key lacks.`,
    { details: { needed: ["owner", ...rights] } },
  );
}
