/** What is asked of the scheduler, and what it gives. */
import type { LoadNews } from "../../protocol/queen_schemas.ts";
import type { ClusterWorker } from "../cluster/cluster_worker.ts";
import type { Decision } from "../placement/decision.ts";
import type { Wish } from "../placement/view.ts";
import type { Priority } from "../queue/fair_queue.ts";

/** Work that wants a slot. */
export interface Wanted extends Wish {
  readonly id: string;
  /** Whose it is, and its share. */
  readonly key: string;
  readonly share: number;
  readonly priority: Priority;
  /** Tokens that it will probably take. */
  readonly tokens: number;
  /** When it came first, and when it must have ended; on the scheduler's clock. */
  readonly sinceMs: number;
  readonly deadlineMs: number;
  /** It had a slot before and lost it. */
  readonly begun: boolean;
  /** It has a place that was promised to it, see `Scheduler.reserve`. */
  readonly accepted?: boolean;
}

/** News for who waits. */
export type WaitNews =
  | { type: "queued"; position: number; etaMs?: number; why: string }
  | { type: "loading"; load: LoadNews };

/** A slot that was given. */
export interface Lease {
  readonly worker: ClusterWorker;
  /** Of the prompt, those that the worker probably holds. */
  readonly sharedTokens: number;
  /** A token was told: if it is a suspect's, others may go there again. Idempotent. */
  told(): void;
  /** Gives it back; it took so many tokens. Idempotent. */
  done(tokens: number): void;
}

/** Loads a model somewhere; see `loads.ts`. */
export type StartLoad = (
  load: Extract<Decision, { kind: "load" }> & { model: string },
  onNews: (news: LoadNews) => void,
) => Promise<void>;
