/** Hives that the queen starts and stops on other machines, over the system's ssh. */
import { delay } from "@std/async";
import type { Logger } from "../daemon/log.ts";
import { DEFAULT_INSTALL_PATH, inFolder, START_HIVE, STOP_HIVE, there } from "../home/remote_hive.ts";
import { configureThere, hiveUrlOf, installThere } from "../home/remote_install.ts";
import { shellWord } from "../home/ssh.ts";
import { RbeeError, toRbeeError } from "../protocol/errors.ts";
import type { Cluster } from "./cluster/cluster.ts";
import {
  NODE_INSTALL_TIMEOUT_MS,
  NODE_LOOK_INTERVAL_MS,
  NODE_START_TIMEOUT_MS,
  NODE_STOP_TIMEOUT_MS,
} from "./limits.ts";
import type { Nodes } from "./nodes.ts";
import type { StoredNode } from "./store/store.ts";

/** Where a hive of the other machine keeps its files, for a shell there. */
const HIVE_HOME = "home=${RBEE_HOME:-$HOME/.rbee}";

/** Options of {@linkcode RemoteNodes}. */
export interface RemoteNodesOptions {
  nodes: Nodes;
  cluster: Cluster;
  /** Where hives reach the queen; asked at each start. */
  ownUrl: () => string;
  /** The queen's own key. */
  apiKey: string;
  log: Logger;
  /** Ends what is under way. */
  signal: AbortSignal;
}

/** See above. */
export class RemoteNodes {
  readonly #options: RemoteNodesOptions;
  /** Those that she has started: they end with her. */
  readonly #started = new Set<string>();

  /** Nothing is started by itself. */
  constructor(options: RemoteNodesOptions) {
    this.#options = options;
  }

  /**
   * Installs or upgrades rbee on a machine; whether a hive runs there is not changed.
   *
   * @throws {RbeeError} as {@linkcode start}, and `NOT_FOUND` when the queen has no archive for such a machine.
   */
  async install(name: string): Promise<void> {
    const { nodes, log, signal } = this.#options;
    const node = await nodes.require(name);
    const limit = AbortSignal.any([signal, AbortSignal.timeout(NODE_INSTALL_TIMEOUT_MS)]);
    try {
      const ssh = destinationOf(node);
      await configureThere({ name, ssh, url: node.hiveUrl ?? hiveUrlOf(node.sshHost!), signal: limit });
      await installThere({
        ...{ name, ssh, folder: folderOf(node), service: false, signal: limit },
        // One that she has started goes on reporting to her when the new version's takes its place.
        before: `${HIVE_HOME}\nif test -e "$home/queen.key"; then ${this.#reporting(name)}; fi`,
        onLine: (line) => log.info("installing over ssh", { node: name, said: line }),
      });
      await nodes.note(name, { status: "reachable", lastError: null });
    } catch (thrown) {
      const late = `${name} was not installed within ${NODE_INSTALL_TIMEOUT_MS / 1000} s.`;
      const error = limit.aborted && !signal.aborted
        ? new RbeeError("NODE_UNREACHABLE", late)
        : toRbeeError(thrown);
      await nodes.note(name, { status: "unreachable", lastError: error.message });
      throw error;
    }
  }

  /**
   * Starts a machine's hive and waits until it has reported here. Looks first whether the machine answers, lets the
   * queen in, and has what is needed.
   *
   * @throws {RbeeError} `NODE_NOT_FOUND`, `INVALID_REQUEST` without a way to it, `NODE_UNREACHABLE` with what was said.
   */
  async start(name: string): Promise<void> {
    const { nodes, cluster, apiKey, log, signal } = this.#options;
    const node = await nodes.require(name);
    const ssh = destinationOf(node);
    const limit = AbortSignal.any([signal, AbortSignal.timeout(NODE_START_TIMEOUT_MS)]);
    try {
      const beganMs = performance.now();
      await there(name, ssh, { script: "true", signal: limit });
      const latencyMs = Math.round(performance.now() - beganMs);
      // The key goes through a pipe: neither machine's list of processes shows it.
      const script = inFolder(
        folderOf(node),
        `umask 077
${HIVE_HOME}; mkdir -p "$home"
read -r key; printf '%s\\n' "$key" > "$home/queen.key"
${this.#reporting(name)}
${START_HIVE}`,
      );
      await there(name, ssh, { script, stdin: `${apiKey}\n`, signal: limit });
      this.#started.add(name);
      log.info("hive started over ssh", { node: name, ssh_latency_ms: latencyMs });
      await this.#reported(name, limit);
      await nodes.note(name, {
        status: "reachable",
        lastError: null,
        lastConnectedUnix: Math.floor(Date.now() / 1000),
        backends: [...new Set(cluster.node(name)!.devices.map(({ backend }) => backend))],
      });
    } catch (thrown) {
      const error = limit.aborted && !signal.aborted ? notInTime(name) : toRbeeError(thrown);
      await nodes.note(name, { status: "unreachable", lastError: error.message });
      throw error;
    }
  }

  /**
   * Stops a machine's hive, and with it its workers.
   *
   * @throws {RbeeError} as {@linkcode start}.
   */
  async stop(name: string): Promise<void> {
    const node = await this.#options.nodes.require(name);
    await this.#stop(
      node,
      AbortSignal.any([this.#options.signal, AbortSignal.timeout(NODE_STOP_TIMEOUT_MS)]),
    );
  }

  /** Stops all that were started from here. Never throws. */
  async stopStarted(): Promise<void> {
    const { nodes, log } = this.#options;
    await Promise.all([...this.#started].map(async (name) => {
      try {
        await this.#stop(await nodes.require(name), AbortSignal.timeout(NODE_STOP_TIMEOUT_MS));
      } catch (error) {
        log.warn("hive that was started from here could not be stopped", { node: name, error });
      }
    }));
  }

  /** What a hive finds in its environment to report here; for a shell in which `home` is set. */
  #reporting(name: string): string {
    const { ownUrl } = this.#options;
    return `export RBEE_HIVE_QUEEN=${shellWord(ownUrl())} RBEE_HIVE_NAME=${shellWord(name)} ` +
      'RBEE_HIVE_QUEEN_KEY_FILE="$home/queen.key"';
  }

  async #stop(node: StoredNode, signal: AbortSignal): Promise<void> {
    await there(node.name, destinationOf(node), { script: inFolder(folderOf(node), STOP_HIVE), signal });
    this.#started.delete(node.name);
    this.#options.log.info("hive stopped over ssh", { node: node.name });
  }

  async #reported(name: string, signal: AbortSignal): Promise<void> {
    while (this.#options.cluster.node(name)?.presence !== "up") {
      await delay(NODE_LOOK_INTERVAL_MS, { signal });
    }
  }
}

function folderOf({ installPath }: StoredNode): string {
  return shellWord(installPath ?? DEFAULT_INSTALL_PATH);
}

function destinationOf({ name, sshUser, sshHost, sshPort }: StoredNode): string {
  if (sshHost === null) {
    throw new RbeeError(
      "INVALID_REQUEST",
      `It is not known how to reach ${name} by ssh. Add it with ssh_host.`,
    );
  }
  return `${sshUser === null ? "" : `${sshUser}@`}${sshHost}:${sshPort}`;
}

function notInTime(name: string): RbeeError {
  return new RbeeError(
    "NODE_UNREACHABLE",
    `The hive of ${name} was started and has not reported here within ${NODE_START_TIMEOUT_MS / 1000} s. ` +
      "If it ran before, stop it first; else see to it that it reaches this queen (queen.advertise) and read its log.",
  );
}
