/** Machines of the cluster: those that were added by hand, and those whose hives report; and what is wanted of each. */
import type { Logger } from "../daemon/log.ts";
import { callRoute } from "../protocol/client.ts";
import { RbeeError, toRbeeError } from "../protocol/errors.ts";
import { HEALTH_TIMEOUT_MS } from "../protocol/limits.ts";
import type { AddNodeRequest, LabelNodeRequest, NodeInfo } from "../protocol/queen_schemas.ts";
import { OPEN_HEALTH_ROUTES } from "../protocol/routes.ts";
import { HealthResponse } from "../protocol/worker_schemas.ts";
import type { Cluster, ClusterNews } from "./cluster/cluster.ts";
import type { ClusterNode } from "./cluster/cluster_node.ts";
import type { NodeChange, Store, StoredNode } from "./store/store.ts";

/** Options of {@linkcode Nodes}. */
export interface NodesOptions {
  store: Store;
  cluster: Cluster;
  log: Logger;
  /** The clock that the cluster is told. */
  now: () => number;
}

/** See above. */
export class Nodes {
  readonly #options: NodesOptions;

  /** See {@linkcode NodesOptions}. */
  constructor(options: NodesOptions) {
    this.#options = options;
  }

  /** Takes over what was wanted of machines before this queen. Comes before any work is placed. */
  async restore(): Promise<void> {
    for (const { name, cordoned } of await this.#options.store.nodes()) {
      if (cordoned) this.#options.cluster.cordon(name, true);
    }
  }

  /** Adds a machine, or changes what is known of it, and looks whether its hive answers. */
  async add(request: AddNodeRequest): Promise<NodeInfo> {
    const { store } = this.#options;
    if (request.hive_url === undefined && request.ssh_host === undefined) {
      throw new RbeeError("INVALID_REQUEST", "Say where the machine is: give hive_url, ssh_host, or both.", {
        details: { errors: [{ field: "hive_url", constraint: "required", message: "give it, or ssh_host" }] },
      });
    }
    const known = await this.#stored(request.node_name);
    const node: StoredNode = {
      ...known ?? unknownNode(request.node_name),
      sshHost: request.ssh_host ?? null,
      sshPort: request.ssh_port,
      sshUser: request.ssh_user ?? null,
      installPath: request.install_path ?? null,
      hiveUrl: request.hive_url ?? null,
      lastError: null,
      status: "unknown",
    };
    const looked = await this.#look(node);
    await store.putNode(looked);
    return this.#info(looked.name, looked);
  }

  /** All, by name. */
  async list(): Promise<NodeInfo[]> {
    const { store, cluster } = this.#options;
    const stored = new Map((await store.nodes()).map((node) => [node.name, node]));
    const names = new Set([...stored.keys(), ...[...cluster.nodes()].map(({ name }) => name)]);
    return [...names].sort().map((name) => this.#info(name, stored.get(name)));
  }

  /**
   * Forgets a machine. One whose hive goes on reporting comes back.
   *
   * @throws {RbeeError} `NODE_NOT_FOUND`.
   */
  async remove(name: string): Promise<void> {
    const { store, cluster } = this.#options;
    const known = cluster.node(name) !== undefined;
    cluster.forget(name);
    if (!await store.removeNode(name) && !known) throw notFound(name);
  }

  /**
   * One machine that was added by hand.
   *
   * @throws {RbeeError} `NODE_NOT_FOUND`.
   */
  async require(name: string): Promise<StoredNode> {
    const node = await this.#stored(name);
    if (node === undefined) throw notFound(name);
    return node;
  }

  /** All that are known beyond their reports. */
  stored(): Promise<StoredNode[]> {
    return this.#options.store.nodes();
  }

  /** Writes down what is wanted of a machine, or how the last attempt to reach it went; nothing of one that is not known. */
  async note(name: string, change: NodeChange): Promise<void> {
    await this.#options.store.changeNode(name, change);
  }

  /**
   * Nothing new goes to a machine from now on, or it does again; its next report and the next queen don't change that.
   *
   * @throws {RbeeError} `NODE_NOT_FOUND`.
   */
  async cordon(name: string, cordoned: boolean): Promise<ClusterNews> {
    await this.#change(name, { cordoned });
    return this.#options.cluster.cordon(name, cordoned);
  }

  /**
   * Adds labels to a machine and takes others off.
   *
   * @throws {RbeeError} `NODE_NOT_FOUND`.
   */
  async label({ node_name: name, add, remove }: LabelNodeRequest): Promise<void> {
    const before = (await this.#stored(name))?.labels ?? [];
    const labels = new Set([...before, ...add].filter((label) => !remove.includes(label)));
    await this.#change(name, { labels: [...labels].sort() });
  }

  /** One machine as it is shown. */
  async info(name: string): Promise<NodeInfo> {
    return this.#info(name, await this.#stored(name));
  }

  /** Changes what is wanted of a machine, also of one that has only ever reported. */
  async #change(name: string, change: NodeChange): Promise<void> {
    const { store, cluster } = this.#options;
    if (await store.changeNode(name, change)) return;
    if (cluster.node(name) === undefined) throw notFound(name);
    await store.putNode({ ...unknownNode(name), ...change });
  }

  async #stored(name: string): Promise<StoredNode | undefined> {
    return (await this.#options.store.nodes()).find((node) => node.name === name);
  }

  /**
   * Whether its hive answers, asked without a key: the address may be mistyped. What it has to compute on is known once
   * it has reported.
   */
  async #look(node: StoredNode): Promise<StoredNode> {
    if (node.hiveUrl === null) return node;
    const { log } = this.#options;
    try {
      await callRoute({ baseUrl: node.hiveUrl }, {
        route: OPEN_HEALTH_ROUTES.health,
        schema: HealthResponse,
        timeoutMs: HEALTH_TIMEOUT_MS,
      });
      return { ...node, status: "reachable", lastConnectedUnix: Math.floor(Date.now() / 1000) };
    } catch (thrown) {
      const error = toRbeeError(thrown);
      log.warn("added node does not answer", { node: node.name, code: error.code, reason: error.message });
      return { ...node, status: "unreachable", lastError: error.message };
    }
  }

  #info(name: string, stored: StoredNode | undefined): NodeInfo {
    const { cluster, now } = this.#options;
    const live = cluster.node(name);
    const workers = [...live?.workers ?? []];
    const sum = (count: (worker: (typeof workers)[number]) => number) =>
      workers.reduce((total, worker) => total + count(worker), 0);
    return {
      node_name: name,
      ssh_host: stored?.sshHost ?? null,
      ssh_port: stored?.sshPort ?? 22,
      ssh_user: stored?.sshUser ?? null,
      install_path: stored?.installPath ?? null,
      hive_url: live?.url ?? stored?.hiveUrl ?? null,
      last_connected_unix: stored?.lastConnectedUnix ?? null,
      last_error: stored?.lastError ?? null,
      status: live === undefined
        ? stored?.status ?? "unknown"
        : live.presence === "up"
        ? "reachable"
        : "unreachable",
      presence: live?.presence ?? null,
      ...devicesOf(live, stored),
      workers: workers.length,
      since_unix: live === undefined ? null : Math.round((Date.now() - (now() - live.sinceMs)) / 1000),
      version: live?.version ?? null,
      memory: live?.memory ?? null,
      cpu: live?.cpu ?? null,
      slots_total: sum(({ slots }) => slots),
      slots_busy: sum(({ busy }) => busy),
      loads: live?.loads ?? 0,
      cordoned: stored?.cordoned ?? false,
      labels: [...stored?.labels ?? []],
      wanted: { running: stored?.running ?? false, version: stored?.version ?? null },
    };
  }
}

function devicesOf(live: ClusterNode | undefined, stored: StoredNode | undefined) {
  if (live === undefined) {
    return { backends: [...stored?.backends ?? []], devices: [...stored?.devices ?? []] };
  }
  return {
    backends: [...new Set(live.devices.map(({ backend }) => backend))],
    devices: live.devices.map(({ backend, index }) => `${backend}:${index}`),
  };
}

/** One of which nothing is known yet but its name. */
function unknownNode(name: string): StoredNode {
  return {
    ...{ name, sshHost: null, sshPort: 22, sshUser: null, installPath: null, hiveUrl: null },
    ...{ lastConnectedUnix: null, lastError: null, status: "unknown", backends: [], devices: [] },
    ...{ running: false, version: null, cordoned: false, labels: [] },
  };
}

function notFound(name: string): RbeeError {
  return new RbeeError(
    "NODE_NOT_FOUND",
    `There is no node ${JSON.stringify(name.slice(0, 64))} in this cluster.`,
  );
}
