/** SQLite as every part opens it: private file, WAL, versioned migrations. */
import { DatabaseSync } from "node:sqlite";
import { RbeeError } from "../protocol/errors.ts";
import { PRIVATE_FILE_MODE } from "./paths.ts";

/** How long a writer waits for another process's transaction. */
const BUSY_TIMEOUT_MS = 5_000;
/** Pause between two tries to switch a new file to WAL. */
const WAL_RETRY_MS = 5;

/**
 * Opens (and creates) a database and brings it up to date. `migrations[i]` lifts version `i` to `i + 1`; they are
 * never edited once released, only appended to. Blocks for at most {@linkcode BUSY_TIMEOUT_MS}.
 *
 * @throws {RbeeError} `INTERNAL` naming the file, when it is no database, or was written by a newer version.
 */
export function openDatabase(path: string, migrations: readonly string[]): DatabaseSync {
  // SQLite creates files by umask; making it first keeps keys from other eyes. WAL files inherit the mode.
  Deno.openSync(path, { create: true, write: true, mode: PRIVATE_FILE_MODE }).close();
  const database = new DatabaseSync(path);
  try {
    database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    enterWal(database);
    database.exec("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON");
    migrate(database, { path, migrations });
    return database;
  } catch (error) {
    database.close();
    if (error instanceof RbeeError) throw error;
    throw new RbeeError(
      "INTERNAL",
      `Cannot open the database ${path}: ${
        (error as Error).message
      }. If it is damaged, move it away to start anew.`,
      { cause: error },
    );
  }
}

/** SQLite heeds no busy timeout while it changes the journal mode, and several programs may create one file. */
function enterWal(database: DatabaseSync): void {
  const deadlineMs = performance.now() + BUSY_TIMEOUT_MS;
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    try {
      database.exec("PRAGMA journal_mode = WAL");
      return;
    } catch (error) {
      const locked = error instanceof Error && error.message.includes("locked");
      if (!locked || performance.now() > deadlineMs) throw error;
      Atomics.wait(pause, 0, 0, WAL_RETRY_MS);
    }
  }
}

function migrate(database: DatabaseSync, target: { path: string; migrations: readonly string[] }): void {
  const { path, migrations } = target;
  if (versionOf(database) === migrations.length) return;
  transaction(database, () => {
    const version = versionOf(database);
    if (version > migrations.length) {
      throw new RbeeError(
        "INTERNAL",
        `${path} was written by a newer rbee (schema ${version}, known ${migrations.length}). Upgrade this one.`,
      );
    }
    for (const step of migrations.slice(version)) database.exec(step);
    database.exec(`PRAGMA user_version = ${migrations.length}`);
  });
}

/** Runs `work` in one immediate transaction; rolls back when it throws. */
export function transaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec("BEGIN IMMEDIATE");
  try {
    const result = work();
    database.exec("COMMIT");
    return result;
  } catch (error) {
    // Some failures (a full disk) have ended it already; the reason must not be lost over that.
    if (database.isTransaction) database.exec("ROLLBACK");
    throw error;
  }
}

function versionOf(database: DatabaseSync): number {
  return Number(database.prepare("PRAGMA user_version").get()?.user_version);
}
