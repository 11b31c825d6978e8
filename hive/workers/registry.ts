/** The worker registry on disk (`hive.db`): what a restarted hive needs to find its workers again. */
import type { DatabaseSync } from "node:sqlite";
import { LOADS_TABLE } from "./load_history.ts";
import { transaction } from "../../home/database.ts";
import type { BackendName } from "../../protocol/spawn_request.ts";

/** Everything that outlives the hive about one worker. */
export interface WorkerRecord {
  /** Chosen by the hive. */
  id: string;
  /** Of its process and process group. */
  pid: number;
  /** Boot and start time of the process: with the pid it names one process for good. Empty until it is known. */
  identity: string;
  /** As the worker announced it; null until it called back. */
  url: string | null;
  /** The worker's own key. */
  apiKey: string;
  /** Normal form of the reference. */
  modelRef: string;
  /** The file that is loaded. */
  modelPath: string;
  /** What it runs on. */
  backend: BackendName;
  /** Counted within the backend. */
  device: number;
  /** Requests at the same time. */
  slots: number;
  /** Tokens per slot. */
  ctxSize: number;
  /** Memory it was expected to take by its file alone, in MB; 0: not known. */
  expectedMb: number;
  /** Memory that preflight asked for, in MB. */
  requiredMb: number;
  /** RAM that it may take once it is loaded, in MB, see `loadedPlanMb` of memory_limit.ts; 0: not known yet. */
  planMb: number;
  /** Seconds without a request until it goes; 0 = never. */
  idleTimeoutSeconds: number;
  /** Never evicted. */
  pinned: boolean;
  /** Start of its process. */
  startedUnix: number;
  /** Its stdout and stderr. */
  logPath: string;
}

/** Schema steps of `hive.db`; only ever appended to. */
export const HIVE_MIGRATIONS: readonly string[] = [
  `CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    pid INTEGER NOT NULL,
    identity TEXT NOT NULL,
    url TEXT,
    api_key TEXT NOT NULL,
    model_ref TEXT NOT NULL,
    model_path TEXT NOT NULL,
    backend TEXT NOT NULL,
    device INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    ctx_size INTEGER NOT NULL,
    required_mb REAL NOT NULL,
    idle_timeout_seconds REAL NOT NULL,
    started_unix INTEGER NOT NULL,
    log_path TEXT NOT NULL
  ) STRICT`,
  `ALTER TABLE workers ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE workers ADD COLUMN expected_mb REAL NOT NULL DEFAULT 0;
  ${LOADS_TABLE}`,
  "ALTER TABLE workers ADD COLUMN plan_mb REAL NOT NULL DEFAULT 0",
];

/** The rows of the workers that may be alive. Every call blocks for one small SQLite statement. */
export class WorkerRegistry {
  readonly #database: DatabaseSync;

  /** `database` was opened with {@linkcode HIVE_MIGRATIONS} and stays its owner's to close. */
  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** Adds a worker, or writes what changed about it. */
  save(record: WorkerRecord): void {
    this.#database.prepare(
      `INSERT OR REPLACE INTO workers (id, pid, identity, url, api_key, model_ref, model_path, backend, device,
        slots, ctx_size, required_mb, idle_timeout_seconds, started_unix, log_path, pinned,
        expected_mb, plan_mb)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ).run(
      record.id,
      record.pid,
      record.identity,
      record.url,
      record.apiKey,
      record.modelRef,
      record.modelPath,
      record.backend,
      record.device,
      record.slots,
      record.ctxSize,
      record.requiredMb,
      record.idleTimeoutSeconds,
      record.startedUnix,
      record.logPath,
      record.pinned ? 1 : 0,
      record.expectedMb,
      record.planMb,
    );
  }

  /** Forgets a worker; without effect when it is not there. */
  delete(id: string): void {
    this.#database.prepare("DELETE FROM workers WHERE id = ?").run(id);
  }

  /** These rows and no others, or what was there before. */
  replaceAll(records: readonly WorkerRecord[]): void {
    transaction(this.#database, () => {
      this.#database.exec("DELETE FROM workers");
      for (const record of records) this.save(record);
    });
  }

  /** All rows, oldest first. */
  all(): WorkerRecord[] {
    const rows = this.#database.prepare("SELECT * FROM workers ORDER BY started_unix, id").all();
    return rows.map((row) => ({
      id: String(row.id),
      pid: Number(row.pid),
      identity: String(row.identity),
      url: row.url === null ? null : String(row.url),
      apiKey: String(row.api_key),
      modelRef: String(row.model_ref),
      modelPath: String(row.model_path),
      // Only this program writes the file.
      backend: String(row.backend) as BackendName,
      device: Number(row.device),
      slots: Number(row.slots),
      ctxSize: Number(row.ctx_size),
      requiredMb: Number(row.required_mb),
      idleTimeoutSeconds: Number(row.idle_timeout_seconds),
      startedUnix: Number(row.started_unix),
      logPath: String(row.log_path),
      pinned: row.pinned === 1,
      expectedMb: Number(row.expected_mb),
      planMb: Number(row.plan_mb),
    }));
  }
}
