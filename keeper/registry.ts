/** The workers this person's keepers have used: `HOME/keeper.db`, shared by all keepers that run at the same time. */
import type { DatabaseSync, SQLInputValue } from "node:sqlite";
import { join } from "@std/path";
import { ensureHome } from "../home/paths.ts";
import { openInMemory, openOrBegin } from "../home/database.ts";
import type { SpawnRequest } from "../protocol/spawn_request.ts";
import { REGISTRY_KEEP_SECONDS } from "./limits.ts";

/** What the keeper knows of a worker: `ready` once it has loaded, `idle` once it has answered. */
export type RegisteredState = "loading" | "ready" | "idle";

/** A row. */
export interface RegisteredWorker {
  /** The hive's name for it. */
  id: string;
  /** The node's name as the person gave it. */
  node: string;
  /** Of the worker itself. */
  url: string;
  /** The worker's own key. */
  apiKey: string;
  /** Normal form. */
  modelRef: string;
  /** What it really runs on. */
  backend: string;
  /** Index within the backend. */
  device: number;
  state: RegisteredState;
  /** What was asked of the hive, defaults filled in. */
  requested: SpawnRequest;
  createdAtUnix: number;
  lastHealthCheckUnix: number;
}

/** What a worker must be like to be used. */
export interface WorkerWish {
  /** The node's name. */
  node: string;
  /** Model and options, defaults filled in. */
  request: SpawnRequest;
}

const MIGRATIONS = [
  `CREATE TABLE workers (
    id TEXT NOT NULL,
    node TEXT NOT NULL,
    url TEXT NOT NULL,
    model_ref TEXT NOT NULL,
    backend TEXT NOT NULL,
    device INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('loading', 'ready', 'idle')),
    created_at_unix INTEGER NOT NULL,
    last_health_check_unix INTEGER NOT NULL,
    api_key TEXT NOT NULL,
    requested TEXT NOT NULL,
    PRIMARY KEY (node, id)
  ) STRICT;
  CREATE INDEX workers_by_model ON workers (node, model_ref);`,
];

/** SQLite's words for a disk that takes nothing. */
const UNWRITABLE = /full|readonly|disk I\/O/;

/**
 * Opens the registry, creating it and the home folder when they are not there. It holds nothing that the hives do not
 * know: a damaged one is moved aside, and where none can be written (a full disk, a home that is not to be changed) this
 * one lasts as long as the command.
 */
export async function openRegistry(home: string): Promise<Registry> {
  try {
    await ensureHome(home);
    return new Registry(openOrBegin(join(home, "keeper.db"), MIGRATIONS).database);
  } catch {
    return new Registry(openInMemory(MIGRATIONS));
  }
}

/** See the file's comment. Every method is one statement and so safe beside other processes. */
export class Registry implements Disposable {
  readonly #database: DatabaseSync;

  /** Use {@linkcode openRegistry}. */
  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** Workers that fit, latest seen first. They must be probed before they are used. */
  candidates(wish: WorkerWish): RegisteredWorker[] {
    return this.list(wish.node)
      .filter((row) => row.modelRef === wish.request.model_ref && row.state !== "loading" && fits(row, wish));
  }

  /** All rows, or one node's, latest seen first. */
  list(node?: string): RegisteredWorker[] {
    return this.#database
      .prepare("SELECT * FROM workers WHERE ?1 IS NULL OR node = ?1 ORDER BY last_health_check_unix DESC, id")
      .all(node ?? null)
      .map(rowToWorker);
  }

  /** Adds a worker or replaces what was known of it; forgets workers not seen for a week. */
  save(worker: RegisteredWorker): void {
    this.#note(
      "DELETE FROM workers WHERE last_health_check_unix < ?",
      worker.lastHealthCheckUnix - REGISTRY_KEEP_SECONDS,
    );
    this.#note(
      `INSERT INTO workers (id, node, url, model_ref, backend, device, state, created_at_unix,
        last_health_check_unix, api_key, requested) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT (node, id) DO UPDATE SET url = excluded.url, model_ref = excluded.model_ref,
        backend = excluded.backend, device = excluded.device, state = excluded.state,
        last_health_check_unix = excluded.last_health_check_unix, api_key = excluded.api_key,
        requested = excluded.requested`,
      worker.id,
      worker.node,
      worker.url,
      worker.modelRef,
      worker.backend,
      worker.device,
      worker.state,
      worker.createdAtUnix,
      worker.lastHealthCheckUnix,
      worker.apiKey,
      JSON.stringify(worker.requested),
    );
  }

  /** Notes that a worker was just seen well. A row that another keeper dropped meanwhile stays dropped. */
  seen(worker: { node: string; id: string }, state: RegisteredState): void {
    this.#note(
      "UPDATE workers SET state = ?, last_health_check_unix = ? WHERE node = ? AND id = ?",
      ...[state, nowUnix(), worker.node, worker.id],
    );
  }

  /** Drops a worker that is gone. */
  forget(worker: { node: string; id: string }): void {
    this.#note("DELETE FROM workers WHERE node = ? AND id = ?", worker.node, worker.id);
  }

  /** What can't be noted (the disk is full) costs the next command a question to the hives. */
  #note(sql: string, ...values: SQLInputValue[]): void {
    try {
      this.#database.prepare(sql).run(...values);
    } catch (error) {
      if (!UNWRITABLE.test((error as Error).message)) throw error;
    }
  }

  /** Closes the database. */
  [Symbol.dispose](): void {
    this.#database.close();
  }
}

/** Whole seconds, the unit of the registry. */
export function nowUnix(): number {
  return Math.floor(Date.now() / 1000);
}

/**
 * Whether a worker is what the wish would get from the hive: slots and context as asked for then; backend and device
 * as asked for then, or named now and the same as what it runs on. A worker started with `--backend cpu` is not what
 * `auto` means on a machine with a GPU.
 */
function fits(row: RegisteredWorker, { request }: WorkerWish): boolean {
  const { requested } = row;
  const named = request.backend === row.backend && request.device === row.device;
  const asBefore = request.backend === requested.backend && request.device === requested.device;
  // How long it stays is for the hive to hear of, if it has not heard before.
  const staysAsLong = (request.pin ?? requested.pin) === requested.pin &&
    (request.idle_timeout ?? requested.idle_timeout) === requested.idle_timeout;
  return (named || asBefore) && staysAsLong &&
    request.slots === requested.slots && request.ctx_size === requested.ctx_size;
}

function rowToWorker(row: Record<string, unknown>): RegisteredWorker {
  return {
    id: String(row.id),
    node: String(row.node),
    url: String(row.url),
    apiKey: String(row.api_key),
    modelRef: String(row.model_ref),
    backend: String(row.backend),
    device: Number(row.device),
    state: row.state as RegisteredState,
    requested: JSON.parse(String(row.requested)),
    createdAtUnix: Number(row.created_at_unix),
    lastHealthCheckUnix: Number(row.last_health_check_unix),
  };
}
