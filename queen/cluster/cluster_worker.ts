/** One worker, as the queen knows it. */
import { decodeBlocks } from "../../protocol/prefix_blocks.ts";
import type { ReportedWorker } from "../../protocol/queen_schemas.ts";
import type { BackendName } from "../../protocol/spawn_request.ts";
import { VOUCHED_AFTER_MS } from "../limits.ts";
import type { WorkerView } from "../placement/view.ts";
import { BlockSet } from "./block_set.ts";

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
  blocks = new BlockSet();
  readsPerSecond?: number;
  memoryMb = 0;
  pinned = false;
  /** Why its hive has given it up. */
  failure?: string;
  lastUsedMs = -Infinity;
  /** Slots that answers of this queen take. */
  own = 0;
  /** The most of them since the last report. */
  ownPeak = 0;
  /** Slots that others have taken. */
  others = 0;
  /** It was lost to somebody a moment ago: nothing new goes there until then … */
  suspectUntilMs = 0;
  /** … or until its hive vouches for it in a report that was made later. */
  suspectedMs = 0;
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

  /** Takes over what was reported; `wallMs` is the time of day at `nowMs` of the queen's clock. */
  learn(report: ReportedWorker, { nowMs, wallMs }: { nowMs: number; wallMs: number }): void {
    this.state = stateOf(report);
    this.slots = report.slots_total;
    this.context = report.context;
    this.embeds = report.embeds;
    this.memoryMb = report.memory_mb;
    this.pinned = report.pinned;
    this.failure = report.failure;
    const unusedMs = Math.max(0, wallMs - report.last_activity_unix * 1000);
    this.lastUsedMs = Math.max(this.lastUsedMs, nowMs - unusedMs);
    if (report.blocks !== undefined) this.blocks = new BlockSet(decodeBlocks(report.blocks));
    // What was seen taken may have been ours at any time since the last report.
    this.others = Math.max(0, report.slots_total - report.slots_available - this.ownPeak);
    this.ownPeak = this.own;
    if (this.state === "ready" && nowMs - this.suspectedMs >= VOUCHED_AFTER_MS) this.suspectUntilMs = 0;
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
