/** The hive's databases: what is in them can be found out again, and the event loop may not wait for them. */
import { basename } from "@std/path";
import type { DatabaseSync } from "node:sqlite";
import type { Logger } from "../daemon/log.ts";
import { openOrBegin } from "../home/database.ts";
import { DATABASE_BUSY_TIMEOUT_MS } from "./limits.ts";

/**
 * Opens a database, or begins a new one when it is damaged, and says so.
 *
 * @returns it, and whether there was none that could be used.
 * @throws as {@linkcode openOrBegin}.
 */
export function openHiveDatabase(
  path: string,
  options: { migrations: readonly string[]; log: Logger },
): { database: DatabaseSync; isNew: boolean } {
  const { database, origin } = openOrBegin(path, options.migrations);
  database.exec(`PRAGMA busy_timeout = ${DATABASE_BUSY_TIMEOUT_MS}`);
  if (origin.name === "damaged") {
    options.log.error(`${basename(path)} was damaged: beginning a new one`, { ...origin });
  }
  return { database, isNew: origin.name !== "found" };
}
