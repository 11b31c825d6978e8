/** Loads on demand: a hive fetches the model, starts a worker, and the worker loads. */
import { delay } from "@std/async";
import { errorFromBody, RbeeError, toRbeeError } from "../../protocol/errors.ts";
import { HiveClient } from "../../protocol/hive_client.ts";
import { HEARTBEAT_INTERVAL_MS, LOAD_TIMEOUT_MS } from "../../protocol/limits.ts";
import type { LoadNews } from "../../protocol/queen_schemas.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import { StreamCutError } from "../../protocol/sse.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { ClusterNode } from "../cluster/cluster_node.ts";
import {
  DEATH_POLL_MS,
  DEATH_TOLD_MS,
  LOAD_SILENCE_MS,
  PROBE_TIMEOUT_MS,
  REFUSAL_MS,
  SPAWN_TIMEOUT_MS,
} from "../limits.ts";
import type { StartLoad } from "./lease.ts";
import { silenceWatch } from "./silence.ts";

/** Options of {@linkcode Loads}. */
export interface LoadsOptions {
  cluster: Cluster;
  /** Milliseconds, only ever forwards. */
  now: () => number;
  /** Ends all loads. */
  signal: AbortSignal;
  /** Models that are kept: their workers are pinned. */
  kept: (model: string) => boolean;
  /** Told how each load went. */
  onEnd?: (how: "loaded" | "failed") => void;
}

/** Carries out the decision to load. */
export class Loads {
  readonly #options: LoadsOptions;
  /** By worker: who waits for its hive to report that it can answer. */
  readonly #awaited = new Map<string, () => void>();

  /** Nothing is loaded yet. */
  constructor(options: LoadsOptions) {
    this.#options = options;
  }

  /** See {@linkcode StartLoad}. Records failures, so that the next attempt goes to another machine, or is not made. */
  readonly start: StartLoad = async (load, onNews) => {
    const { cluster, now } = this.#options;
    const node = cluster.node(load.node);
    if (node === undefined) throw new RbeeError("NODE_NOT_FOUND", `There is no node ${load.node}.`);
    const over = cluster.loading(node, load.model);
    const beganMs = now();
    try {
      await this.#load(node, load, (news) => onNews({ ...news, node: node.name }));
      cluster.paces.loaded(load.model, now() - beganMs);
      this.#options.onEnd?.("loaded");
    } catch (thrown) {
      const error = thrown instanceof StreamCutError
        ? new RbeeError("NODE_UNREACHABLE", `${node.name} broke off in the middle of a load.`, {
          cause: thrown,
        })
        : toRbeeError(thrown);
      this.#options.onEnd?.("failed");
      const atMs = now();
      const untilMs = atMs + REFUSAL_MS;
      cluster.refused(node, load.model, { atMs, untilMs, code: error.code, message: error.message });
      throw error;
    } finally {
      over();
    }
  };

  /** A heartbeat was taken. */
  reported(): void {
    for (const [id, resolve] of this.#awaited) {
      if (this.#options.cluster.worker(id)?.state === "ready") resolve();
    }
  }

  async #load(
    node: ClusterNode,
    load: Parameters<StartLoad>[0],
    tell: (news: Omit<LoadNews, "node">) => void,
  ): Promise<void> {
    const { signal, kept } = this.#options;
    const hive = new HiveClient({ baseUrl: node.url, apiKey: node.apiKey });
    await fetchModel(hive, load.model, { signal, tell });
    tell({ stage: "starting" });
    const { model, backend, device } = load;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(LOAD_TIMEOUT_MS)]);
    for (let isAgain = false;; isAgain = true) {
      const { worker_id: workerId, url, api_key: apiKey, reused } = await hive.spawn(
        { model_ref: model, backend, device, pin: kept(model) || undefined },
        { signal: limit, timeoutMs: SPAWN_TIMEOUT_MS },
      );
      try {
        const worker = new WorkerClient({ baseUrl: url, apiKey });
        await followLoad(worker, { signal: limit, tell });
        if (reused) await requireWorking(worker, limit);
      } catch (error) {
        const cause = await causeOf(error, { hive, workerId, signal: limit });
        // One that was there before has died of something else, or stands still. Its hive knows by now, or is about to,
        // and starts another one.
        if (reused && !isAgain && cause !== error) continue;
        throw cause;
      }
      await this.#whenReported(workerId);
      const found = this.#options.cluster.worker(workerId);
      if (found !== undefined) this.#options.cluster.trust(found);
      return;
    }
  }

  /** Settles once its hive has reported that it is ready, or should have. */
  #whenReported(workerId: string): Promise<void> {
    return new Promise((resolve) => {
      const settle = () => {
        clearTimeout(late);
        this.#awaited.delete(workerId);
        resolve();
      };
      const late = setTimeout(settle, 2 * HEARTBEAT_INTERVAL_MS);
      this.#awaited.set(workerId, settle);
      this.reported();
    });
  }
}

/** A worker that has been there for longer may stand still: a request that was lost with it must not go there again. */
async function requireWorking(worker: WorkerClient, signal: AbortSignal): Promise<void> {
  const { status } = await worker.health({ signal, timeoutMs: PROBE_TIMEOUT_MS });
  if (status !== "alive") throw new RbeeError("NODE_UNREACHABLE", "The worker stands still.");
}

async function followLoad(
  worker: WorkerClient,
  options: { signal: AbortSignal; tell: (news: Omit<LoadNews, "node">) => void },
): Promise<void> {
  const { signal, tell } = options;
  const { events } = await worker.loadingProgress({ signal });
  for await (const event of events) {
    if (event.stage === "error") throw errorFromBody(event.error);
    if (event.stage === "ready") return;
    const { layers_loaded, layers_total } = event;
    tell({ stage: "loading", layers_loaded, layers_total });
  }
  throw new StreamCutError();
}

/** A worker that can't be heard any more may have died of the model: its hive knows. */
async function causeOf(
  error: unknown,
  at: { hive: HiveClient; workerId: string; signal: AbortSignal },
): Promise<unknown> {
  const { hive, workerId, signal } = at;
  if (!(error instanceof StreamCutError) && toRbeeError(error).code !== "NODE_UNREACHABLE") return error;
  const untilMs = performance.now() + DEATH_TOLD_MS;
  while (!signal.aborted && performance.now() < untilMs) {
    try {
      const { error: cause } = await hive.worker(workerId, { signal });
      if (cause !== undefined) return errorFromBody(cause);
    } catch (answer) {
      const { code } = toRbeeError(answer);
      if (code === "WORKER_NOT_FOUND") {
        return new RbeeError("WORKER_CRASHED", "The worker ended while it loaded.");
      }
      return error;
    }
    await delay(DEATH_POLL_MS, { signal }).catch(() => {});
  }
  return error;
}

async function fetchModel(
  hive: HiveClient,
  model: string,
  options: { signal: AbortSignal; tell: (news: Omit<LoadNews, "node">) => void },
): Promise<void> {
  const { signal, tell } = options;
  const started = await hive.download(model, { signal });
  if (started.download_id === "cached") return;
  using silence = silenceWatch(LOAD_SILENCE_MS);
  const { events } = await hive.downloadProgress(started.download_id, {
    signal: AbortSignal.any([signal, silence.signal]),
    onActivity: silence.alive,
  });
  for await (const event of events) {
    switch (event.stage) {
      case "complete":
        return;
      case "error":
        throw errorFromBody(event.error);
      case "downloading": {
        const { bytes_downloaded, bytes_total, speed_mbps, eta_seconds } = event;
        tell({ stage: "downloading", bytes_downloaded, bytes_total, speed_mbps, eta_seconds });
        break;
      }
      default:
        tell({ stage: event.stage });
    }
  }
  throw new StreamCutError();
}
