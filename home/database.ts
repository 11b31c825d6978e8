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
 * @throws {RbeeError} `INTERNAL` naming the file, when it is no database, is damaged, cannot be written, or was written
 * by a newer version.
 */
export function openDatabase(path: string, migrations: readonly string[]): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    // SQLite creates files by umask; making it first keeps keys from other eyes. WAL files inherit the mode.
    Deno.openSync(path, { create: true, write: true, mode: PRIVATE_FILE_MODE }).close();
    database = new DatabaseSync(path);
    database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
    enterWal(database);
    database.exec("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON");
    migrate(database, { path, migrations });
    return database;
  } catch (error) {
    database?.close();
    if (error instanceof RbeeError) throw error;
    throw new RbeeError(
      "INTERNAL",
      `Cannot open the database ${path}: ${(error as Error).message}. ${remedyOf(error as Error)}`,
      { cause: error },
    );
  }
}

/** One that lasts as long as it is open. */
export function openInMemory(migrations: readonly string[]): DatabaseSync {
  const database = new DatabaseSync(":memory:");
  migrate(database, { path: "memory", migrations });
  return database;
}

/** How a database came to be there: it was, it is new, or it is new because the old one was damaged. */
export type DatabaseOrigin = { name: "found" } | { name: "new" } | {
  name: "damaged";
  movedTo: string;
  error: unknown;
};

/**
 * The same for what can be found out again: a damaged file is moved aside, over an earlier such one, and a new one
 * begun.
 *
 * @throws {RbeeError} as {@linkcode openDatabase}, for all else that is wrong.
 */
export function openOrBegin(
  path: string,
  migrations: readonly string[],
): { database: DatabaseSync; origin: DatabaseOrigin } {
  const isNew = !exists(path);
  let damage: unknown;
  try {
    const database = openDatabase(path, migrations);
    damage = complaintOf(database);
    if (damage === undefined) return { database, origin: { name: isNew ? "new" : "found" } };
    database.close();
  } catch (error) {
    if (!isDamage(error)) throw error;
    damage = error;
  }
  const movedTo = `${path}.damaged`;
  for (const suffix of ["", "-wal", "-shm"]) {
    if (exists(path + suffix)) Deno.renameSync(path + suffix, movedTo + suffix);
  }
  return { database: openDatabase(path, migrations), origin: { name: "damaged", movedTo, error: damage } };
}

/** What stands in the way of looking will stand in the way of opening, too, and is told there. */
function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** What SQLite finds wrong with the content, if anything. */
function complaintOf(database: DatabaseSync): Error | undefined {
  try {
    const complaint = String(database.prepare("PRAGMA quick_check(1)").get()?.quick_check);
    return complaint === "ok" ? undefined : new Error(complaint);
  } catch (error) {
    if (isDamage(error)) return error as Error;
    throw error;
  }
}

/** SQLite's words for content that is none of its own or was changed by others; not every error brings its code. */
const DAMAGE = /malformed|not a database/;

function isDamage(error: unknown): boolean {
  const own = error instanceof RbeeError ? error.cause : error;
  return own instanceof Error && DAMAGE.test(own.message);
}

const REMEDIES: [problem: RegExp, remedy: string][] = [
  [DAMAGE, "It is damaged: move it away to start anew."],
  [/locked/, "Another program holds it: close that and try again."],
  [/full/, "Make room on the disk and try again."],
];

function remedyOf(error: Error): string {
  const known = REMEDIES.find(([problem]) => problem.test(error.message));
  return known?.[1] ?? "See to it that this user can read and write the file, its folder and its disk.";
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
