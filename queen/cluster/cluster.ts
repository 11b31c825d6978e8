/**
 * The queen's only record of machines and workers. Heartbeats update it, and so does the queen itself when it sends a
 * request: between two heartbeats its own count of busy slots is the more accurate one.
 *
 * | presence | from | to | when |
 * | --- | --- | --- | --- |
 * | of a node | any | up | a heartbeat came |
 * | | up | stale | {@linkcode STALE_AFTER_HEARTBEATS} are missing: nothing new goes there |
 * | | stale | down | {@linkcode DOWN_AFTER_HEARTBEATS} are missing, or it said that it leaves |
 *
 * What runs somewhere is not touched by any of these: whoever follows it notices by itself whether it still lives.
 */
import { HEARTBEAT_INTERVAL_MS } from "../../protocol/limits.ts";
import type { Heartbeat, ReportedWorker } from "../../protocol/queen_schemas.ts";
import {
  CLOCK_GAP_MS,
  DOWN_AFTER_HEARTBEATS,
  MODELS_KNOWN_MAX,
  NODE_FORGOTTEN_MS,
  REFUSAL_COUNTS_MS,
  SETTLING_MS,
  STALE_AFTER_HEARTBEATS,
  SUSPECT_MS,
  TRIAL_MS,
} from "../limits.ts";
import { liesInModel } from "../placement/load_placement.ts";
import type { ClusterView, Presence, Refusal } from "../placement/view.ts";
import { RecentMap } from "../recent_map.ts";
import { ClusterNode } from "./cluster_node.ts";
import { ClusterWorker } from "./cluster_worker.ts";
import { ModelWorkers } from "./model_workers.ts";
import { Paces } from "./paces.ts";
import type { PresenceChange } from "./presence.ts";

const NO_MODELS: ReadonlySet<string> = new Set();
const NO_WORKERS = new ModelWorkers();

/** What changed. */
export interface ClusterNews {
  presences: readonly PresenceChange[];
  /** Workers that are gone, or whose machine is. */
  gone: ClusterWorker[];
  /** Models of which a worker has become free, or can be asked again. */
  freed: ReadonlySet<string>;
  /** The machine that has reported, and whose room may have grown. */
  room?: ClusterNode;
}

/** Everything. */
export class Cluster implements ClusterView {
  readonly #nodes = new Map<string, ClusterNode>();
  readonly #workers = new Map<string, ClusterWorker>();
  readonly #byModel = new Map<string, ModelWorkers>();
  /** Models that machines know, and how many of them do. */
  readonly #known = new Map<string, number>();
  readonly #suspects = new Set<ClusterWorker>();
  readonly #loads = new Map<string, number>();
  readonly #refusals = new RecentMap<string, Refusal>(MODELS_KNOWN_MAX);
  readonly #sizes = new RecentMap<string, number>(MODELS_KNOWN_MAX);
  readonly #cordoned = new Set<string>();
  /** What answers take. */
  readonly paces = new Paces();
  readonly #startedMs: number;
  #nowMs: number;
  #tickedMs: number;

  /** Nobody has reported yet. */
  constructor(nowMs: number) {
    this.#startedMs = this.#nowMs = this.#tickedMs = nowMs;
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

  *workersOf(model: string, nodes?: Iterable<string>): Generator<ClusterWorker> {
    if (nodes === undefined) {
      for (const worker of this.#byModel.get(model)?.all ?? []) if (this.#isReachable(worker)) yield worker;
      return;
    }
    for (const name of nodes) {
      for (const worker of this.#nodes.get(name)?.workers ?? []) {
        if (worker.model === model && this.#isReachable(worker)) yield worker;
      }
    }
  }

  modelView(model: string): ModelWorkers {
    return this.#byModel.get(model) ?? NO_WORKERS;
  }

  /** Models that are loaded or lie on a disk, on machines that are not down. */
  models(): Iterable<string> {
    return this.#known.keys();
  }

  hasModel(model: string): boolean {
    return this.#known.has(model);
  }

  /** Models that a worker has. */
  loadedModels(): Iterable<string> {
    return this.#byModel.keys();
  }

  loadsOf(model: string): number {
    return this.#loads.get(model) ?? 0;
  }

  sizeOf(model: string): number | undefined {
    return this.#sizes.peek(model);
  }

  refusalOf(model: string): Refusal | undefined {
    return this.#refusals.get(model);
  }

  get settling(): boolean {
    return this.#nowMs - this.#startedMs < SETTLING_MS;
  }

  /**
   * The machine that has a name which another hive reports under, too: one that was heard of lately, under another
   * address, or that has taken the place of the one which reports.
   */
  rivalOf(report: Heartbeat): ClusterNode | undefined {
    const known = this.#nodes.get(report.node_name);
    if (known === undefined || known.presence === "down" || known.instance === report.instance) {
      return undefined;
    }
    return known.url !== report.hive_url || known.replaced.has(report.instance) ? known : undefined;
  }

  /** Takes a heartbeat. `complete: false`: something is missing in it that was never told. */
  report(
    report: Heartbeat,
    nowMs: number,
    wallMs = Date.now(),
  ): ClusterNews & { complete: boolean } {
    this.#nowMs = nowMs;
    const known = this.#nodes.get(report.node_name);
    if (report.leaving) {
      const news = { complete: true, freed: NO_MODELS };
      // An earlier instance says farewell after its successor has come.
      if (known === undefined || known.instance !== report.instance) {
        return { ...news, gone: [], presences: [] };
      }
      const presences = this.#moved(known, "down");
      known.heardMs = nowMs;
      return { ...news, gone: this.#lose(known), presences };
    }
    const complete = (known?.instance === report.instance && known.presence !== "down") ||
      (report.devices !== undefined && report.models !== undefined);
    const node = known ?? new ClusterNode(report.node_name);
    this.#nodes.set(node.name, node);
    node.cordoned = this.#cordoned.has(node.name);
    const presences = this.#moved(node, "up", { isNew: known === undefined });
    node.learn(report, nowMs);
    for (const [model, size] of report.models === undefined ? [] : node.models) this.#sizes.set(model, size);
    const freed = new Set<string>();
    const gone = this.#takeWorkers(node, { reports: report.workers, freed, nowMs, wallMs });
    this.#learnModels(node);
    return { complete, gone, freed, room: node, presences };
  }

  /** Time has passed. */
  tick(nowMs: number): ClusterNews {
    this.#forgiveGap(nowMs);
    this.#nowMs = nowMs;
    const gone: ClusterWorker[] = [];
    const presences: PresenceChange[] = [];
    for (const node of this.#nodes.values()) {
      const missed = Math.floor((nowMs - node.heardMs) / HEARTBEAT_INTERVAL_MS);
      if (node.presence === "up" && missed >= STALE_AFTER_HEARTBEATS) {
        presences.push(...this.#moved(node, "stale"));
        for (const worker of node.workers) this.#update(worker);
      }
      if (node.presence === "stale" && missed >= DOWN_AFTER_HEARTBEATS) {
        presences.push(...this.#moved(node, "down"));
        gone.push(...this.#lose(node));
      }
      if (node.presence === "down" && nowMs - node.heardMs >= NODE_FORGOTTEN_MS) this.forget(node.name);
      for (const [model, { atMs }] of node.refusals) {
        if (nowMs - atMs >= REFUSAL_COUNTS_MS) node.refusals.delete(model);
      }
    }
    const freed = new Set<string>();
    for (const worker of this.#suspects) if (this.#update(worker)) freed.add(worker.model);
    return { gone, freed, presences };
  }

  /** From now on nothing new goes to a machine, or it does again. Holds for one that has not reported yet, too. */
  cordon(name: string, cordoned: boolean): ClusterNews {
    if (cordoned) this.#cordoned.add(name);
    else this.#cordoned.delete(name);
    const node = this.#nodes.get(name);
    const freed = new Set<string>();
    if (node !== undefined) {
      node.cordoned = cordoned;
      for (const worker of node.workers) if (this.#update(worker)) freed.add(worker.model);
    }
    return { gone: [], freed, room: node, presences: [] };
  }

  /** A machine is nobody's business any more. */
  forget(name: string): ClusterWorker[] {
    const node = this.#nodes.get(name);
    if (node === undefined) return [];
    this.#nodes.delete(name);
    return this.#lose(node);
  }

  /**
   * An answer takes so many slots of a worker; that of a suspect keeps others away for {@linkcode TRIAL_MS}. `told` says
   * that it has told a token, and returns whether that lets others in again; idempotent. `freed` says that it has come to
   * its end there, one way or another.
   */
  taken(
    worker: ClusterWorker,
    how: { slots: number; suspect: boolean; nowMs: number },
  ): { told: () => boolean; freed: () => void } {
    const { slots, suspect, nowMs } = how;
    worker.own += slots;
    worker.untold++;
    worker.ownPeak = Math.max(worker.ownPeak, worker.own);
    worker.lastUsedMs = nowMs;
    this.#updateSlots(worker);
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
      worker.own -= slots;
      this.#updateSlots(worker);
    };
    return { told, freed };
  }

  /** It said that all of its slots are taken. */
  full(worker: ClusterWorker): void {
    worker.others = Math.max(0, worker.slots - worker.own);
    this.#updateSlots(worker);
  }

  /** Its hive has just vouched for it. */
  trust(worker: ClusterWorker): void {
    worker.suspectUntilMs = 0;
    this.#update(worker);
  }

  /** It was lost, or so it seems. */
  suspect(worker: ClusterWorker, nowMs: number): void {
    worker.suspectedMs = nowMs;
    worker.suspectUntilMs = nowMs + SUSPECT_MS;
    if (this.#workers.get(worker.id) !== worker) return;
    this.#suspects.add(worker);
    this.#update(worker);
  }

  /** A worker has read a prompt, as it will report itself with its next heartbeat. */
  read(worker: ClusterWorker, blocks: ArrayLike<number>): void {
    worker.blocks.addAll(blocks);
  }

  /** A load has begun; the returned function tells that it is over. */
  loading(node: ClusterNode, model: string): () => void {
    const count = (by: 1 | -1) => {
      node.countLoad(model, by);
      const loads = this.loadsOf(model) + by;
      if (loads === 0) this.#loads.delete(model);
      else this.#loads.set(model, loads);
    };
    count(1);
    return () => count(-1);
  }

  /** A load has failed: by its reason either no machine tries the model for a while, or this one does not. */
  refused(node: ClusterNode, model: string, refusal: Refusal): void {
    if (liesInModel(model, refusal.code)) this.#refusals.set(model, refusal);
    else node.refusals.set(model, refusal);
  }

  /** While this process was stopped nobody could be heard. */
  #forgiveGap(nowMs: number): void {
    const gapMs = nowMs - this.#tickedMs;
    this.#tickedMs = nowMs;
    if (gapMs < CLOCK_GAP_MS) return;
    for (const node of this.#nodes.values()) node.heardMs = Math.min(nowMs, node.heardMs + gapMs);
  }

  #isReachable(worker: ClusterWorker): boolean {
    const node = this.#nodes.get(worker.node);
    return worker.suspectUntilMs <= this.#nowMs && node?.presence === "up" && !node.cordoned;
  }

  #moved(node: ClusterNode, to: Presence, { isNew = false } = {}): PresenceChange[] {
    const from = isNew ? undefined : node.presence;
    if (from === to) return [];
    node.presence = to;
    node.sinceMs = this.#nowMs;
    return [{ node: node.name, from, to }];
  }

  /** Returns whether it has become free. */
  #update(worker: ClusterWorker): boolean {
    if (worker.suspectUntilMs <= this.#nowMs) this.#suspects.delete(worker);
    return this.#byModel.get(worker.model)?.update(worker, this.#isReachable(worker)) ?? false;
  }

  /** Slots of it were taken or given back. */
  #updateSlots(worker: ClusterWorker): void {
    this.#byModel.get(worker.model)?.updateSlots(worker);
    this.#nodes.get(worker.node)?.changed();
  }

  #learnModels(node: ClusterNode): void {
    const known = new Set(node.models.keys());
    for (const { model } of node.workers) known.add(model);
    for (const model of known) {
      if (!node.known.has(model)) this.#known.set(model, (this.#known.get(model) ?? 0) + 1);
    }
    this.#forgetModels(node, known);
  }

  /** All that a machine knew but these. */
  #forgetModels(node: ClusterNode, kept: ReadonlySet<string>): void {
    for (const model of node.known) {
      if (kept.has(model)) continue;
      const count = this.#known.get(model)! - 1;
      if (count === 0) this.#known.delete(model);
      else this.#known.set(model, count);
    }
    node.known = kept;
  }

  #takeWorkers(
    node: ClusterNode,
    what: { reports: readonly ReportedWorker[]; freed: Set<string>; nowMs: number; wallMs: number },
  ): ClusterWorker[] {
    const left = new Set(node.byId.values());
    for (const report of what.reports) {
      let worker = node.byId.get(report.worker_id);
      if (worker === undefined) {
        // An id that another machine has is either a lie or a mistake.
        if (this.#workers.has(report.worker_id)) continue;
        worker = new ClusterWorker(node.name, report);
        node.byId.set(worker.id, worker);
        this.#workers.set(worker.id, worker);
        if (!this.#byModel.has(worker.model)) this.#byModel.set(worker.model, new ModelWorkers());
      }
      worker.learn(report, what);
      if (this.#update(worker)) what.freed.add(worker.model);
      left.delete(worker);
    }
    for (const worker of left) this.#drop(node, worker);
    node.changed();
    return [...left];
  }

  #lose(node: ClusterNode): ClusterWorker[] {
    const all = [...node.byId.values()];
    this.#forgetModels(node, NO_MODELS);
    for (const worker of all) this.#drop(node, worker);
    return all;
  }

  #drop(node: ClusterNode, worker: ClusterWorker): void {
    node.byId.delete(worker.id);
    node.changed();
    this.#workers.delete(worker.id);
    this.#suspects.delete(worker);
    const same = this.#byModel.get(worker.model)!;
    same.delete(worker);
    if (same.all.size === 0) this.#byModel.delete(worker.model);
  }
}
