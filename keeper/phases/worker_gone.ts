/** A worker that left before it took the request. */
import type { RbeeError } from "../../protocol/errors.ts";

/** Nothing of the request happened: another worker may be asked for the same, without a fuss. */
export class WorkerGone extends Error {
  /** What the attempt met with: shown if there is no other worker either. */
  override readonly cause: RbeeError;

  /** See {@linkcode cause}. */
  constructor(cause: RbeeError) {
    super(cause.message);
    this.name = "WorkerGone";
    this.cause = cause;
  }
}
