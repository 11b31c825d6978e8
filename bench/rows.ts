/** All rows, in the order of the table. */
import type { Row } from "./row.ts";
import { ARCHIVE_ROWS } from "./rows_archive.ts";
import { DOWNLOAD_ROWS } from "./rows_download.ts";
import { GENERATION_ROWS } from "./rows_generation.ts";
import { HIVE_ROWS } from "./rows_hive.ts";
import { KEEPER_ROWS } from "./rows_keeper.ts";
import { LATENCY_ROWS } from "./rows_latency.ts";
import { PROCESS_ROWS } from "./rows_process.ts";
import { QUEEN_ROWS } from "./rows_queen.ts";
import { ROUTE_ROWS } from "./rows_routes.ts";

/** See the file's head. */
export const ROWS: readonly Row[] = [
  ...GENERATION_ROWS,
  ...LATENCY_ROWS,
  ...ROUTE_ROWS,
  ...PROCESS_ROWS,
  ...DOWNLOAD_ROWS,
  ...HIVE_ROWS,
  ...KEEPER_ROWS,
  ...QUEEN_ROWS,
  ...ARCHIVE_ROWS,
];

/** The rows of a list of names, `all` of them without one, and the names that no row has. */
export function rowsNamed(only?: string): { rows: Row[]; unknown: string[] } {
  const names = only?.split(",").map((name) => name.trim()).filter((name) => name !== "");
  return {
    rows: ROWS.filter(({ name }) => names === undefined || names.includes(name)),
    unknown: (names ?? []).filter((name) => !ROWS.some((row) => row.name === name)),
  };
}
