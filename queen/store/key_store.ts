/** What outlives a queen of its keys: those that were added while it ran, what each has left, and what it has used. */
import type { KeptBudget } from "../budgets.ts";

/** A key that was added by way of the interface. Its secret is not kept. */
export interface StoredKey {
  readonly name: string;
  /** SHA-256 of the key, in hexadecimal. */
  readonly hash: string;
  /** JSON of its settings, as the configuration has them. */
  readonly settings: string;
  readonly createdMs: number;
  /** When its present secret was made. */
  readonly rotatedMs: number;
}

/** What a request under way has reserved. */
export interface StoredReservation {
  readonly id: string;
  readonly key: string;
  readonly amount: number;
}

/** A change of one key's budgets; written as one. */
export interface BudgetChange {
  readonly key: string;
  readonly budgets: readonly KeptBudget[];
  /** Made or corrected. */
  readonly reserved: readonly { id: string; amount: number }[];
  /** Over. */
  readonly settled: readonly string[];
}

/** What a key has used of a model on one day. */
export interface Usage {
  readonly key: string;
  readonly model: string;
  /** `YYYY-MM-DD`, UTC. */
  readonly day: string;
  readonly requests: number;
  /** Prompt tokens, cached ones included. */
  readonly read: number;
  /** Of these, the ones whose state a worker still had. */
  readonly cached: number;
  readonly made: number;
  /** That workers had its requests. */
  readonly seconds: number;
}

/** See above. Everything that resolves has happened for good. */
export interface KeyStore {
  keys(): Promise<StoredKey[]>;
  /** Adds a key, or changes the one of that name. */
  putKey(key: StoredKey): Promise<void>;
  /** Whether there was one. */
  removeKey(name: string): Promise<boolean>;

  budgets(): Promise<(KeptBudget & { key: string })[]>;
  reservations(): Promise<StoredReservation[]>;
  changeBudgets(changes: readonly BudgetChange[]): Promise<void>;
  /** Forgets budgets that were not touched since then. */
  pruneBudgets(beforeMs: number): Promise<void>;

  /** Adds to what is counted. */
  addUsage(usage: readonly Usage[]): Promise<void>;
  /** All of these, by day, key and model. */
  usage(of: { key?: string; fromDay: string; toDay: string }): Promise<Usage[]>;
  /** Forgets days before this one. */
  pruneUsage(beforeDay: string): Promise<void>;
}
