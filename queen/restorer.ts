/**
 * Brings machines back to what is wanted of them: a hive that is to run and does not report is started, and one that
 * reports an older version than was to be installed is upgraded. An earlier queen's wishes count like this one's. What
 * fails is tried again after longer and longer pauses, and then left to a person.
 */
import type { Logger } from "../daemon/log.ts";
import { compareVersions } from "../home/version_order.ts";
import { toRbeeError } from "../protocol/errors.ts";
import { VERSION } from "../protocol/version.ts";
import type { Cluster } from "./cluster/cluster.ts";
import { NODE_RESTORE_PAUSES_MS } from "./limits.ts";
import type { Nodes } from "./nodes.ts";
import type { RemoteNodes } from "./remote_nodes.ts";
import type { StoredNode } from "./store/store.ts";

/** What is done to a machine. */
type Act = "start" | "install";

/** Options of {@linkcode Restorer}. */
export interface RestorerOptions {
  nodes: Pick<Nodes, "stored">;
  remote: Pick<RemoteNodes, Act | "isBusy">;
  cluster: Pick<Cluster, "node" | "settling">;
  log: Logger;
  /** Milliseconds, only ever forwards. */
  now: () => number;
  /** Ends what is under way; nothing is said of that. */
  signal: AbortSignal;
}

/** See above. */
export class Restorer {
  readonly #options: RestorerOptions;
  /** By machine: how often it was tried, and when it is next. */
  readonly #attempts = new Map<string, { act: Act; made: number; nextMs: number }>();
  #looking = false;

  /** Nothing is done before {@linkcode look}. */
  constructor(options: RestorerOptions) {
    this.#options = options;
  }

  /** Looks at all machines, and begins what is due. What that comes to is told in the log. */
  async look(): Promise<void> {
    const { nodes, cluster } = this.#options;
    if (this.#looking || cluster.settling) return;
    this.#looking = true;
    try {
      const stored = await nodes.stored();
      const names = new Set(stored.map(({ name }) => name));
      for (const name of this.#attempts.keys()) if (!names.has(name)) this.#attempts.delete(name);
      for (const node of stored) this.#lookAt(node);
    } finally {
      this.#looking = false;
    }
  }

  #lookAt(node: StoredNode): void {
    const { remote, now } = this.#options;
    const { name } = node;
    const act = this.#missing(node);
    if (act === undefined) {
      this.#attempts.delete(name);
      return;
    }
    let attempt = this.#attempts.get(name);
    if (attempt?.act !== act) {
      // A hive that is being replaced by hand is back in a moment.
      attempt = { act, made: 0, nextMs: now() + NODE_RESTORE_PAUSES_MS[0] };
      this.#attempts.set(name, attempt);
    }
    if (attempt.nextMs > now() || remote.isBusy(name)) return;
    attempt.made++;
    attempt.nextMs = Infinity;
    void this.#try(name, attempt);
  }

  /** What is to be done for a machine to be as it is wanted. */
  #missing({ name, running, version, sshHost }: StoredNode): Act | undefined {
    if (sshHost === null) return undefined;
    const live = this.#options.cluster.node(name);
    if (live?.presence === "up") {
      // Another version than this queen's own it does not have to send.
      const isOld = version === VERSION && live.version !== "" && compareVersions(live.version, VERSION) < 0;
      return isOld ? "install" : undefined;
    }
    return running && live?.presence !== "stale" ? "start" : undefined;
  }

  async #try(name: string, attempt: { act: Act; made: number; nextMs: number }): Promise<void> {
    const { remote, log, now, signal } = this.#options;
    const { act, made } = attempt;
    const facts = { node: name, attempt: made, attempts: NODE_RESTORE_PAUSES_MS.length };
    try {
      await remote[act](name);
      log.info(
        act === "start" ? "hive that is to run was brought back" : "machine was brought to this version",
        facts,
      );
      this.#attempts.delete(name);
    } catch (thrown) {
      if (signal.aborted) return;
      const { code, message: reason } = toRbeeError(thrown);
      const pauseMs = NODE_RESTORE_PAUSES_MS[made];
      if (pauseMs !== undefined) attempt.nextMs = now() + pauseMs;
      log.warn(
        pauseMs === undefined
          ? "machine could not be brought back: given up, nodes start and nodes install try again"
          : "machine could not be brought back",
        { ...facts, act, code, reason, next_seconds: pauseMs === undefined ? undefined : pauseMs / 1000 },
      );
    }
  }
}
