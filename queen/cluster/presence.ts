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

/** What can become of a machine. */
export const PRESENCE_CHANGES = ["new", "silent", "down", "back", "left"] as const;

/** In one word. */
export function changeOf({ from, to }: PresenceChange): (typeof PRESENCE_CHANGES)[number] {
  if (to === "up") return from === undefined ? "new" : "back";
  if (to === "stale") return "silent";
  return from === "up" ? "left" : "down";
}

/** One line each. */
export function logPresences(changes: readonly PresenceChange[], log: Logger): void {
  for (const change of changes) {
    const { node, from } = change;
    const what = changeOf(change);
    if (what === "new") log.info("machine reports", { node });
    else if (what === "back") log.info("machine is back", { node, was: from });
    else if (what === "silent") log.warn("machine is silent: nothing new goes there", { node });
    else if (what === "left") log.info("machine has left", { node });
    else log.warn("machine is down: its workers are lost", { node });
  }
}
