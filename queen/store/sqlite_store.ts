/** The embedded {@linkcode Store}: one SQLite file, whose writes are gathered into one transaction a turn. */
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { openDatabase, transaction } from "../../home/database.ts";
import { KEY_TABLES, SqliteKeyStore } from "./sqlite_key_store.ts";
import {
  type NodeChange,
  RevisionConflict,
  type Store,
  type StoredEvents,
  type StoredNode,
  type StoredTask,
  type TaskChange,
} from "./store.ts";

/** Schema steps of `queen.db`; only ever appended to. */
export const QUEEN_MIGRATIONS: readonly string[] = [
  `CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    priority TEXT NOT NULL,
    status TEXT NOT NULL,
    prompt_hash TEXT NOT NULL,
    sealed BLOB,
    created_ms REAL NOT NULL,
    deadline_ms REAL NOT NULL,
    ended_ms REAL,
    tokens INTEGER NOT NULL,
    state BLOB,
    outcome TEXT,
    revision INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX tasks_ended ON tasks (ended_ms);
  CREATE TABLE task_events (
    task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    count INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (task_id, seq)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE beehives (
    node_name TEXT PRIMARY KEY,
    ssh_host TEXT,
    ssh_port INTEGER NOT NULL DEFAULT 22,
    ssh_user TEXT,
    install_path TEXT,
    hive_url TEXT,
    last_connected_unix INTEGER,
    last_error TEXT,
    status TEXT NOT NULL,
    backends TEXT NOT NULL,
    devices TEXT NOT NULL
  ) STRICT`,
  "ALTER TABLE tasks ADD COLUMN strikes INTEGER NOT NULL DEFAULT 0",
  // In a row of its own, or each change of the task would write it again.
  `CREATE TABLE task_prompts (
    task_id TEXT PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    sealed BLOB NOT NULL
  ) STRICT;
  INSERT INTO task_prompts SELECT id, sealed FROM tasks WHERE sealed IS NOT NULL;
  ALTER TABLE tasks DROP COLUMN sealed`,
  `ALTER TABLE beehives ADD COLUMN running INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE beehives ADD COLUMN version TEXT;
  ALTER TABLE beehives ADD COLUMN cordoned INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE beehives ADD COLUMN labels TEXT NOT NULL DEFAULT '[]'`,
  KEY_TABLES,
];

const COLUMNS: Readonly<Record<keyof TaskChange, string>> = {
  status: "status",
  endedMs: "ended_ms",
  tokens: "tokens",
  state: "state",
  strikes: "strikes",
  outcome: "outcome",
};

const NODE_COLUMNS: Readonly<Record<keyof StoredNode, string>> = {
  name: "node_name",
  sshHost: "ssh_host",
  sshPort: "ssh_port",
  sshUser: "ssh_user",
  installPath: "install_path",
  hiveUrl: "hive_url",
  lastConnectedUnix: "last_connected_unix",
  lastError: "last_error",
  status: "status",
  backends: "backends",
  devices: "devices",
  running: "running",
  version: "version",
  cordoned: "cordoned",
  labels: "labels",
};

interface Write {
  work: () => void;
  done: PromiseWithResolvers<void>;
}

/** See above. Each turn of the event loop that writes blocks for one transaction. */
export class SqliteStore implements Store {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #writes: Write[] = [];
  readonly keys = new SqliteKeyStore({
    write: (work) => this.#write(work),
    run: (sql, ...values) => this.#run(sql, ...values),
    all: (sql, ...values) => this.#prepare(sql).all(...values),
  });

  /**
   * Opens or creates the file; blocks for that.
   *
   * @throws {RbeeError} as `openDatabase`.
   */
  constructor(path: string) {
    this.#database = openDatabase(path, QUEEN_MIGRATIONS);
  }

  addTask(task: StoredTask, prompt: Uint8Array): Promise<void> {
    const { id, key, model, priority, status, promptHash, createdMs, deadlineMs, endedMs } = task;
    return this.#write(() => {
      this.#run(
        "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        ...[id, key, model, priority, status, promptHash, createdMs, deadlineMs, endedMs],
        ...[task.tokens, task.state, task.outcome, task.revision, task.strikes],
      );
      this.#run("INSERT INTO task_prompts VALUES (?, ?)", id, prompt);
    });
  }

  sealedPrompt(id: string): Promise<Uint8Array | undefined> {
    const row = this.#prepare("SELECT sealed FROM task_prompts WHERE task_id = ?").get(id);
    return Promise.resolve(row?.sealed as Uint8Array | undefined);
  }

  task(id: string): Promise<StoredTask | undefined> {
    const row = this.#prepare("SELECT * FROM tasks WHERE id = ?").get(id);
    return Promise.resolve(row && taskOf(row));
  }

  unfinishedTasks(): Promise<StoredTask[]> {
    const rows = this.#prepare("SELECT * FROM tasks WHERE ended_ms IS NULL ORDER BY created_ms").all();
    return Promise.resolve(rows.map(taskOf));
  }

  append(
    id: string,
    what: { revision: number; events?: StoredEvents; change?: TaskChange },
  ): Promise<void> {
    const { revision, events, change = {} } = what;
    const fields = Object.entries(change) as [keyof TaskChange, TaskChange[keyof TaskChange]][];
    const sets = ["revision = revision + 1", ...fields.map(([name]) => `${COLUMNS[name]} = ?`)];
    return this.#write(() => {
      const changed = this.#run(
        `UPDATE tasks SET ${sets.join(", ")} WHERE id = ? AND revision = ?`,
        ...fields.map(([, value]) => value ?? null),
        id,
        revision,
      );
      if (changed === 0) throw new RevisionConflict(`Task ${id} has another revision than ${revision}.`);
      if (change.endedMs !== undefined) this.#run("DELETE FROM task_prompts WHERE task_id = ?", id);
      if (events === undefined) return;
      const { seq, count, data } = events;
      this.#run("INSERT INTO task_events VALUES (?, ?, ?, ?)", id, seq, count, data);
    });
  }

  events(id: string, afterSeq: number): Promise<StoredEvents[]> {
    const rows = this.#prepare(
      "SELECT seq, count, data FROM task_events WHERE task_id = ? AND seq + count > ? + 1 ORDER BY seq",
    ).all(id, afterSeq);
    return Promise.resolve(rows.map(({ seq, count, data }) => ({
      seq: Number(seq),
      count: Number(count),
      data: data as Uint8Array,
    })));
  }

  async prune(endedBeforeMs: number): Promise<number> {
    let pruned = 0;
    await this.#write(() => {
      pruned = this.#run("DELETE FROM tasks WHERE ended_ms < ?", endedBeforeMs);
    });
    return pruned;
  }

  nodes(): Promise<StoredNode[]> {
    return Promise.resolve(this.#prepare("SELECT * FROM beehives ORDER BY node_name").all().map(nodeOf));
  }

  putNode(node: StoredNode): Promise<void> {
    const fields = nodeFields(node);
    const columns = fields.map(([column]) => column).join(", ");
    const places = fields.map(() => "?").join(", ");
    return this.#write(() =>
      this.#run(
        `INSERT OR REPLACE INTO beehives (${columns}) VALUES (${places})`,
        ...fields.map(([, value]) => value),
      )
    );
  }

  async changeNode(name: string, change: NodeChange): Promise<boolean> {
    const fields = nodeFields(change);
    const sets = fields.map(([column]) => `${column} = ?`).join(", ");
    let changed = 0;
    await this.#write(() => {
      changed = this.#run(
        `UPDATE beehives SET ${sets} WHERE node_name = ?`,
        ...fields.map(([, value]) => value),
        name,
      );
    });
    return changed > 0;
  }

  async removeNode(name: string): Promise<boolean> {
    let removed = 0;
    await this.#write(() => {
      removed = this.#run("DELETE FROM beehives WHERE node_name = ?", name);
    });
    return removed > 0;
  }

  close(): Promise<void> {
    this.#flush();
    this.#database.close();
    return Promise.resolve();
  }

  /** With all others of this turn, each by itself whole or not at all. */
  #write(work: () => unknown): Promise<void> {
    if (this.#writes.length === 0) setTimeout(() => this.#flush());
    const done = Promise.withResolvers<void>();
    this.#writes.push({ work, done });
    return done.promise;
  }

  #flush(): void {
    const writes = this.#writes;
    this.#writes = [];
    if (writes.length === 0) return;
    const failures = new Map<Write, unknown>();
    try {
      transaction(this.#database, () => {
        for (const write of writes) {
          this.#database.exec("SAVEPOINT one");
          try {
            write.work();
            this.#database.exec("RELEASE one");
          } catch (error) {
            failures.set(write, error);
            this.#database.exec("ROLLBACK TO one; RELEASE one");
          }
        }
      });
    } catch (error) {
      for (const { done } of writes) done.reject(error);
      return;
    }
    for (const write of writes) {
      if (failures.has(write)) write.done.reject(failures.get(write));
      else write.done.resolve();
    }
  }

  #run(sql: string, ...values: (string | number | Uint8Array | null)[]): number {
    return Number(this.#prepare(sql).run(...values).changes);
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

type Row = Record<string, unknown>;

function taskOf(row: Row): StoredTask {
  return {
    id: String(row.id),
    key: String(row.key),
    model: String(row.model),
    priority: row.priority as StoredTask["priority"],
    status: row.status as StoredTask["status"],
    promptHash: String(row.prompt_hash),
    createdMs: Number(row.created_ms),
    deadlineMs: Number(row.deadline_ms),
    endedMs: row.ended_ms as number | null,
    tokens: Number(row.tokens),
    state: row.state as Uint8Array | null,
    outcome: row.outcome as string | null,
    revision: Number(row.revision),
    strikes: Number(row.strikes),
  };
}

/** Columns with their values; what is undefined is left out. */
function nodeFields(node: Partial<StoredNode>): [column: string, value: string | number | null][] {
  const names = Object.keys(node) as (keyof StoredNode)[];
  return names.flatMap((name): [string, string | number | null][] => {
    const value = node[name];
    if (value === undefined) return [];
    if (typeof value === "boolean") return [[NODE_COLUMNS[name], Number(value)]];
    const isPlain = value === null || typeof value === "string" || typeof value === "number";
    return [[NODE_COLUMNS[name], isPlain ? value : JSON.stringify(value)]];
  });
}

function nodeOf(row: Row): StoredNode {
  return {
    name: String(row.node_name),
    sshHost: row.ssh_host as string | null,
    sshPort: Number(row.ssh_port),
    sshUser: row.ssh_user as string | null,
    installPath: row.install_path as string | null,
    hiveUrl: row.hive_url as string | null,
    lastConnectedUnix: row.last_connected_unix as number | null,
    lastError: row.last_error as string | null,
    status: row.status as StoredNode["status"],
    backends: JSON.parse(String(row.backends)),
    devices: JSON.parse(String(row.devices)),
    running: row.running === 1,
    version: row.version as string | null,
    cordoned: row.cordoned === 1,
    labels: JSON.parse(String(row.labels)),
  };
}
