/** All workers of this machine: the one owner of who exists, who may be reused and what is promised to whom. */
import type { Logger } from "../../daemon/log.ts";
import type { Config } from "../../home/config_schema.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { ReadyCallback, SpawnRequest, SpawnResponse, WorkerInfo } from "../../protocol/hive_schemas.ts";
import { type Clock, systemClock, unixSeconds } from "../clock.ts";
import type { Hardware } from "../hardware.ts";
import { CLOSE_PATIENCE_MS, FAILED_KEPT_MAX } from "../limits.ts";
import { diskSpace } from "../models/disk.ts";
import { readGgufFacts } from "../models/gguf.ts";
import { findAgain } from "./adopt.ts";
import type { WorkerPlace } from "./command.ts";
import { type Connect, connectHttp } from "./connection.ts";
import { checkMemory, planSpawn, type PresentModel, type SpawnPlan } from "./preflight.ts";
import { launchWorker } from "./launch.ts";
import { processIdentity, type WorkerProcess } from "./process.ts";
import type { WorkerRecord, WorkerRegistry } from "./registry.ts";
import { Worker } from "./worker.ts";
import type { WorkerEvent } from "./worker_options.ts";

/** What {@linkcode Workers} needs. */
export interface WorkersOptions {
  /** The rbee home: logs are written there. */
  home: string;
  /** Ports and time limits. */
  config: Pick<
    Config["hive"],
    "worker_ports" | "idle_timeout" | "callback_timeout" | "load_timeout" | "health_interval"
  >;
  /** Rows of the workers that may be alive. */
  registry: WorkerRegistry;
  /** The file of a model that is on this machine, else undefined. */
  findModel: (modelRef: string) => Promise<string | undefined>;
  /** Devices and free memory. */
  hardware: Pick<Hardware, "detect" | "memory">;
  /** Program and leading arguments of a worker. */
  command: readonly string[];
  /** The whole environment of workers, without their own secrets. */
  env: Record<string, string>;
  /** Where workers listen and report; asked at each spawn, because the hive's port is not known before it is bound. */
  place: () => Omit<WorkerPlace, "ports">;
  /** The hive's log. */
  log: Logger;
  /** Told of everything that happens to workers, synchronously. */
  onEvent?: (event: WorkerEvent) => void;
  /** Default: the machine's. */
  clock?: Clock;
  /** Default: over HTTP. */
  connect?: Connect;
}

/** The workers of one machine. */
export class Workers {
  readonly #options: WorkersOptions;
  readonly #clock: Clock;
  readonly #connect: Connect;
  readonly #log: Logger;
  readonly #workers = new Map<string, Worker>();
  /** Model files of spawns on their way to a worker. */
  readonly #wanted = new Set<{ path: string }>();
  #closing = false;

  /** Nothing happens before {@linkcode adopt} or {@linkcode spawn}. */
  constructor(options: WorkersOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#connect = options.connect ?? connectHttp;
    this.#log = options.log;
  }

  /**
   * Starts a worker and waits for its ready callback, or returns one that serves the same model on the same device
   * with the same options. Requests for the same worker at the same time get the same worker.
   *
   * @throws {RbeeError} preflight's errors, `WORKER_START_FAILED`, `SHUTTING_DOWN`.
   */
  async spawn(request: SpawnRequest): Promise<SpawnResponse> {
    const path = await this.#options.findModel(request.model_ref);
    using _wanted = this.#want(path);
    const model: PresentModel | undefined = path === undefined
      ? undefined
      : { path, facts: await readGgufFacts(path) };
    const { freeBytes } = await diskSpace(this.#options.home);
    const { devices } = await this.#options.hardware.detect();
    const plan = planSpawn(request, { model, devices, freeDiskMb: freeBytes / 1e6 });
    this.#requireOpen();
    // From here to the launch nothing waits: two requests can't both find nobody.
    const there = this.#serving(plan);
    const worker = there ?? this.#launch(plan, {
      pinned: request.pin ?? false,
      idleTimeoutSeconds: request.idle_timeout ?? (request.pin ? 0 : this.#options.config.idle_timeout),
      requiredMb: checkMemory(plan, {
        facts: model!.facts,
        devices,
        freeRamMb: this.#options.hardware.memory().free_mb,
        promisedMb: this.#promisedMb(plan),
      }).required_mb,
    });
    await worker.started;
    const { record } = worker;
    if (there !== undefined && (request.idle_timeout ?? request.pin) !== undefined) {
      record.pinned = request.pin ?? record.pinned;
      const idleTimeout = request.idle_timeout ?? (request.pin ? 0 : undefined);
      if (idleTimeout !== undefined) worker.setIdleTimeout(idleTimeout);
      this.#save(record);
    }
    return {
      worker_id: record.id,
      url: record.url!,
      state: worker.state,
      api_key: record.apiKey,
      backend: record.backend,
      device: record.device,
      reused: there !== undefined,
      evicted: [],
    };
  }

  /** Why no worker can be started at present, or undefined. */
  get notReady(): string | undefined {
    return this.#closing ? "The hive is shutting down." : undefined;
  }

  /**
   * A worker's ready callback.
   *
   * @throws {RbeeError} `INVALID_API_KEY` unless the token is the one this worker was given, for the first time.
   */
  acceptCallback(token: string, callback: ReadyCallback): void {
    const worker = this.#workers.get(callback.worker_id);
    if (!worker?.acceptCallback(token, callback.url)) {
      this.#log.warn("ready callback refused", { worker_id: callback.worker_id });
      throw new RbeeError("INVALID_API_KEY", "No worker that this hive is waiting for has this token.");
    }
    this.#save(worker.record);
  }

  /** All workers, oldest first, each just asked how it is. */
  async list(): Promise<WorkerInfo[]> {
    await Promise.all([...this.#workers.values()].map((worker) => worker.probe()));
    return this.snapshot();
  }

  /** All workers as last known, oldest first. */
  snapshot(): WorkerInfo[] {
    return [...this.#workers.values()].map((worker) => worker.info())
      .sort((a, b) => a.started_unix - b.started_unix);
  }

  /**
   * One worker, just asked how it is.
   *
   * @throws {RbeeError} `WORKER_NOT_FOUND`.
   */
  async get(id: string): Promise<WorkerInfo> {
    const worker = this.#require(id);
    await worker.probe();
    return worker.info();
  }

  /**
   * Stops a worker and waits until its process is over; takes a failed one off the list.
   *
   * @throws {RbeeError} `WORKER_NOT_FOUND`.
   */
  async shutdown(id: string): Promise<void> {
    const worker = this.#require(id);
    await worker.stop();
    worker.forget();
  }

  /** Whether a worker has this model file open or is about to, by whatever name. */
  uses(modelPath: string): boolean {
    const taken = [
      ...this.#workers.values().filter(({ alive }) => alive).map(({ record }) => record.modelPath),
      ...this.#wanted.values().map(({ path }) => path),
    ];
    return taken.some((path) => fileBehind(path) === fileBehind(modelPath));
  }

  /** Takes over the workers of the hive before this one, and ends and forgets those that can't be. */
  async adopt(): Promise<void> {
    await Promise.all(this.#options.registry.all().map((record) => this.#adopt(record)));
  }

  /**
   * Stops all workers at the same time, within {@linkcode CLOSE_PATIENCE_MS} and a SIGKILL. With `keepWorkers` those
   * that have called back are left to the next hive. No worker is started afterwards.
   */
  async close(options: { keepWorkers?: boolean } = {}): Promise<void> {
    this.#closing = true;
    const all = [...this.#workers.values()];
    const kept = options.keepWorkers
      ? all.filter((worker) => worker.usable && worker.state !== "starting")
      : [];
    for (const worker of kept) worker.detach();
    const stopped = all.filter((worker) => !kept.includes(worker));
    const cancel = this.#clock.after(CLOSE_PATIENCE_MS, () => stopped.forEach((worker) => worker.hurry()));
    await Promise.all(stopped.map((worker) => worker.stop().then(() => worker.forget())));
    cancel();
  }

  #requireOpen(): void {
    if (this.#closing) {
      throw new RbeeError("SHUTTING_DOWN", "The hive is shutting down and starts no workers.");
    }
  }

  #require(id: string): Worker {
    const worker = this.#workers.get(id);
    if (worker !== undefined) return worker;
    throw new RbeeError(
      "WORKER_NOT_FOUND",
      `There is no worker ${
        JSON.stringify(id.slice(0, 64))
      } on this hive. GET /v1/workers/list shows those there are.`,
    );
  }

  /** From now until disposed nobody may remove this file. */
  #want(path: string | undefined): Disposable | undefined {
    if (path === undefined) return undefined;
    const wish = { path };
    this.#wanted.add(wish);
    return { [Symbol.dispose]: () => void this.#wanted.delete(wish) };
  }

  /** Two references may stand for one file: what is loaded is what counts. */
  #serving(plan: SpawnPlan): Worker | undefined {
    const isSame = ({ record }: Worker) =>
      record.modelPath === plan.modelPath && record.backend === plan.backend &&
      record.device === plan.device &&
      record.slots === plan.slots && record.ctxSize === plan.ctxSize;
    return [...this.#workers.values()].find((worker) => worker.usable && isSame(worker));
  }

  /** Memory that is still free but will soon be taken by workers on the same device, in MB. */
  #promisedMb(plan: SpawnPlan): number {
    return [...this.#workers.values()]
      .filter(({ state }) => state === "starting" || state === "loading")
      .filter(({ record }) => record.backend === plan.backend && record.device === plan.device)
      .reduce((sum, { record }) => sum + record.requiredMb, 0);
  }

  #launch(
    plan: SpawnPlan,
    wishes: { pinned: boolean; idleTimeoutSeconds: number; requiredMb: number },
  ): Worker {
    const { home, command, env, config } = this.#options;
    const place = { ...this.#options.place(), ports: config.worker_ports };
    const { record, process, token } = launchWorker(plan, {
      ...wishes,
      home,
      command,
      env,
      place,
      startedUnix: unixSeconds(this.#clock),
    });
    const worker = this.#add(record, { process, token });
    this.#save(record);
    processIdentity(process.pid).then((identity = "") => {
      record.identity = identity;
      if (worker.alive) this.#save(record);
    }, (error) => this.#log.error("worker can't be adopted by a next hive", { worker_id: record.id, error }));
    this.#log.info("worker started", { worker_id: record.id, pid: process.pid, model_ref: plan.modelRef });
    return worker;
  }

  async #adopt(record: WorkerRecord): Promise<void> {
    const log = this.#log.child({ worker_id: record.id });
    const found = await findAgain(record, { clock: this.#clock, connect: this.#connect, log });
    if (found === undefined) this.#options.registry.delete(record.id);
    else this.#add(record, { ...found, adopted: true }).resume(record.url!, found.ready);
  }

  #add(record: WorkerRecord, of: { process: WorkerProcess; token?: string; adopted?: boolean }): Worker {
    const { config, onEvent } = this.#options;
    const { process, token, adopted = false } = of;
    const worker = new Worker({
      ...{ process, token },
      record,
      clock: this.#clock,
      connect: this.#connect,
      log: this.#log.child({ worker_id: record.id }),
      callbackTimeoutMs: config.callback_timeout * 1000,
      loadTimeoutMs: config.load_timeout * 1000,
      healthIntervalMs: config.health_interval * 1000,
      onEvent: (event) => {
        this.#follow(event);
        onEvent?.(event);
      },
    });
    this.#workers.set(record.id, worker);
    onEvent?.({ kind: "listed", worker, adopted });
    return worker;
  }

  #follow(event: WorkerEvent): void {
    const { record } = event.worker;
    if (event.kind === "exited") {
      this.#write(() => this.#options.registry.delete(record.id));
      return;
    }
    if (event.kind !== "state") return;
    if (event.to === "gone") this.#workers.delete(record.id);
    if (event.to !== "failed") return;
    const failed = [...this.#workers.values()].filter(({ state, alive }) => state === "failed" && !alive);
    for (const worker of failed.slice(0, -FAILED_KEPT_MAX)) worker.forget();
  }

  #save(record: WorkerRecord): void {
    this.#write(() => this.#options.registry.save(record));
  }

  /** A registry that can't be written costs the adoption by the next hive, not the worker. */
  #write(statement: () => void): void {
    try {
      statement();
    } catch (error) {
      this.#log.error("worker registry not written", { error });
    }
  }
}

/** Links followed; the path itself when nothing is there. */
function fileBehind(path: string): string {
  try {
    return Deno.realPathSync(path);
  } catch {
    return path;
  }
}
