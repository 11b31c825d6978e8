/** Which key may report which machine. */
import type { Logger } from "../daemon/log.ts";
import { RbeeError } from "../protocol/errors.ts";
import { type Caller, may } from "../protocol/rights.ts";
import { RecentSet } from "./recent_map.ts";

/** Warnings that are remembered, so that each is given once. */
const TOLD_MAX = 10_000;

/** See above. */
export class Reporters {
  readonly #log: Logger;
  readonly #told = new RecentSet<string>(TOLD_MAX);

  /** Nobody has reported. */
  constructor(log: Logger) {
    this.#log = log;
  }

  /**
   * Lets a key report a machine: a hive's key its own machine, the owner's key any. The owner's goes on working, but
   * whoever has that machine can then do everything here, so the log says once how to give it a key of its own.
   *
   * @throws {RbeeError} `FORBIDDEN`. It does not tell which machine the key is for: whoever stole it would know how to
   * use it.
   */
  require(caller: Caller, node: string): void {
    if (caller.node === node) return;
    if (!may(caller, "owner")) {
      throw new RbeeError(
        "FORBIDDEN",
        `This key may not report ${node}. Set hive.name to the machine that the key was made for, or make one for ` +
          `${node}: rbee-keeper keys add hive-${node} --rights hive --node ${node}`,
      );
    }
    if (this.#told.has(node)) return;
    this.#told.add(node);
    this.#log.warn("a hive reports with the owner's key: whoever has that machine can do everything here", {
      node,
      remedy:
        `rbee-keeper keys add hive-${node} --rights hive --node ${node}; put that key into a file of mode 0600 ` +
        "there and name it as hive.queen_key_file",
    });
  }
}
