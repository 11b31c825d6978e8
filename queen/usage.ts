/** What keys use, by model and day: counted here, stored a moment later, told by the interface and as metrics. */
import type { Logger } from "../daemon/log.ts";
import { METRIC_KEYS_MAX, USAGE_KEPT_DAYS, USAGE_MODELS_MAX, USAGE_WRITE_INTERVAL_MS } from "./limits.ts";
import type { KeyStore, Usage } from "./store/key_store.ts";

/** Milliseconds of a day. */
export const DAY_MS = 86_400_000;
/** Stands for the models, or keys, that are too many to be told apart. No model and no key has this name. */
export const OTHERS = "(others)";

/** What one request took. */
export interface Took {
  /** Prompt tokens, cached ones included. */
  readonly read: number;
  readonly cached: number;
  readonly made: number;
  readonly seconds: number;
}

/** Options of {@linkcode UsageCounts}. */
export interface UsageOptions {
  store: KeyStore;
  log: Logger;
  /** Wall clock, in ms. */
  now: () => number;
}

/** See above. */
export class UsageCounts {
  readonly #options: UsageOptions;
  /** By key: its models of today. */
  #models = new Map<string, Set<string>>();
  #today = "";
  #unstored = new Map<string, Usage>();
  readonly #totals = new Map<string, Omit<Usage, "key" | "model" | "day">>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  /** Nothing is counted yet. */
  constructor(options: UsageOptions) {
    this.#options = options;
  }

  /** A request has ended that a worker has had. */
  add(key: string, model: string, took: Took): void {
    const day = dayOf(this.#options.now());
    if (day !== this.#today) {
      this.#today = day;
      this.#models = new Map();
      this.prune().catch((error) => this.#options.log.error("old usage stays", { error }));
    }
    const counted = { key, model: this.#modelOf(key, model), day };
    const id = JSON.stringify(counted);
    this.#unstored.set(id, { ...counted, ...sum(this.#unstored.get(id), took) });
    const label = this.#totals.has(key) || this.#totals.size < METRIC_KEYS_MAX ? key : OTHERS;
    this.#totals.set(label, sum(this.#totals.get(label), took));
    if (this.#closed) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.flush().catch((error) => this.#options.log.error("usage is not stored", { error }));
    }, USAGE_WRITE_INTERVAL_MS);
  }

  /** By key, since the queen was started; for metrics. */
  get totals(): ReadonlyMap<string, Omit<Usage, "key" | "model" | "day">> {
    return this.#totals;
  }

  /** What is stored and what is about to be. */
  async between(of: { key?: string; fromDay: string; toDay: string }): Promise<Usage[]> {
    await this.flush();
    return await this.#options.store.usage(of);
  }

  /** Forgets what is too old. */
  async prune(): Promise<void> {
    const { store, now } = this.#options;
    await store.pruneUsage(dayOf(now() - USAGE_KEPT_DAYS * DAY_MS));
  }

  /** Stores what is not stored yet. */
  async flush(): Promise<void> {
    if (this.#unstored.size === 0 || this.#closed) return;
    const usage = this.#unstored;
    this.#unstored = new Map();
    try {
      await this.#options.store.addUsage([...usage.values()]);
    } catch (error) {
      for (const [id, one] of usage) {
        const since = this.#unstored.get(id);
        this.#unstored.set(id, since === undefined ? one : { ...one, ...sum(since, one, one.requests) });
      }
      throw error;
    }
  }

  /** Nothing is stored after that. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.flush();
    this.#closed = true;
  }

  #modelOf(key: string, model: string): string {
    const models = this.#models.get(key) ?? new Set();
    this.#models.set(key, models);
    if (!models.has(model) && models.size >= USAGE_MODELS_MAX) return OTHERS;
    models.add(model);
    return model;
  }
}

/** A day as it is stored, UTC. */
export function dayOf(unixMs: number): string {
  return new Date(unixMs).toISOString().slice(0, 10);
}

function sum(
  one: Omit<Usage, "key" | "model" | "day"> | undefined,
  more: Took,
  requests = 1,
): Omit<Usage, "key" | "model" | "day"> {
  return {
    requests: (one?.requests ?? 0) + requests,
    read: (one?.read ?? 0) + more.read,
    cached: (one?.cached ?? 0) + more.cached,
    made: (one?.made ?? 0) + more.made,
    seconds: (one?.seconds ?? 0) + more.seconds,
  };
}
