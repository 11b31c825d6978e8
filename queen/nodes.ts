/** Machines of the cluster: those that were added by hand, and those whose hives report. */
import type { Logger } from "../daemon/log.ts";
import { callRoute } from "../protocol/client.ts";
import { RbeeError, toRbeeError } from "../protocol/errors.ts";
import { HEALTH_TIMEOUT_MS } from "../protocol/limits.ts";
import type { AddNodeRequest, NodeInfo } from "../protocol/queen_schemas.ts";
import { OPEN_HEALTH_ROUTES } from "../protocol/routes.ts";
import { HealthResponse } from "../protocol/worker_schemas.ts";
import type { Cluster, ClusterNode } from "./cluster/cluster.ts";
import type { Store, StoredNode } from "./store/store.ts";

/** Options of {@linkcode Nodes}. */
export interface NodesOptions {
  store: Store;
  cluster: Cluster;
  log: Logger;
}

/** See above. */
export class Nodes {
  readonly #options: NodesOptions;

  /** See {@linkcode NodesOptions}. */
  constructor(options: NodesOptions) {
    this.#options = options;
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
      name: request.node_name,
      sshHost: request.ssh_host ?? null,
      sshPort: request.ssh_port,
      sshUser: request.ssh_user ?? null,
      installPath: request.install_path ?? null,
      hiveUrl: request.hive_url ?? null,
      lastConnectedUnix: known?.lastConnectedUnix ?? null,
      lastError: null,
      status: "unknown",
      backends: known?.backends ?? [],
      devices: known?.devices ?? [],
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

  /** Writes down how the last attempt to reach it went. */
  async note(name: string, change: Partial<StoredNode>): Promise<void> {
    const node = await this.#stored(name);
    if (node !== undefined) await this.#options.store.putNode({ ...node, ...change });
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
    const live = this.#options.cluster.node(name);
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
      workers: live?.byId.size ?? 0,
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

function notFound(name: string): RbeeError {
  return new RbeeError(
    "NODE_NOT_FOUND",
    `There is no node ${JSON.stringify(name.slice(0, 64))} in this cluster.`,
  );
}
