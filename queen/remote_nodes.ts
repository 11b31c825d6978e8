/**
 * Hives that the queen starts and stops on other machines, over the system's ssh. What it starts is a wish that outlives
 * it: the wish is stored, the machine's own configuration names the queen, and `restorer.ts` goes on with it.
 */
import { delay } from "@std/async";
import type { Logger } from "../daemon/log.ts";
import { DEFAULT_INSTALL_PATH, inFolder, STOP_HIVE, there } from "../home/remote_hive.ts";
import { configureThere, hiveUrlOf, installThere } from "../home/remote_install.ts";
import { shellWord } from "../home/ssh.ts";
import { RbeeError, toRbeeError } from "../protocol/errors.ts";
import { VERSION } from "../protocol/version.ts";
import type { Cluster } from "./cluster/cluster.ts";
import {
  NODE_INSTALL_TIMEOUT_MS,
  NODE_LOOK_INTERVAL_MS,
  NODE_REPORT_TIMEOUT_MS,
  NODE_START_TIMEOUT_MS,
  NODE_STOP_TIMEOUT_MS,
} from "./limits.ts";
import type { Nodes } from "./nodes.ts";
import type { StoredNode } from "./store/store.ts";

/** Where a hive of the other machine keeps its files, for a shell there. */
const HIVE_HOME = "home=${RBEE_HOME:-$HOME/.rbee}";
/** Exit code of a keeper that does not know the command. */
const USAGE_EXIT_CODE = 2;

/** Options of {@linkcode RemoteNodes}. */
export interface RemoteNodesOptions {
  nodes: Nodes;
  cluster: Cluster;
  /** Where hives reach the queen; asked at each start. */
  ownUrl: () => string;
  /** A fresh key with which a machine's hive reports here, and can do nothing else. */
  keyFor: (node: string) => Promise<string>;
  log: Logger;
  /** Ends what is under way. */
  signal: AbortSignal;
}

/** See above. */
export class RemoteNodes {
  readonly #options: RemoteNodesOptions;
  /** By machine: what is done there. The next waits for it. */
  readonly #underWay = new Map<string, Promise<void>>();

  /** Nothing is started by itself. */
  constructor(options: RemoteNodesOptions) {
    this.#options = options;
  }

  /** Whether something is being done to a machine. */
  isBusy(name: string): boolean {
    return this.#underWay.has(name);
  }

  /**
   * Installs or upgrades rbee on a machine; whether a hive runs there is not changed.
   *
   * @throws {RbeeError} as {@linkcode start}, and `NOT_FOUND` when the queen has no archive for such a machine.
   */
  install(name: string): Promise<void> {
    return this.#oneByOne(name, async () => {
      const { nodes, log } = this.#options;
      const node = await nodes.require(name);
      const ssh = destinationOf(node);
      await nodes.note(name, { version: VERSION });
      const late = `${name} was not installed within ${NODE_INSTALL_TIMEOUT_MS / 1000} s.`;
      await this.#try(name, { timeoutMs: NODE_INSTALL_TIMEOUT_MS, late }, async (limit) => {
        await configureThere({ name, ssh, url: node.hiveUrl ?? hiveUrlOf(node.sshHost!), signal: limit });
        await installThere({
          ...{ name, ssh, folder: folderOf(node), service: false, signal: limit },
          // A hive that this queen has started goes on reporting here when the new version's takes its place; one that an
          // earlier version started knows the queen by its environment alone.
          before: `${HIVE_HOME}
if test -e "$home/queen.key"; then
  "$aside"/*/rbee-keeper ${this.#join(name)} --key-file "$home/queen.key" --no-start --quiet
fi`,
          onLine: (line) => log.info("installing over ssh", { node: name, said: line }),
        });
        await nodes.note(name, { status: "reachable", lastError: null });
      });
    });
  }

  /**
   * Has a machine's hive run and report here, now and whenever it starts again. Returns at once when it does already;
   * else the machine is told, and a hive that runs there makes way for one that knows this queen.
   *
   * @throws {RbeeError} `NODE_NOT_FOUND`, `INVALID_REQUEST` without a way to it, `NODE_UNREACHABLE` with what was said.
   */
  start(name: string): Promise<void> {
    return this.#oneByOne(name, async () => {
      const { nodes } = this.#options;
      const node = await nodes.require(name);
      await nodes.note(name, { running: true });
      if (await this.#reportsAlready(node)) {
        await nodes.note(name, { status: "reachable", lastError: null });
        return;
      }
      const ssh = destinationOf(node);
      const late = `The hive of ${name} did not start within ${NODE_START_TIMEOUT_MS / 1000} s.`;
      await this.#try(
        name,
        { timeoutMs: NODE_START_TIMEOUT_MS, late },
        (limit) => this.#startThere(node, { ssh, limit }),
      );
    });
  }

  /**
   * Stops a machine's hive, and with it its workers; it stays so.
   *
   * @throws {RbeeError} as {@linkcode start}.
   */
  stop(name: string): Promise<void> {
    return this.#oneByOne(name, async () => {
      const { nodes, signal } = this.#options;
      const node = await nodes.require(name);
      await nodes.note(name, { running: false });
      await this.#stop(node, AbortSignal.any([signal, AbortSignal.timeout(NODE_STOP_TIMEOUT_MS)]));
    });
  }

  /** Stops all that were started by this queen or one before it. Never throws. */
  async stopStarted(): Promise<void> {
    const { nodes, log } = this.#options;
    const started = (await nodes.stored()).filter(({ running }) => running);
    await Promise.all(started.map(async (node) => {
      try {
        await nodes.note(node.name, { running: false });
        await this.#stop(node, AbortSignal.timeout(NODE_STOP_TIMEOUT_MS));
      } catch (error) {
        log.warn("hive that was started from here could not be stopped", { node: node.name, error });
      }
    }));
  }

  /** Does something to a machine within a time; how it failed is noted there, `late` when the time is over. */
  async #try(
    name: string,
    how: { timeoutMs: number; late: string },
    act: (limit: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const { nodes, signal } = this.#options;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(how.timeoutMs)]);
    try {
      await act(limit);
    } catch (thrown) {
      const isLate = limit.aborted && !signal.aborted;
      const error = isLate ? new RbeeError("NODE_UNREACHABLE", how.late) : toRbeeError(thrown);
      await nodes.note(name, { status: "unreachable", lastError: error.message });
      throw error;
    }
  }

  async #startThere(node: StoredNode, how: { ssh: string; limit: AbortSignal }): Promise<void> {
    const { nodes, cluster, keyFor, log } = this.#options;
    const { name } = node;
    const { ssh, limit } = how;
    const beganMs = performance.now();
    await there(name, ssh, { script: "true", signal: limit });
    const latencyMs = Math.round(performance.now() - beganMs);
    // The key goes through a pipe: neither machine's list of processes shows it.
    const script = inFolder(folderOf(node), `./rbee-keeper ${this.#join(name)} --key-file - --json`);
    try {
      await there(name, ssh, { script, stdin: `${await keyFor(name)}\n`, signal: limit });
    } catch (error) {
      throw error instanceof RbeeError && error.details.exit_code === USAGE_EXIT_CODE ? tooOld(name) : error;
    }
    log.info("hive started over ssh", { node: name, ssh_latency_ms: latencyMs });
    await this.#reported(name, limit);
    await nodes.note(name, {
      status: "reachable",
      lastError: null,
      lastConnectedUnix: Math.floor(Date.now() / 1000),
      backends: [...new Set(cluster.node(name)!.devices.map(({ backend }) => backend))],
    });
  }

  /** The command that writes this queen into a machine's own configuration, where a restart and a reboot leave it. */
  #join(name: string): string {
    return `daemon join --queen ${shellWord(this.#options.ownUrl())} --name ${shellWord(name)}`;
  }

  async #stop(node: StoredNode, signal: AbortSignal): Promise<void> {
    await there(node.name, destinationOf(node), { script: inFolder(folderOf(node), STOP_HIVE), signal });
    this.#options.log.info("hive stopped over ssh", { node: node.name });
  }

  /** One that an earlier queen has started is given the time to report before it is disturbed. */
  async #reportsAlready({ name, running }: StoredNode): Promise<boolean> {
    const { cluster, signal } = this.#options;
    while (running && cluster.settling && cluster.node(name) === undefined) {
      await delay(NODE_LOOK_INTERVAL_MS, { signal });
    }
    return cluster.node(name)?.presence === "up";
  }

  async #reported(name: string, signal: AbortSignal): Promise<void> {
    const { cluster, ownUrl } = this.#options;
    const deadlineMs = performance.now() + NODE_REPORT_TIMEOUT_MS;
    while (cluster.node(name)?.presence !== "up") {
      if (performance.now() > deadlineMs) throw notReported(name, ownUrl());
      await delay(NODE_LOOK_INTERVAL_MS, { signal });
    }
  }

  /** Two who work on one machine at the same time would undo each other's work. */
  async #oneByOne(name: string, act: () => Promise<void>): Promise<void> {
    while (this.#underWay.has(name)) await this.#underWay.get(name)!.catch(() => {});
    const work = act();
    this.#underWay.set(name, work);
    try {
      await work;
    } finally {
      this.#underWay.delete(name);
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

function notReported(name: string, url: string): RbeeError {
  return new RbeeError(
    "NODE_UNREACHABLE",
    `The hive of ${name} runs and has not reported to ${url} within ${NODE_REPORT_TIMEOUT_MS / 1000} s. ` +
      "See to it that it reaches this address (queen.advertise, queen.listen, firewalls); its log says what it tried.",
  );
}

function tooOld(name: string): RbeeError {
  return new RbeeError(
    "NODE_UNREACHABLE",
    `The rbee on ${name} is too old to be told of a queen. Install this version there: nodes install ${name}.`,
  );
}
