/**
 * What outlives a queen, and how others hear of it: tasks, their events, and machines. One seam: the embedded engine
 * (`sqlite_store.ts`) keeps it in SQLite and tells listeners in this process; a replicated one can take its place, so
 * every call is asynchronous, every change of a task names the revision it is made to, and events are a stream with
 * numbers of its own. Prompts and texts reach a store sealed, see `seal.ts`.
 */
import type { TaskStatus } from "../../protocol/queen_schemas.ts";
import type { KeyStore } from "./key_store.ts";

/** A task as it is kept. */
export interface StoredTask {
  readonly id: string;
  /** Whose it is. */
  readonly key: string;
  readonly model: string;
  readonly priority: "interactive" | "batch";
  readonly status: TaskStatus;
  /** SHA-256 of what was asked, in hexadecimal. */
  readonly promptHash: string;
  /** What was asked, sealed; null once it has ended. */
  readonly sealed: Uint8Array | null;
  readonly createdMs: number;
  readonly deadlineMs: number;
  readonly endedMs: number | null;
  /** Tokens that were told. */
  readonly tokens: number;
  /** Where its answer stands, sealed; null as long as nothing was told, and once it has ended. */
  readonly state: Uint8Array | null;
  /** Workers that it has cost since its last token, see `suspicion.ts`. */
  readonly strikes: number;
  /** JSON of the figures or of the error, of one that has ended. */
  readonly outcome: string | null;
  /** Counts its changes. */
  readonly revision: number;
}

/** What changes of a task. */
export type TaskChange = Partial<
  Pick<StoredTask, "status" | "sealed" | "endedMs" | "tokens" | "state" | "strikes" | "outcome">
>;

/** Some events of a task that came together; they are counted from 1 without gaps. */
export interface StoredEvents {
  /** Of the first of them. */
  readonly seq: number;
  readonly count: number;
  /** Sealed. */
  readonly data: Uint8Array;
}

/** A machine as it was added by hand. */
export interface StoredNode {
  readonly name: string;
  readonly sshHost: string | null;
  readonly sshPort: number;
  readonly sshUser: string | null;
  readonly installPath: string | null;
  readonly hiveUrl: string | null;
  readonly lastConnectedUnix: number | null;
  readonly lastError: string | null;
  readonly status: "unknown" | "reachable" | "unreachable";
  readonly backends: readonly string[];
  readonly devices: readonly string[];
}

/** Somebody changed the task first. */
export class RevisionConflict extends Error {}

/** See above. Everything that resolves has happened for good. */
export interface Store {
  addTask(task: StoredTask): Promise<void>;
  task(id: string): Promise<StoredTask | undefined>;
  /** Those that have not ended, oldest first. */
  unfinishedTasks(): Promise<StoredTask[]>;
  /**
   * Adds events behind those there are, and changes the task, in one step.
   *
   * @throws {RevisionConflict} when its revision is not `revision`; then nothing happens.
   */
  append(
    id: string,
    what: { revision: number; events?: StoredEvents; change?: TaskChange },
  ): Promise<void>;
  /** Those that hold any after `afterSeq`, in order. */
  events(id: string, afterSeq: number): Promise<StoredEvents[]>;
  /** Forgets tasks that ended before then, and their events. */
  prune(endedBeforeMs: number): Promise<number>;

  nodes(): Promise<StoredNode[]>;
  putNode(node: StoredNode): Promise<void>;
  /** Whether there was one. */
  removeNode(name: string): Promise<boolean>;

  /** Keys, their budgets and what they have used. */
  readonly keys: KeyStore;

  close(): Promise<void>;
}
