/** What placement decides. */
import type { ErrorCode } from "../../protocol/errors.ts";
import type { BackendName } from "../../protocol/spawn_request.ts";
import type { WorkerView } from "./view.ts";

/** What is to be done. `why` is for people. */
export type Decision =
  /** `sharedTokens` of the prompt are in the worker's cache. */
  | { kind: "run"; worker: WorkerView; sharedTokens: number; why: string }
  | { kind: "load"; node: string; backend: BackendName; device: number; evicts: string[]; why: string }
  /** `gathers`: where slots become free for a request that needs more of them than are free anywhere. */
  | { kind: "wait"; why: string; gathers?: WorkerView }
  | { kind: "never"; code: ErrorCode; why: string };
