/** The cluster as placement sees it: plain data that somebody else keeps. */
import type { BackendName } from "../../protocol/spawn_request.ts";

/** Whether a hive is heard of: lately, not for some heartbeats, not for many. */
export type Presence = "up" | "stale" | "down";

/** A worker. */
export interface WorkerView {
  readonly id: string;
  /** Its machine. */
  readonly node: string;
  readonly model: string;
  readonly backend: BackendName;
  readonly device: number;
  readonly state: "loading" | "ready" | "leaving";
  readonly slots: number;
  /** Of these, those that are taken. */
  readonly busy: number;
  /** Of these, those whose requests have told nothing yet. */
  readonly untold: number;
  /** A suspect is tried there: nothing new goes there until then, in milliseconds on the queen's clock. */
  readonly trialUntilMs: number;
  /** Tokens of one slot; undefined until it is known. */
  readonly context?: number;
  /** Only embeddings come from it; undefined until it is known. */
  readonly embeds?: boolean;
  /** Hashes of the prompt prefixes that its slots still hold, see `prefixes.ts`. */
  readonly blocks: { readonly size: number; has(block: number): boolean };
  /** Prompt tokens that it reads in a second; undefined until it was measured. */
  readonly readsPerSecond?: number;
  /** What it takes of its device's memory. */
  readonly memoryMb: number;
  /** Never evicted. */
  readonly pinned: boolean;
  /** When its last answer began or ended, on the queen's clock. */
  readonly lastUsedMs: number;
}

/** The workers of one model that can be asked or soon will be, in a form that does not grow with those that are busy. */
export interface ModelView {
  /** Those that have a free slot. */
  readonly free: Iterable<WorkerView>;
  /** How many answer, those without a free slot included. */
  readonly ready: number;
  /** How many are being loaded. */
  readonly loading: number;
  /** The largest context of those that answer; undefined: not all are known. */
  readonly context?: number;
  /** Whether those that answer only make embeddings; undefined: they differ, or it is not known. */
  readonly embeds?: boolean;
}

/** The same of some workers, by looking at each. */
export function modelViewOf(workers: Iterable<WorkerView>): ModelView {
  const free: WorkerView[] = [];
  const ready: WorkerView[] = [];
  let loading = 0;
  for (const worker of workers) {
    if (worker.state === "loading") loading++;
    if (worker.state !== "ready") continue;
    ready.push(worker);
    if (worker.busy < worker.slots) free.push(worker);
  }
  return { free, ready: ready.length, loading, ...factsOf(ready) };
}

/** What is common to workers that answer. */
export function factsOf(ready: Iterable<WorkerView>): Pick<ModelView, "context" | "embeds"> {
  let context = 0;
  const embeds = new Set<boolean | undefined>();
  for (const worker of ready) {
    context = Math.max(context, worker.context ?? Infinity);
    embeds.add(worker.embeds);
  }
  return {
    context: embeds.size === 0 || context === Infinity ? undefined : context,
    embeds: embeds.size === 1 ? [...embeds][0] : undefined,
  };
}

/** A device of a machine. */
export interface DeviceView {
  readonly backend: BackendName;
  readonly index: number;
  /** What a new worker may take; below nothing where other programs hold some of what is kept for them. */
  readonly freeMb: number;
  /** Kept for other programs, whatever is free. */
  readonly reserveMb?: number;
  readonly totalMb: number;
}

/** Why a machine could not take a model, as its hive said. */
export interface Refusal {
  /** When it said so … */
  readonly atMs: number;
  /** … and until when it is not asked again. */
  readonly untilMs: number;
  readonly code: string;
  readonly message: string;
}

/** A machine. */
export interface NodeView {
  readonly name: string;
  readonly presence: Presence;
  /** Nothing new goes there. */
  readonly cordoned: boolean;
  readonly devices: readonly DeviceView[];
  /** Sizes of models whose files are there, in bytes. */
  readonly models: ReadonlyMap<string, number>;
  readonly workers: Iterable<WorkerView>;
  /** By model. */
  readonly refusals: ReadonlyMap<string, Refusal>;
  /** Loads that are under way there. */
  readonly loads: number;
  /** Whether one of them is of this model. */
  isLoading(model: string): boolean;
  /** When it was last heard of, on the queen's clock. */
  readonly heardMs: number;
  /** The same as {@linkcode roomOf} it. */
  readonly roomMb: number;
}

/** The most that a model may take on a machine now, with every idle worker of a device gone for it. */
export function roomOf({ devices, workers }: Pick<NodeView, "devices" | "workers">): number {
  let most = 0;
  for (const device of devices) {
    let room = device.freeMb;
    for (const worker of workers) if (mayLeave(worker, device)) room += worker.memoryMb;
    most = Math.max(most, room);
  }
  return most;
}

/** Whether a worker can make room for another model on a device. */
export function mayLeave(worker: WorkerView, { backend, index }: DeviceView): boolean {
  return worker.backend === backend && worker.device === index && worker.state === "ready" &&
    worker.busy === 0 && !worker.pinned;
}

/** Everything. */
export interface ClusterView {
  nodes(): Iterable<NodeView>;
  node(name: string): NodeView | undefined;
  /** Those of one model, on machines that are up and not cordoned; with `nodes`, on no others than these. */
  workersOf(model: string, nodes?: Iterable<string>): Iterable<WorkerView>;
  /** The same as {@linkcode modelViewOf} of them. */
  modelView(model: string): ModelView;
  /** Loads of a model that are under way. */
  loadsOf(model: string): number;
  /** Why no machine needs to try a model at present. */
  refusalOf(model: string): Refusal | undefined;
  /** Bytes of a model's files, as any machine knows them. */
  sizeOf(model: string): number | undefined;
  /** Hives may not have reported yet: what is not there may be there in a moment. */
  readonly settling: boolean;
}

/** What is to be placed. */
export interface Wish {
  readonly model: string;
  /** Only there. */
  readonly node?: string;
  /** Only on one of these. */
  readonly nodes?: ReadonlySet<string>;
  /** False: no model is downloaded for it, so it is loaded only where its files are. */
  readonly downloads?: boolean;
  readonly backend?: BackendName;
  readonly device?: number;
  /** It wants embeddings; undefined: it does not matter. */
  readonly embeds?: boolean;
  /** Tokens that prompt and answer need at least. */
  readonly context?: number;
  /** Probable prompt tokens. */
  readonly promptTokens?: number;
  /** Hashes of its prompt's prefixes, the shortest first. */
  readonly blocks?: ArrayLike<number>;
  /** The worker that had the last request of its session. */
  readonly preferred?: string;
  /** It lost a worker and has told nothing since: it is tried apart from others, see `suspicion.ts`. */
  readonly suspect?: boolean;
  /** One worker of the model is not enough: another is wanted where there is room, also while one is free. */
  readonly grow?: boolean;
  /** Slots that it takes at once; where a worker has fewer, all of that one's. Default: 1. */
  readonly slots?: number;
  /** Not there: its free slots are kept for a request that needs several. */
  readonly avoid?: string;
  /**
   * It was accepted for good, so it waits until its own deadline for machines that are gone; with `any`, also for one
   * that was never heard of, because an earlier queen accepted it and knew that machine.
   */
  readonly patient?: "gone" | "any";
}

/** Whether a wish lets a machine be asked at all. */
export function mayGoTo({ node, nodes }: Pick<Wish, "node" | "nodes">, name: string): boolean {
  return (node === undefined || node === name) && (nodes === undefined || nodes.has(name));
}

/** What keeps a wish from places where others of the same model may go; the same text for the same restrictions. */
export function restrictionsOf({ node, nodes, backend, device, downloads }: Wish): string {
  if ((node ?? nodes ?? backend ?? device) === undefined && downloads !== false) return "";
  return JSON.stringify([node, nodes && [...nodes].sort(), backend, device, downloads]);
}
