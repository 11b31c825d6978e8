/** One machine, as the queen knows it. */
import type { Device } from "../../protocol/hive_schemas.ts";
import type { Heartbeat } from "../../protocol/queen_schemas.ts";
import { REPLACED_INSTANCES_MAX } from "../limits.ts";
import { type DeviceView, type NodeView, type Presence, type Refusal, roomOf } from "../placement/view.ts";
import { RecentSet } from "../recent_map.ts";
import type { ClusterWorker } from "./cluster_worker.ts";

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
  heardMs = 0;
  devices: readonly DeviceView[] = [];
  loads = 0;
  /** Models whose files are there, or that a worker there has loaded. */
  known: ReadonlySet<string> = new Set();
  /** Instances that another has taken the place of. */
  readonly replaced = new RecentSet(REPLACED_INSTANCES_MAX);
  readonly #loads = new Map<string, number>();
  #roomMb: number | undefined;
  #devices: readonly Device[] = [];
  #memory = { total_mb: 0, free_mb: 0, reserve_mb: 0 };

  constructor(name: string) {
    this.name = name;
  }

  get roomMb(): number {
    return this.#roomMb ??= roomOf(this);
  }

  /** Its workers have changed, or what they have to do. */
  changed(): void {
    this.#roomMb = undefined;
  }

  get workers(): Iterable<ClusterWorker> {
    return this.byId.values();
  }

  get memory(): Readonly<Heartbeat["memory"]> {
    return this.#memory;
  }

  isLoading(model: string): boolean {
    return this.#loads.has(model);
  }

  /** A load begins (1) or ends (-1). */
  countLoad(model: string, by: 1 | -1): void {
    this.loads += by;
    const loads = (this.#loads.get(model) ?? 0) + by;
    if (loads === 0) this.#loads.delete(model);
    else this.#loads.set(model, loads);
  }

  /** Takes over what was reported of the machine itself. */
  learn(report: Heartbeat, nowMs: number): void {
    if (this.instance !== "" && this.instance !== report.instance) this.replaced.add(this.instance);
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
    this.devices = devicesOf(this.#devices, this.#memory);
  }
}

function devicesOf(devices: readonly Device[], memory: Heartbeat["memory"]): DeviceView[] {
  const { free_mb, reserve_mb, total_mb } = memory;
  return devices.map(({ backend, index, memory_free_mb, memory_total_mb }) =>
    backend === "cpu"
      ? { backend, index, freeMb: free_mb - reserve_mb, totalMb: total_mb, reserveMb: reserve_mb }
      : { backend, index, freeMb: memory_free_mb, totalMb: memory_total_mb }
  );
}
