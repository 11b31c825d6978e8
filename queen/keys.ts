/** Whose keys the queen takes, what each may have of what there is, and how much. */
import { createHash, timingSafeEqual } from "node:crypto";
import { OWNER } from "../daemon/auth.ts";
import type { QueenKey } from "../home/config_schema.ts";
import { RbeeError } from "../protocol/errors.ts";

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

/** An amount that refills evenly. */
class Bucket {
  readonly #size: number;
  readonly #periodMs: number;
  #left: number;
  #atMs: number;

  constructor(size: number, how: { periodMs: number; nowMs: number }) {
    this.#size = this.#left = size;
    this.#periodMs = how.periodMs;
    this.#atMs = how.nowMs;
  }

  /** Milliseconds until there is so much. It may go below nothing: what something takes is known afterwards. */
  waitMs(amount: number, nowMs: number): number {
    this.#refill(nowMs);
    const missing = Math.min(amount, this.#size) - this.#left;
    return missing <= 0 ? 0 : Math.ceil(missing * this.#periodMs / this.#size);
  }

  take(amount: number, nowMs: number): void {
    this.#refill(nowMs);
    this.#left -= amount;
  }

  #refill(nowMs: number): void {
    this.#left = Math.min(this.#size, this.#left + (nowMs - this.#atMs) * this.#size / this.#periodMs);
    this.#atMs = nowMs;
  }
}

interface Client {
  readonly name: string;
  readonly share: number;
  readonly digest: Uint8Array;
  readonly requests: Bucket[];
  readonly tokens: Bucket[];
}

/** All clients. */
export class Keys {
  readonly #clients: Client[];
  readonly #byName: Map<string, Client>;

  /** Their buckets are full. */
  constructor(keys: readonly QueenKey[], nowMs: number) {
    const bucket = (size: number | undefined, periodMs: number) =>
      size === undefined ? [] : [new Bucket(size, { periodMs, nowMs })];
    this.#clients = keys.map((key) => ({
      name: key.name,
      share: key.share,
      digest: Uint8Array.fromHex(key.hash),
      requests: bucket(key.requests_per_minute, MINUTE_MS),
      tokens: [...bucket(key.tokens_per_minute, MINUTE_MS), ...bucket(key.tokens_per_day, DAY_MS)],
    }));
    this.#byName = new Map(this.#clients.map((client) => [client.name, client]));
  }

  /** Whose a key is. Every digest is compared, so that time tells nothing of which ones there are. */
  identify(key: string): string | undefined {
    const digest = createHash("sha256").update(key).digest();
    let found: string | undefined;
    for (const client of this.#clients) if (timingSafeEqual(client.digest, digest)) found = client.name;
    return found;
  }

  /** Of what there is, beside the others. */
  shareOf(name: string): number {
    return this.#byName.get(name)?.share ?? 1;
  }

  /**
   * Takes one from a key's requests, before anything of the request is read.
   *
   * @throws {RbeeError} `RATE_LIMITED`, which says when to come back.
   */
  admit(name: string, nowMs: number): void {
    const buckets = this.#limitsOf(name)?.requests ?? [];
    requireRoom(name, { what: "requests", waitsMs: buckets.map((bucket) => bucket.waitMs(1, nowMs)) });
    for (const bucket of buckets) bucket.take(1, nowMs);
  }

  /**
   * Lets a request go on that will probably take so many tokens.
   *
   * @throws {RbeeError} `RATE_LIMITED`, which says when to come back.
   */
  requireTokens(name: string, tokens: number, nowMs: number): void {
    const buckets = this.#limitsOf(name)?.tokens ?? [];
    requireRoom(name, { what: "tokens", waitsMs: buckets.map((bucket) => bucket.waitMs(tokens, nowMs)) });
  }

  /** A request has taken so many. */
  spent(name: string, tokens: number, nowMs: number): void {
    for (const bucket of this.#byName.get(name)?.tokens ?? []) bucket.take(tokens, nowMs);
  }

  #limitsOf(name: string): Client | undefined {
    return name === OWNER ? undefined : this.#byName.get(name);
  }
}

function requireRoom(name: string, of: { what: string; waitsMs: readonly number[] }): void {
  const waitMs = Math.max(0, ...of.waitsMs);
  if (waitMs === 0) return;
  const retryAfterSeconds = Math.ceil(waitMs / 1000);
  throw new RbeeError(
    "RATE_LIMITED",
    `The key ${name} has used up its ${of.what} for now. Try again in ${retryAfterSeconds} s.`,
    { retryAfterSeconds, details: { limit: of.what } },
  );
}
