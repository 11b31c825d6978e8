/** The catalog: which models this machine has (SPEC §6). Rows only; whether they are true is its user's business. */
import { join } from "@std/path";
import { createHash } from "node:crypto";
import type { DatabaseSync, SQLOutputValue } from "node:sqlite";
import { openDatabase } from "../../home/database.ts";
import { CatalogModel } from "../../protocol/hive_schemas.ts";

const MIGRATIONS = [
  `CREATE TABLE models (
    id TEXT PRIMARY KEY,
    provider TEXT NOT NULL CHECK (provider IN ('hf', 'file', 'builtin')),
    reference TEXT NOT NULL UNIQUE,
    revision TEXT,
    local_path TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT,
    downloaded_at_unix INTEGER NOT NULL
  ) STRICT`,
  // JSON: a list of paths.
  "ALTER TABLE models ADD COLUMN companions TEXT NOT NULL DEFAULT '[]'",
];

/** `models.db`. Every call blocks for the time of one small SQLite statement. */
export class Catalog {
  readonly #database: DatabaseSync;

  /** Opens or creates the database in `home`, which must exist. */
  constructor(home: string) {
    this.#database = openDatabase(join(home, "models.db"), MIGRATIONS);
  }

  /** The row of a reference in its normal form. */
  get(reference: string): CatalogModel | undefined {
    const row = this.#database.prepare("SELECT * FROM models WHERE reference = ?").get(reference);
    return row === undefined ? undefined : modelOf(row);
  }

  /** All rows, oldest first. */
  all(): CatalogModel[] {
    const rows = this.#database.prepare("SELECT * FROM models ORDER BY downloaded_at_unix, reference").all();
    return rows.map(modelOf);
  }

  /** Adds a row or replaces the one of the same reference. The id stays the same for the same reference. */
  put(model: Omit<CatalogModel, "id">): CatalogModel {
    const row: CatalogModel = { id: idOf(model.reference), ...model };
    this.#database.prepare(
      `INSERT OR REPLACE INTO models
        (id, provider, reference, revision, local_path, size_bytes, sha256, downloaded_at_unix, companions)
        VALUES (:id, :provider, :reference, :revision, :local_path, :size_bytes, :sha256, :downloaded_at_unix,
          :companions)`,
    ).run({ ...row, companions: JSON.stringify(row.companions) });
    return row;
  }

  /** Removes the row of a reference, if there is one. */
  delete(reference: string): void {
    this.#database.prepare("DELETE FROM models WHERE reference = ?").run(reference);
  }

  /** Closes the database; nothing may follow. */
  close(): void {
    this.#database.close();
  }
}

function modelOf(row: Record<string, SQLOutputValue>): CatalogModel {
  return CatalogModel.parse({ ...row, companions: JSON.parse(String(row.companions)) });
}

const ID_HEX_DIGITS = 16;

function idOf(reference: string): string {
  return createHash("sha256").update(reference).digest("hex").slice(0, ID_HEX_DIGITS);
}
