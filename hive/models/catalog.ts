/** The catalog: which models this machine has (SPEC §6). Rows only; whether they are true is its user's business. */
import { join } from "@std/path";
import { createHash } from "node:crypto";
import type { DatabaseSync, SQLOutputValue } from "node:sqlite";
import type { Logger } from "../../daemon/log.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { openHiveDatabase } from "../database.ts";
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
  // recorded_sha256: JSON, one digest for each part, of files that nothing else vouches for.
  `ALTER TABLE models ADD COLUMN last_used_at_unix INTEGER;
   ALTER TABLE models ADD COLUMN verified_at_unix INTEGER;
   ALTER TABLE models ADD COLUMN recorded_sha256 TEXT NOT NULL DEFAULT '[]'`,
  // resumed: hives that have taken it up again.
  `CREATE TABLE running_downloads (reference TEXT PRIMARY KEY, resumed INTEGER NOT NULL DEFAULT 0) STRICT`,
];

/** What a model is when it enters the catalog. */
export type NewModel = Omit<CatalogModel, "id" | "last_used_at_unix" | "verified_at_unix">;

/** Of a new row and the one it replaces: the files are, as far as one can tell, the same. */
const SAME_FILE = `models.revision IS excluded.revision AND models.size_bytes = excluded.size_bytes AND
  (models.sha256 IS NULL OR models.sha256 IS excluded.sha256)`;

/** `models.db`. Every call blocks for the time of one small SQLite statement. */
export class Catalog {
  readonly #database: DatabaseSync;

  /** Opens or creates the database in `home`, which must exist. A damaged one is replaced: the files tell most of it. */
  constructor(home: string, log: Logger) {
    this.#database = openHiveDatabase(join(home, "models.db"), { migrations: MIGRATIONS, log }).database;
  }

  /** The row of a reference in its normal form. */
  get(reference: string): CatalogModel | undefined {
    const row = this.#open.prepare("SELECT * FROM models WHERE reference = ?").get(reference);
    return row === undefined ? undefined : modelOf(row);
  }

  /** All rows, oldest first. */
  all(): CatalogModel[] {
    const rows = this.#open.prepare("SELECT * FROM models ORDER BY downloaded_at_unix, reference").all();
    return rows.map(modelOf);
  }

  /**
   * Adds a row or replaces the one of the same reference. The id stays the same for the same reference, and what is
   * known of the same file's use and digests stays too.
   */
  put(model: NewModel): CatalogModel {
    const values = {
      id: idOf(model.reference),
      provider: model.provider,
      reference: model.reference,
      revision: model.revision,
      local_path: model.local_path,
      size_bytes: model.size_bytes,
      sha256: model.sha256,
      downloaded_at_unix: model.downloaded_at_unix,
      companions: JSON.stringify(model.companions),
    };
    const row = this.#open.prepare(
      `INSERT INTO models
        (id, provider, reference, revision, local_path, size_bytes, sha256, downloaded_at_unix, companions)
        VALUES (:id, :provider, :reference, :revision, :local_path, :size_bytes, :sha256, :downloaded_at_unix,
          :companions)
        ON CONFLICT (reference) DO UPDATE SET
          last_used_at_unix = iif(${SAME_FILE}, models.last_used_at_unix, NULL),
          verified_at_unix = iif(${SAME_FILE}, models.verified_at_unix, NULL),
          recorded_sha256 = iif(${SAME_FILE}, models.recorded_sha256, '[]'),
          revision = excluded.revision, local_path = excluded.local_path, size_bytes = excluded.size_bytes,
          sha256 = excluded.sha256, downloaded_at_unix = excluded.downloaded_at_unix,
          companions = excluded.companions
        RETURNING *`,
    ).get(values);
    return modelOf(row!);
  }

  /** Notes that the model at this path is used now, under all of its names. */
  used(localPath: string, atUnix: number): void {
    this.#open.prepare("UPDATE models SET last_used_at_unix = ? WHERE local_path = ?").run(
      atUnix,
      localPath,
    );
  }

  /** The digests that the first verification of a model found, part by part; none before it. */
  recordedDigests(reference: string): string[] {
    const row = this.#open.prepare("SELECT recorded_sha256 FROM models WHERE reference = ?").get(
      reference,
    );
    return row === undefined ? [] : JSON.parse(String(row.recorded_sha256));
  }

  /** Notes a verification; `digests`, when given, are what later ones compare with. */
  verified(
    reference: string,
    found: { atUnix: number; sha256: string | null; digests?: readonly string[] },
  ): void {
    const { atUnix, sha256, digests } = found;
    this.#open.prepare(
      `UPDATE models SET verified_at_unix = ?, sha256 = coalesce(sha256, ?),
        recorded_sha256 = coalesce(?, recorded_sha256) WHERE reference = ?`,
    ).run(atUnix, sha256, digests === undefined ? null : JSON.stringify(digests), reference);
  }

  /** Removes the row of a reference, if there is one. */
  delete(reference: string): void {
    this.#open.prepare("DELETE FROM models WHERE reference = ?").run(reference);
  }

  /** Notes that a download of this reference runs. */
  downloadBegan(reference: string): void {
    this.#open.prepare("INSERT OR IGNORE INTO running_downloads (reference) VALUES (?)").run(reference);
  }

  /** Notes that it has come to its end, whichever. */
  downloadEnded(reference: string): void {
    this.#open.prepare("DELETE FROM running_downloads WHERE reference = ?").run(reference);
  }

  /** Notes that hives live through the attempts at this download. */
  downloadIsHarmless(reference: string): void {
    this.#open.prepare("UPDATE running_downloads SET resumed = 0 WHERE reference = ?").run(reference);
  }

  /**
   * Downloads that an earlier hive has not brought to their end. Each counts as resumed now; one that has been
   * `maxResumed` times is forgotten: perhaps it is what ends the hives.
   */
  takeUpDownloads({ maxResumed }: { maxResumed: number }): string[] {
    this.#open.prepare("DELETE FROM running_downloads WHERE resumed >= ?").run(maxResumed);
    const rows = this.#open.prepare(
      "UPDATE running_downloads SET resumed = resumed + 1 RETURNING reference",
    ).all();
    return rows.map(({ reference }) => String(reference));
  }

  /** Closes the database. Later calls throw `SHUTTING_DOWN`. */
  close(): void {
    this.#database.close();
  }

  get #open(): DatabaseSync {
    if (this.#database.isOpen) return this.#database;
    throw new RbeeError("SHUTTING_DOWN", "The hive is shutting down. Try again later.");
  }
}

function modelOf(row: Record<string, SQLOutputValue>): CatalogModel {
  return CatalogModel.parse({ ...row, companions: JSON.parse(String(row.companions)) });
}

const ID_HEX_DIGITS = 16;

function idOf(reference: string): string {
  return createHash("sha256").update(reference).digest("hex").slice(0, ID_HEX_DIGITS);
}
