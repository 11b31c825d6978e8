/**
 * What the queen knows of machines and workers, and the one owner of it. It is told by heartbeats, and by herself what she
 * sends where: between two heartbeats her own count of taken slots is the better one.
 *
 * | presence | from | to | when |
 * | --- | --- | --- | --- |
 * | of a node | any | up | a heartbeat came |
 * | | up | stale | {@linkcode STALE_AFTER_HEARTBEATS} are missing: nothing new goes there |
 * | | stale | down | {@linkcode DOWN_AFTER_HEARTBEATS} are missing, or it said that it leaves |
 *
 * What runs somewhere is not touched by any of these: whoever follows it notices by itself whether it still lives.
 */
import type { Device } from "../../protocol/hive_schemas.ts";
import { HEARTBEAT_INTERVAL_MS } from "../../protocol/limits.ts";
import { decodeBlocks } from "../../protocol/prefix_blocks.ts";
import type { Heartbeat, ReportedWorker } from "../../protocol/queen_schemas.ts";
import type { BackendName } from "../../protocol/spawn_request.ts";
import {
  DOWN_AFTER_HEARTBEATS,
  SETTLING_MS,
  STALE_AFTER_HEARTBEATS,
  SUSPECT_MS,
  TRIAL_MS,
} from "../limits.ts";
import type { ClusterView, DeviceView, NodeView, Presence, Refusal, WorkerView } from "../placement/view.ts";
import { Paces } from "./paces.ts";
import type { PresenceChange } from "./presence.ts";

const NO_BLOCKS: ReadonlySet<number> = new Set();

/** A worker as it is kept; others see {@linkcode WorkerView}. */
export class ClusterWorker implements WorkerView {
  readonly id: string;
  readonly node: string;
  readonly model: string;
  readonly backend: BackendName;
  readonly device: number;
  readonly url: string;
  readonly apiKey: string;
  state: WorkerView["state"] = "loading";
  slots = 0;
  context?: number;
  embeds?: boolean;
  blocks: ReadonlySet<number> = NO_BLOCKS;
  readsPerSecond?: number;
  memoryMb = 0;
  pinned = false;
  /** Why its hive has given it up. */
  failure?: string;
  lastUsedMs = 0;
  /** Answers that this queen has there. */
  own = 0;
  /** The most of them since the last report. */
  ownPeak = 0;
  /** Slots that others have taken. */
  others = 0;
  /** It was lost to somebody a moment ago: nothing new goes there until then. */
  suspectUntilMs = 0;
  /** Of {@linkcode own}, those that have told nothing yet. */
  untold = 0;
  trialUntilMs = 0;

  constructor(node: string, report: ReportedWorker) {
    this.node = node;
    this.id = report.worker_id;
    this.model = report.model_ref;
    this.backend = report.backend;
    this.device = report.device;
    this.url = report.url;
    this.apiKey = report.api_key;
  }

  get busy(): number {
    return this.own + this.others;
  }

  /** Takes over what was reported. */
  learn(report: ReportedWorker): void {
    this.state = stateOf(report);
    this.slots = report.slots_total;
    this.context = report.context;
    this.embeds = report.embeds;
    this.memoryMb = report.memory_mb;
    this.pinned = report.pinned;
    this.failure = report.failure;
    this.lastUsedMs = Math.max(this.lastUsedMs, report.last_activity_unix * 1000);
    if (report.blocks !== undefined) this.blocks = decodeBlocks(report.blocks);
    // What was seen taken may have been ours at any time since the last report.
    this.others = Math.max(0, report.slots_total - report.slots_available - this.ownPeak);
    this.ownPeak = this.own;
  }
}

function stateOf({ state }: ReportedWorker): WorkerView["state"] {
  switch (state) {
    case "starting":
    case "loading":
      return "loading";
    case "idle":
    case "busy":
      return "ready";
    default:
      return "leaving";
  }
}

/** A machine as it is kept. */
export class ClusterNode implements NodeView {
  readonly name: string;
  readonly byId = new Map<string, ClusterWorker>();
  readonly refusals = new Map<string, Refusal>();
  presence: Presence = "up";
  /** When that began, on the queen's clock. */
  sinceMs = 0;
  /** Nothing new goes there. */
  cordoned = false;
  version = "";
  /** Processor cores and the load average over a minute, as last reported. */
  cpu?: { cores: number; load: number };
  url = "";
  apiKey = "";
  instance = "";
  models: ReadonlyMap<string, number> = new Map();
  loads = 0;
  heardMs = 0;
  #devices: readonly Device[] = [];
  #memory = { total_mb: 0, free_mb: 0, reserve_mb: 0 };

  constructor(name: string) {
    this.name = name;
  }

  get workers(): Iterable<ClusterWorker> {
    return this.byId.values();
  }

  get memory(): Readonly<Heartbeat["memory"]> {
    return this.#memory;
  }

  get devices(): readonly DeviceView[] {
    return this.#devices.map(({ backend, index, memory_free_mb, memory_total_mb }) =>
      backend === "cpu"
        ? {
          backend,
          index,
          freeMb: this.#memory.free_mb - this.#memory.reserve_mb,
          totalMb: this.#memory.total_mb,
          reserveMb: this.#memory.reserve_mb,
        }
        : { backend, index, freeMb: memory_free_mb, totalMb: memory_total_mb }
    );
  }

  /** Takes over what was reported of the machine itself. */
  learn(report: Heartbeat, nowMs: number): void {
    this.url = report.hive_url;
    this.apiKey = report.api_key;
    this.instance = report.instance;
    this.version = report.version;
    this.cpu = report.cpu;
    this.#memory = report.memory;
    this.heardMs = nowMs;
    if (report.devices !== undefined) this.#devices = report.devices;
    if (report.models !== undefined) {
      this.models = new Map(report.models.map(({ model_ref, size_bytes }) => [model_ref, size_bytes]));
    }
  }
}

/** What changed. */
export interface ClusterNews {
  presences: readonly PresenceChange[];
  /** Workers that are gone, or whose machine is. */
  gone: ClusterWorker[];
  /** Something may be placed now that could not be before. */
  room: boolean;
}

/** Everything. */
export class Cluster implements ClusterView {
  readonly #nodes = new Map<string, ClusterNode>();
  readonly #workers = new Map<string, ClusterWorker>();
  readonly #byModel = new Map<string, Set<ClusterWorker>>();
  readonly #loads = new Map<string, number>();
  readonly #sizes = new Map<string, number>();
  readonly #cordoned = new Set<string>();
  /** What answers take. */
  readonly paces = new Paces();
  readonly #startedMs: number;
  #nowMs: number;

  /** Nobody has reported yet. */
  constructor(nowMs: number) {
    this.#startedMs = this.#nowMs = nowMs;
  }

  nodes(): Iterable<ClusterNode> {
    return this.#nodes.values();
  }

  node(name: string): ClusterNode | undefined {
    return this.#nodes.get(name);
  }

  worker(id: string): ClusterWorker | undefined {
    return this.#workers.get(id);
  }

  workers(): Iterable<ClusterWorker> {
    return this.#workers.values();
  }

  *workersOf(model: string): Generator<ClusterWorker> {
    for (const worker of this.#byModel.get(model) ?? []) {
      if (worker.suspectUntilMs > this.#nowMs) continue;
      const node = this.#nodes.get(worker.node)!;
      if (node.presence === "up" && !node.cordoned) yield worker;
    }
  }

  loadsOf(model: string): number {
    return this.#loads.get(model) ?? 0;
  }

  sizeOf(model: string): number | undefined {
    return this.#sizes.get(model);
  }

  get settling(): boolean {
    return this.#nowMs - this.#startedMs < SETTLING_MS;
  }

  /** Takes a heartbeat. `complete: false`: something is missing in it that was never told. */
  report(report: Heartbeat, nowMs: number): ClusterNews & { complete: boolean } {
    this.#nowMs = nowMs;
    const known = this.#nodes.get(report.node_name);
    if (report.leaving) {
      const gone = known === undefined ? [] : this.#lose(known);
      const presences = known === undefined ? [] : this.#moved(known, "down");
      return { complete: true, gone, room: false, presences };
    }
    const complete = (known?.instance === report.instance && known.presence !== "down") ||
      (report.devices !== undefined && report.models !== undefined);
    const node = known ?? new ClusterNode(report.node_name);
    this.#nodes.set(node.name, node);
    node.cordoned = this.#cordoned.has(node.name);
    const presences = this.#moved(node, "up", { isNew: known === undefined });
    node.learn(report, nowMs);
    for (const [model, size] of report.models === undefined ? [] : node.models) this.#sizes.set(model, size);
    const gone = this.#takeWorkers(node, report.workers);
    return { complete, gone, room: true, presences };
  }

  /** Time has passed. */
  tick(nowMs: number): ClusterNews {
    this.#nowMs = nowMs;
    const gone: ClusterWorker[] = [];
    const presences: PresenceChange[] = [];
    for (const node of this.#nodes.values()) {
      const missed = Math.floor((nowMs - node.heardMs) / HEARTBEAT_INTERVAL_MS);
      if (node.presence === "up" && missed >= STALE_AFTER_HEARTBEATS) {
        presences.push(...this.#moved(node, "stale"));
      }
      if (node.presence === "stale" && missed >= DOWN_AFTER_HEARTBEATS) {
        presences.push(...this.#moved(node, "down"));
        gone.push(...this.#lose(node));
      }
      for (const [model, { untilMs }] of node.refusals) {
        if (untilMs <= nowMs) node.refusals.delete(model);
      }
    }
    return { gone, room: false, presences };
  }

  /** From now on nothing new goes to a machine, or it does again. Holds for one that has not reported yet, too. */
  cordon(name: string, cordoned: boolean): ClusterNews {
    if (cordoned) this.#cordoned.add(name);
    else this.#cordoned.delete(name);
    const node = this.#nodes.get(name);
    if (node !== undefined) node.cordoned = cordoned;
    return { gone: [], room: true, presences: [] };
  }

  /** A machine is nobody's business any more. */
  forget(name: string): ClusterWorker[] {
    this.#cordoned.delete(name);
    const node = this.#nodes.get(name);
    if (node === undefined) return [];
    this.#nodes.delete(name);
    return this.#lose(node);
  }

  /**
   * An answer goes to a worker; that of a suspect keeps others away for {@linkcode TRIAL_MS}. `told` says that it has
   * told a token, and returns whether that lets others in again; idempotent. `freed` says that it has come to its end
   * there, one way or another.
   */
  taken(
    worker: ClusterWorker,
    how: { suspect: boolean; nowMs: number },
  ): { told: () => boolean; freed: () => void } {
    const { suspect, nowMs } = how;
    worker.own++;
    worker.untold++;
    worker.ownPeak = Math.max(worker.ownPeak, worker.own);
    worker.lastUsedMs = nowMs;
    const untilMs = nowMs + TRIAL_MS;
    if (suspect) worker.trialUntilMs = untilMs;
    let isUntold = true;
    const told = () => {
      if (!isUntold) return false;
      isUntold = false;
      worker.untold--;
      // Another trial may have begun when this one took too long.
      if (!suspect || worker.trialUntilMs !== untilMs) return false;
      worker.trialUntilMs = 0;
      return true;
    };
    const freed = () => {
      told();
      worker.own--;
    };
    return { told, freed };
  }

  /** It said that all of its slots are taken. */
  full(worker: ClusterWorker): void {
    worker.others = Math.max(0, worker.slots - worker.own);
  }

  /** Its hive has just vouched for it. */
  trust(worker: ClusterWorker): void {
    worker.suspectUntilMs = 0;
  }

  /** It was lost, or so it seems. */
  suspect(worker: ClusterWorker, nowMs: number): void {
    worker.suspectUntilMs = nowMs + SUSPECT_MS;
  }

  /** A worker has read a prompt, as it will report itself with its next heartbeat. */
  read(worker: ClusterWorker, blocks: readonly number[]): void {
    if (blocks.length > 0) worker.blocks = new Set([...worker.blocks, ...blocks]);
  }

  /** A load has begun; the returned function tells that it is over. */
  loading(node: ClusterNode, model: string): () => void {
    const count = (by: number) => {
      node.loads += by;
      const loads = this.loadsOf(model) + by;
      if (loads === 0) this.#loads.delete(model);
      else this.#loads.set(model, loads);
    };
    count(1);
    return () => count(-1);
  }

  #moved(node: ClusterNode, to: Presence, { isNew = false } = {}): PresenceChange[] {
    const from = isNew ? undefined : node.presence;
    if (from === to) return [];
    node.presence = to;
    node.sinceMs = this.#nowMs;
    return [{ node: node.name, from, to }];
  }

  #takeWorkers(node: ClusterNode, reports: readonly ReportedWorker[]): ClusterWorker[] {
    const left = new Set(node.byId.values());
    for (const report of reports) {
      let worker = node.byId.get(report.worker_id);
      if (worker === undefined) {
        // An id that another machine has is either a lie or a mistake.
        if (this.#workers.has(report.worker_id)) continue;
        worker = new ClusterWorker(node.name, report);
        node.byId.set(worker.id, worker);
        this.#workers.set(worker.id, worker);
        const same = this.#byModel.get(worker.model) ?? new Set();
        this.#byModel.set(worker.model, same.add(worker));
      }
      worker.learn(report);
      left.delete(worker);
    }
    for (const worker of left) this.#drop(node, worker);
    return [...left];
  }

  #lose(node: ClusterNode): ClusterWorker[] {
    const all = [...node.byId.values()];
    for (const worker of all) this.#drop(node, worker);
    return all;
  }

  #drop(node: ClusterNode, worker: ClusterWorker): void {
    node.byId.delete(worker.id);
    this.#workers.delete(worker.id);
    const same = this.#byModel.get(worker.model)!;
    same.delete(worker);
    if (same.size === 0) this.#byModel.delete(worker.model);
  }
}
