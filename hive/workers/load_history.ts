/** What loads of models really took (`hive.db`), so that the next estimate is a better one. */
import type { Logger } from "../../daemon/log.ts";
import type { DatabaseSync } from "node:sqlite";
import type { PastLoad } from "../../protocol/hive_schemas.ts";
import type { BackendName } from "../../protocol/spawn_request.ts";
import { LOAD_HISTORY_MAX } from "../limits.ts";
import type { SpawnPlan } from "./preflight.ts";

/** How a model was loaded: what decides what it takes. */
export type LoadKey = Pick<SpawnPlan, "modelPath" | "modelRef" | "backend" | "slots" | "ctxSize">;

/** What a load was expected to take and what it took, in MB. */
export interface LoadFigures {
  /** By the model's file alone. */
  expectedMb: number;
  /** What preflight asked for. */
  predictedMb: number;
  /** As the worker reported. */
  actualMb: number;
}

/** Schema of the history; a step of the migrations of `hive.db`. */
export const LOADS_TABLE = `CREATE TABLE loads (
  model_path TEXT NOT NULL,
  backend TEXT NOT NULL,
  slots INTEGER NOT NULL,
  ctx_size INTEGER NOT NULL,
  model_ref TEXT NOT NULL,
  expected_mb REAL NOT NULL,
  predicted_mb REAL NOT NULL,
  actual_mb REAL NOT NULL,
  last_unix INTEGER NOT NULL,
  PRIMARY KEY (model_path, backend, slots, ctx_size)
) STRICT`;

/**
 * The last load of each model with each set of options. Every call blocks for one small SQLite statement and never
 * throws: without its experience a hive estimates as well as it can.
 */
export class LoadHistory {
  readonly #database: DatabaseSync;
  readonly #log: Logger;

  /** `database` has {@linkcode LOADS_TABLE} and stays its owner's to close. */
  constructor(database: DatabaseSync, log: Logger) {
    this.#database = database;
    this.#log = log;
  }

  /** Takes the place of what was known of the same load; the oldest are forgotten. */
  note(key: LoadKey, figures: LoadFigures & { nowUnix: number }): void {
    this.#try(undefined, () => this.#note(key, figures));
  }

  #note(key: LoadKey, figures: LoadFigures & { nowUnix: number }): void {
    this.#database.prepare(
      `INSERT OR REPLACE INTO loads (model_path, backend, slots, ctx_size, model_ref, expected_mb, predicted_mb,
        actual_mb, last_unix) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ).run(
      key.modelPath,
      key.backend,
      key.slots,
      key.ctxSize,
      key.modelRef,
      figures.expectedMb,
      figures.predictedMb,
      figures.actualMb,
      figures.nowUnix,
    );
    this.#database.prepare(
      `DELETE FROM loads WHERE rowid NOT IN (SELECT rowid FROM loads ORDER BY last_unix DESC LIMIT ?)`,
    ).run(LOAD_HISTORY_MAX);
  }

  /**
   * MB to add to the estimate of such a load: by what the same load took last time, else by the last one of the same
   * model on the same backend, else 0. What differs between two sets of options is in the estimate already.
   */
  correctionMb(key: LoadKey): number {
    const row = this.#try(undefined, () =>
      this.#database.prepare(
        `SELECT actual_mb - expected_mb AS correction FROM loads WHERE model_path = ? AND backend = ?
        ORDER BY slots = ? AND ctx_size = ? DESC, last_unix DESC LIMIT 1`,
      ).get(key.modelPath, key.backend, key.slots, key.ctxSize));
    return Number(row?.correction ?? 0);
  }

  /** The latest loads, at most `limit`. */
  latest(limit: number): PastLoad[] {
    const all = () =>
      this.#database.prepare("SELECT * FROM loads ORDER BY last_unix DESC LIMIT ?").all(limit);
    const rows = this.#try([], all);
    return rows.map((row) => ({
      model_ref: String(row.model_ref),
      // Only this program writes the file.
      backend: String(row.backend) as BackendName,
      slots: Number(row.slots),
      ctx_size: Number(row.ctx_size),
      predicted_mb: Number(row.predicted_mb),
      actual_mb: Number(row.actual_mb),
      last_unix: Number(row.last_unix),
    }));
  }

  #try<T>(otherwise: T, work: () => T): T {
    try {
      return work();
    } catch (error) {
      this.#log.error("load history cannot be used", { error });
      return otherwise;
    }
  }
}
