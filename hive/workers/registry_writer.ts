/** Keeps the registry's rows what the workers are, also when it can't be written for a while. */
import type { Logger } from "../../daemon/log.ts";
import type { Clock } from "../../daemon/clock.ts";
import { REGISTRY_RETRY_MS } from "../limits.ts";
import type { WorkerRecord, WorkerRegistry } from "./registry.ts";

/** Options of {@linkcode RegistryWriter}. */
export interface RegistryWriterOptions {
  registry: WorkerRegistry;
  /** The workers that are alive: what the registry should hold. */
  alive: () => readonly WorkerRecord[];
  clock: Clock;
  log: Logger;
}

/** Writes through; what failed (a full disk, another program's lock) is made up for by writing all rows anew. */
export class RegistryWriter {
  readonly #options: RegistryWriterOptions;
  #cancelRetry: (() => void) | undefined;

  constructor(options: RegistryWriterOptions) {
    this.#options = options;
  }

  /** Adds a worker, or writes what changed about it. Never throws. */
  save(record: WorkerRecord): void {
    this.#write((registry) => registry.save(record));
  }

  /** Forgets a worker. Never throws. */
  delete(id: string): void {
    this.#write((registry) => registry.delete(id));
  }

  /** The last try, if one is due; none follows. */
  close(): void {
    if (this.#cancelRetry === undefined) return;
    this.#cancelRetry();
    this.#writeAll();
    this.#cancelRetry?.();
  }

  #write(statement: (registry: WorkerRegistry) => void): void {
    // All rows will be written; one of them before that would be too early for some.
    if (this.#cancelRetry !== undefined) return;
    try {
      statement(this.#options.registry);
    } catch (error) {
      this.#options.log.error("worker registry not written: trying again", { error });
      this.#retryLater();
    }
  }

  #retryLater(): void {
    this.#cancelRetry = this.#options.clock.after(REGISTRY_RETRY_MS, () => this.#writeAll());
  }

  #writeAll(): void {
    const { registry, alive, log } = this.#options;
    this.#cancelRetry = undefined;
    try {
      registry.replaceAll(alive());
      log.info("worker registry written again");
    } catch {
      this.#retryLater();
    }
  }
}
