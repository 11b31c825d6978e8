/** Machines that come, fall silent, are lost and come back: what changed, and its line in the log. */
import type { Logger } from "../../daemon/log.ts";
import type { Presence } from "../placement/view.ts";

/** One of them. */
export interface PresenceChange {
  readonly node: string;
  /** Undefined: it was never heard of. */
  readonly from: Presence | undefined;
  readonly to: Presence;
}

/** One line each. */
export function logPresences(changes: readonly PresenceChange[], log: Logger): void {
  for (const { node, from, to } of changes) {
    if (to === "up") {
      if (from === undefined) log.info("machine reports", { node });
      else log.info("machine is back", { node, was: from });
    } else if (to === "stale") {
      log.warn("machine is silent: nothing new goes there", { node });
    } else if (from === "up") {
      log.info("machine has left", { node });
    } else {
      log.warn("machine is down: its workers are lost", { node });
    }
  }
}
