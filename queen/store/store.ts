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
  Pick<StoredTask, "status" | "endedMs" | "tokens" | "state" | "strikes" | "outcome">
>;

/** Some events of a task that came together; they are counted from 1 without gaps. */
export interface StoredEvents {
  /** Of the first of them. */
  readonly seq: number;
  readonly count: number;
  /** Sealed. */
  readonly data: Uint8Array;
}

/** A machine: how it is reached, and what is wanted of it, which outlives the queen that was told. */
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
  /** Its hive is to run. */
  readonly running: boolean;
  /** The version of rbee that is to be there; null: whichever is. */
  readonly version: string | null;
  /** Nothing new is to go there. */
  readonly cordoned: boolean;
  readonly labels: readonly string[];
}

/** What changes of a machine. */
export type NodeChange = Partial<Omit<StoredNode, "name">>;

/** Somebody changed the task first. */
export class RevisionConflict extends Error {}

/**
 * See above. Everything that resolves outlives this process. What was written last may be lost when the machine loses
 * power; the key of the seals goes with its memory then, so that no task could go on anyway.
 */
export interface Store {
  /** `prompt` is what was asked, sealed: written once, and kept until the task has ended. */
  addTask(task: StoredTask, prompt: Uint8Array): Promise<void>;
  /** Undefined once the task has ended. */
  sealedPrompt(id: string): Promise<Uint8Array | undefined>;
  task(id: string): Promise<StoredTask | undefined>;
  /** Those that have not ended, oldest first. */
  unfinishedTasks(): Promise<StoredTask[]>;
  /**
   * Adds events behind those there are, and changes the task, in one step. With `endedMs` its prompt is forgotten.
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
  /** Adds a machine, or replaces all that is known of it. */
  putNode(node: StoredNode): Promise<void>;
  /** Changes these fields of a machine and no others. Whether there is one. */
  changeNode(name: string, change: NodeChange): Promise<boolean>;
  /** Whether there was one. */
  removeNode(name: string): Promise<boolean>;

  /** Keys, their budgets and what they have used. */
  readonly keys: KeyStore;

  close(): Promise<void>;
}
