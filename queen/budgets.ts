/**
 * How much a key may still take. What a request may take is reserved before it runs and settled when it has ended,
 * however that was: what is used and what is reserved never exceed the budget together, so that no number of requests at
 * once, and no way of ending them, gets more than the budget. Pure: the clock is handed in, and storage is somebody
 * else's business.
 */

/** What a budget is called, in configurations, errors and the store. */
export type LimitName = "requests_per_minute" | "tokens_per_minute" | "tokens_per_day";

/** An amount that comes back evenly over a period. */
export interface Limit {
  readonly name: LimitName;
  readonly size: number;
  readonly periodMs: number;
}

/** A budget as it is stored. `used` decreases from `atMs` on by the limit's own rate. */
export interface KeptBudget {
  readonly name: LimitName;
  readonly used: number;
  readonly atMs: number;
}

/** Why something can't be reserved now. */
export interface Shortage {
  readonly limit: Limit;
  readonly asked: number;
  /** Of the limit, what counts as used at present. */
  readonly used: number;
  /** Of the limit, what requests under way have reserved. */
  readonly held: number;
  /** Milliseconds until there is enough if nothing ends before; `Infinity`: more is asked for than there ever is. */
  readonly waitMs: number;
  /** There would be enough if the requests under way had used nothing. */
  readonly freedByEnds: boolean;
}

/** What a request may take. */
export interface Reservation {
  readonly id: string;
  /** How much is set aside for it. */
  readonly amount: number;
  /** The request turns out to be larger or smaller than it seemed. Nothing happens once it is settled. */
  correct(amount: number): void;
  /** The request has ended and took so much. Idempotent: only the first call counts. */
  settle(used: number): void;
}

/** Rounding must not keep back what a client was told to wait for. */
const ROUNDING = 1e-6;

/** One limit of one key. */
class Budget {
  readonly limit: Limit;
  #used: number;
  #atMs: number;

  constructor(limit: Limit, kept: { used: number; atMs: number }) {
    this.limit = limit;
    this.#used = kept.used;
    this.#atMs = kept.atMs;
  }

  usedAt(nowMs: number): number {
    const { size, periodMs } = this.limit;
    // A clock that was set back gives nothing back until it has gone on from there.
    const passedMs = Math.max(0, nowMs - this.#atMs);
    this.#used = Math.max(0, this.#used - passedMs * size / periodMs);
    this.#atMs = nowMs;
    return this.#used;
  }

  use(amount: number, nowMs: number): void {
    this.#used = this.usedAt(nowMs) + amount;
  }

  shortage(asked: number, at: { held: number; nowMs: number }): Shortage | undefined {
    const { size, periodMs } = this.limit;
    const { held, nowMs } = at;
    const used = this.usedAt(nowMs);
    const missing = used + held + asked - size;
    if (missing <= ROUNDING) return undefined;
    const waitMs = asked > size
      ? Infinity
      // What is reserved does not come back by waiting: then the wait is for as much as there can be beside it.
      : Math.ceil(Math.min(missing, used) * periodMs / size);
    return { limit: this.limit, asked, used, held, waitMs, freedByEnds: used + asked - size <= ROUNDING };
  }

  kept(): KeptBudget {
    return { name: this.limit.name, used: this.#used, atMs: this.#atMs };
  }
}

/** Limits of one kind of one key, all of which a request must fit in. */
export class Account {
  readonly #now: () => number;
  readonly #held = new Map<string, number>();
  #heldSum = 0;
  #budgets: Budget[] = [];

  /** Nothing is limited yet. `now` is the wall clock, in ms: budgets outlive a process. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Sets the limits. What was used of one that stays is still used; of a new one it is what `kept` says. */
  limit(limits: readonly Limit[], kept: readonly KeptBudget[] = []): void {
    const known = new Map([...kept, ...this.kept()].map((budget) => [budget.name, budget]));
    const nowMs = this.#now();
    this.#budgets = limits.map((limit) =>
      new Budget(limit, known.get(limit.name) ?? { used: 0, atMs: nowMs })
    );
  }

  /** Whether anything is limited. */
  get limited(): boolean {
    return this.#budgets.length > 0;
  }

  /** Why so much can't be reserved now; undefined: it can. Of several reasons, the one that takes longest. */
  shortage(amount: number): Shortage | undefined {
    const at = { held: this.#heldSum, nowMs: this.#now() };
    let worst: Shortage | undefined;
    for (const budget of this.#budgets) {
      const shortage = budget.shortage(amount, at);
      if (shortage !== undefined && (worst === undefined || shortage.waitMs > worst.waitMs)) worst = shortage;
    }
    return worst;
  }

  /** Sets an amount aside, whether there is enough or not: ask {@linkcode shortage} first. */
  reserve(id: string, amount: number): Reservation {
    const setAside = (next: number | undefined) => {
      this.#heldSum += (next ?? 0) - (this.#held.get(id) ?? 0);
      if (next === undefined) this.#held.delete(id);
      else this.#held.set(id, next);
      // Sums of fractions drift.
      if (this.#held.size === 0) this.#heldSum = 0;
    };
    setAside(amount);
    let settled = false;
    return {
      id,
      get amount() {
        return amount;
      },
      correct: (corrected) => {
        if (settled) return;
        setAside(corrected);
        amount = corrected;
      },
      settle: (used) => {
        if (settled) return;
        settled = true;
        setAside(undefined);
        this.use(used);
      },
    };
  }

  /** Takes an amount at once. */
  use(amount: number): void {
    const nowMs = this.#now();
    for (const budget of this.#budgets) budget.use(amount, nowMs);
  }

  /** The smallest limit, and what can be reserved now; `Infinity`: nothing is limited. */
  get room(): { size: number; available: number } {
    const nowMs = this.#now();
    let [size, available] = [Infinity, Infinity];
    for (const budget of this.#budgets) {
      size = Math.min(size, budget.limit.size);
      available = Math.min(available, budget.limit.size - budget.usedAt(nowMs) - this.#heldSum);
    }
    return { size, available };
  }

  /** As it is to be stored; without what is reserved. */
  kept(): KeptBudget[] {
    return this.#budgets.map((budget) => budget.kept());
  }
}
