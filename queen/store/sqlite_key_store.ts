/** The embedded {@linkcode KeyStore}: tables of the queen's SQLite file, written in the same transactions as its tasks. */
import type { LimitName } from "../budgets.ts";
import type { BudgetChange, KeyStore, StoredKey, StoredReservation, Usage } from "./key_store.ts";

/** The schema step that makes its tables. */
export const KEY_TABLES = `CREATE TABLE keys (
    name TEXT PRIMARY KEY,
    hash TEXT NOT NULL,
    settings TEXT NOT NULL,
    created_ms REAL NOT NULL,
    rotated_ms REAL NOT NULL
  ) STRICT;
  CREATE TABLE budgets (
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    used REAL NOT NULL,
    at_ms REAL NOT NULL,
    PRIMARY KEY (key, name)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE reservations (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    amount REAL NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE usage (
    day TEXT NOT NULL,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    read INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    made INTEGER NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (day, key, model)
  ) STRICT, WITHOUT ROWID`;

type Value = string | number | Uint8Array | null;
type Row = Record<string, unknown>;

/** How statements reach the file. */
export interface Access {
  /** Runs `work` with all other writes of this turn. */
  write(work: () => void): Promise<void>;
  /** Only within `write`. Resolves to the number of rows that changed. */
  run(sql: string, ...values: Value[]): number;
  all(sql: string, ...values: Value[]): Row[];
}

/** See above. */
export class SqliteKeyStore implements KeyStore {
  readonly #file: Access;

  /** The tables must be there. */
  constructor(file: Access) {
    this.#file = file;
  }

  keys(): Promise<StoredKey[]> {
    return Promise.resolve(
      this.#file.all("SELECT * FROM keys ORDER BY name").map((row) => ({
        name: String(row.name),
        hash: String(row.hash),
        settings: String(row.settings),
        createdMs: Number(row.created_ms),
        rotatedMs: Number(row.rotated_ms),
      })),
    );
  }

  putKey({ name, hash, settings, createdMs, rotatedMs }: StoredKey): Promise<void> {
    return this.#file.write(() => {
      const sql = "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?)";
      this.#file.run(sql, name, hash, settings, createdMs, rotatedMs);
    });
  }

  async removeKey(name: string): Promise<boolean> {
    let removed = 0;
    await this.#file.write(() => {
      removed = this.#file.run("DELETE FROM keys WHERE name = ?", name);
    });
    return removed > 0;
  }

  budgets(): ReturnType<KeyStore["budgets"]> {
    return Promise.resolve(
      this.#file.all("SELECT * FROM budgets").map((row) => ({
        key: String(row.key),
        name: String(row.name) as LimitName,
        used: Number(row.used),
        atMs: Number(row.at_ms),
      })),
    );
  }

  reservations(): Promise<StoredReservation[]> {
    return Promise.resolve(
      this.#file.all("SELECT * FROM reservations").map((row) => ({
        id: String(row.id),
        key: String(row.key),
        amount: Number(row.amount),
      })),
    );
  }

  changeBudgets(changes: readonly BudgetChange[]): Promise<void> {
    return this.#file.write(() => {
      for (const { key, budgets, reserved, settled } of changes) {
        for (const { name, used, atMs } of budgets) {
          this.#file.run("INSERT OR REPLACE INTO budgets VALUES (?, ?, ?, ?)", key, name, used, atMs);
        }
        for (const { id, amount } of reserved) {
          this.#file.run("INSERT OR REPLACE INTO reservations VALUES (?, ?, ?)", id, key, amount);
        }
        for (const id of settled) this.#file.run("DELETE FROM reservations WHERE id = ?", id);
      }
    });
  }

  pruneBudgets(beforeMs: number): Promise<void> {
    return this.#file.write(() => void this.#file.run("DELETE FROM budgets WHERE at_ms < ?", beforeMs));
  }

  addUsage(usage: readonly Usage[]): Promise<void> {
    return this.#file.write(() => {
      for (const { day, key, model, requests, read, cached, made, seconds } of usage) {
        this.#file.run(
          `INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (day, key, model) DO UPDATE SET
            requests = requests + excluded.requests, read = read + excluded.read,
            cached = cached + excluded.cached, made = made + excluded.made,
            seconds = seconds + excluded.seconds`,
          ...[day, key, model, requests, read, cached, made, seconds],
        );
      }
    });
  }

  usage({ key, fromDay, toDay }: { key?: string; fromDay: string; toDay: string }): Promise<Usage[]> {
    const rows = this.#file.all(
      "SELECT * FROM usage WHERE day >= ? AND day <= ? AND key = coalesce(?, key) ORDER BY day, key, model",
      ...[fromDay, toDay, key ?? null],
    );
    return Promise.resolve(rows.map((row) => ({
      ...{ day: String(row.day), key: String(row.key), model: String(row.model) },
      ...{ requests: Number(row.requests), read: Number(row.read), cached: Number(row.cached) },
      ...{ made: Number(row.made), seconds: Number(row.seconds) },
    })));
  }

  pruneUsage(beforeDay: string): Promise<void> {
    return this.#file.write(() => void this.#file.run("DELETE FROM usage WHERE day < ?", beforeDay));
  }
}
