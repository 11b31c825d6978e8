/**
 * What each key has left, and that it is still so after a restart. An admission is in the store before its request runs:
 * a queen that is killed forgets no reservation, and its successor charges those it can't go on with as a whole. What a
 * request gives back is stored in its own time, since losing that costs the key, and only the key.
 */
import type { Logger } from "../daemon/log.ts";
import { RbeeError } from "../protocol/errors.ts";
import {
  Account,
  type KeptBudget,
  type Limit,
  type LimitName,
  type Reservation,
  type Shortage,
} from "./budgets.ts";
import { BUDGET_KEPT_MS, BUDGET_WRITE_INTERVAL_MS, RETRY_AFTER_RUNNING_S } from "./limits.ts";
import type { BudgetChange, KeyStore } from "./store/key_store.ts";
import { DAY_MS } from "./usage.ts";

const MINUTE_MS = 60_000;

/** What a key may have at most. */
export type KeyLimits = Partial<Record<LimitName, number>>;

/** Options of {@linkcode Accounts}. */
export interface AccountsOptions {
  store: KeyStore;
  log: Logger;
  /** Wall clock, in ms. */
  now: () => number;
}

interface KeyAccount {
  readonly requests: Account;
  readonly tokens: Account;
  /** Reservations that have changed since they were stored; undefined: settled. */
  readonly unstored: Map<string, number | undefined>;
  /** Its budgets have changed since they were stored. */
  dirty: boolean;
}

/** See above. The one owner of all keys' budgets. */
export class Accounts {
  readonly #options: AccountsOptions;
  readonly #accounts = new Map<string, KeyAccount>();
  readonly #kept = new Map<string, KeptBudget[]>();
  /** What an earlier queen had reserved and nobody has claimed yet. */
  readonly #left = new Map<string, { key: string; reservation: Reservation }>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  private constructor(options: AccountsOptions) {
    this.#options = options;
  }

  /** With what an earlier queen has stored. */
  static async open(options: AccountsOptions): Promise<Accounts> {
    const { store, now } = options;
    const accounts = new Accounts(options);
    await store.pruneBudgets(now() - BUDGET_KEPT_MS);
    for (const { key, ...budget } of await store.budgets()) {
      accounts.#kept.set(key, [...accounts.#kept.get(key) ?? [], budget]);
    }
    for (const { id, key, amount } of await store.reservations()) {
      accounts.#left.set(id, { key, reservation: accounts.#of(key).tokens.reserve(id, amount) });
    }
    return accounts;
  }

  /** Sets a key's limits; what it has used stays used. */
  limit(key: string, limits: KeyLimits): void {
    const { requests, tokens } = this.#of(key);
    const kept = this.#kept.get(key);
    requests.limit(limitsOf(limits, ["requests_per_minute"]), kept);
    tokens.limit(limitsOf(limits, ["tokens_per_minute", "tokens_per_day"]), kept);
  }

  /**
   * Takes one from a key's requests.
   *
   * @throws {RbeeError} `RATE_LIMITED`, which says when to come back.
   */
  admit(key: string): void {
    const { requests } = this.#of(key);
    if (!requests.limited) return;
    const shortage = requests.shortage(1);
    if (shortage !== undefined) throw refusal(key, shortage);
    requests.use(1);
    this.#changed(key);
  }

  /** A key's smallest budget of tokens, and what can be reserved of all now. */
  room(key: string): { size: number; available: number } {
    return this.#of(key).tokens.room;
  }

  /**
   * Sets tokens aside for a request. It is stored when this resolves.
   *
   * @throws {RbeeError} `RATE_LIMITED`, which says when to come back; `INVALID_REQUEST` when that would never do.
   */
  async reserve(key: string, request: { id: string; tokens: number }): Promise<Reservation> {
    const { id, tokens: amount } = request;
    const { tokens } = this.#of(key);
    const shortage = tokens.shortage(amount);
    if (shortage !== undefined) throw refusal(key, shortage);
    const reservation = this.#reserve(key, { id, amount });
    try {
      if (tokens.limited) await this.#flush([key]);
      return reservation;
    } catch (error) {
      // The request does not run.
      reservation.settle(0);
      throw error;
    }
  }

  /** What was reserved for a request that an earlier queen began; what it may take now, if nothing was. */
  adopt(key: string, request: { id: string; tokens: number }): Reservation {
    const left = this.#left.get(request.id);
    this.#left.delete(request.id);
    if (left !== undefined) return this.#watched(key, left.reservation);
    this.#changed(key);
    return this.#reserve(key, { id: request.id, amount: request.tokens });
  }

  /** Charges what an earlier queen had reserved and nobody goes on with. To be called once all of that was adopted. */
  chargeLeft(): void {
    for (const { key, reservation } of this.#left.values()) {
      this.#watched(key, reservation).settle(reservation.amount);
    }
    this.#left.clear();
  }

  /** Stores what is not stored yet. Nothing is stored after that. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#flush([...this.#accounts.keys()]);
    this.#closed = true;
  }

  #reserve(key: string, what: { id: string; amount: number }): Reservation {
    const reservation = this.#of(key).tokens.reserve(what.id, what.amount);
    this.#of(key).unstored.set(what.id, what.amount);
    return this.#watched(key, reservation);
  }

  /** The same, whose changes are stored. */
  #watched(key: string, reservation: Reservation): Reservation {
    const { unstored } = this.#of(key);
    const { id } = reservation;
    let over = false;
    return {
      id,
      get amount() {
        return reservation.amount;
      },
      correct: (amount) => {
        if (over) return;
        reservation.correct(amount);
        unstored.set(id, amount);
        this.#changed(key);
      },
      settle: (used) => {
        if (over) return;
        over = true;
        reservation.settle(used);
        unstored.set(id, undefined);
        this.#changed(key);
      },
    };
  }

  #of(key: string): KeyAccount {
    let account = this.#accounts.get(key);
    if (account === undefined) {
      const { now } = this.#options;
      account = { requests: new Account(now), tokens: new Account(now), unstored: new Map(), dirty: false };
      this.#accounts.set(key, account);
    }
    return account;
  }

  #changed(key: string): void {
    const account = this.#of(key);
    account.dirty = true;
    if (this.#closed) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const dirty = [...this.#accounts].filter(([, { dirty }]) => dirty).map(([key]) => key);
      this.#flush(dirty).catch((error) => this.#options.log.error("budgets are not stored", { error }));
    }, BUDGET_WRITE_INTERVAL_MS);
  }

  async #flush(keys: readonly string[]): Promise<void> {
    const changes: BudgetChange[] = [];
    for (const key of keys) {
      const account = this.#of(key);
      const { requests, tokens, unstored } = account;
      const changed = [...unstored];
      account.dirty = false;
      unstored.clear();
      if (!requests.limited && !tokens.limited) continue;
      changes.push({
        key,
        budgets: [...requests.kept(), ...tokens.kept()],
        reserved: changed.flatMap(([id, amount]) => amount === undefined ? [] : [{ id, amount }]),
        settled: changed.flatMap(([id, amount]) => amount === undefined ? [id] : []),
      });
    }
    if (changes.length === 0 || this.#closed) return;
    try {
      await this.#options.store.changeBudgets(changes);
    } catch (error) {
      this.#isUnstored(changes);
      throw error;
    }
  }

  /** They are stored with the next change. What has changed since goes before them. */
  #isUnstored(changes: readonly BudgetChange[]): void {
    for (const { key, reserved, settled } of changes) {
      const account = this.#of(key);
      const earlier: [string, number | undefined][] = [
        ...reserved.map(({ id, amount }) => [id, amount] as [string, number]),
        ...settled.map((id) => [id, undefined] as [string, undefined]),
      ];
      for (const [id, amount] of earlier) if (!account.unstored.has(id)) account.unstored.set(id, amount);
      account.dirty = true;
    }
  }
}

function limitsOf(limits: KeyLimits, names: readonly LimitName[]): Limit[] {
  return names.flatMap((name) => {
    const size = limits[name];
    if (size === undefined) return [];
    return [{ name, size, periodMs: name === "tokens_per_day" ? DAY_MS : MINUTE_MS }];
  });
}

const UNITS: Readonly<Record<LimitName, [what: string, period: string]>> = {
  requests_per_minute: ["requests", "minute"],
  tokens_per_minute: ["tokens", "minute"],
  tokens_per_day: ["tokens", "day"],
};

function refusal(key: string, { limit, asked, used, held, waitMs, freedByEnds }: Shortage): RbeeError {
  const [what, period] = UNITS[limit.name];
  const details = {
    limit: limit.name,
    budget: limit.size,
    asked: Math.ceil(asked),
    used: Math.ceil(used),
    reserved: Math.ceil(held),
  };
  if (waitMs === Infinity) {
    const budget = `the whole budget of the key ${key} is ${count(limit.size)} a ${period}`;
    const message = `may take ${count(asked)} ${what}, and ${budget}`;
    return new RbeeError(
      "INVALID_REQUEST",
      `The request ${message}, so it can never run. Send a shorter prompt, or ask for fewer tokens (max_tokens).`,
      { details: { ...details, errors: [{ field: "max_tokens", constraint: "too_big", message }] } },
    );
  }
  const waitS = Math.max(1, Math.ceil(waitMs / 1000));
  // Where time alone does not bring enough, all depends on what runs; mostly that takes far less than it may.
  const comesByItself = held + asked <= limit.size;
  const retryAfterSeconds = !freedByEnds
    ? waitS
    : comesByItself
    ? Math.min(waitS, RETRY_AFTER_RUNNING_S)
    : RETRY_AFTER_RUNNING_S;
  const running = held === 0 ? "" : ` and its running requests have reserved ${count(held)}`;
  const wanted = what === "tokens" ? `; this request may take ${count(asked)}` : "";
  const budget = `${count(limit.size)} ${what} a ${period}`;
  const when = freedByEnds
    ? "There will be enough when those have ended."
    : `There will be enough in ${spanOf(waitS)}.`;
  return new RbeeError(
    "RATE_LIMITED",
    `The key ${key} has used ${count(used)} of its ${budget}${running}${wanted}. ${when}`,
    { retryAfterSeconds, details },
  );
}

function count(amount: number): string {
  return Math.ceil(amount - 1e-6).toLocaleString("en-US");
}

/** `45 s`, `3 min`, `2 h 5 min`. */
function spanOf(seconds: number): string {
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.ceil(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h${minutes % 60 === 0 ? "" : ` ${minutes % 60} min`}`;
}
