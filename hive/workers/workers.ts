/** All workers of this machine: the one owner of who exists, who may be reused and what is promised to whom. */
import type { Logger } from "../../daemon/log.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type {
  Device,
  PastLoad,
  ReadyCallback,
  SpawnResponse,
  WorkerInfo,
} from "../../protocol/hive_schemas.ts";
import type { ReportedWorker } from "../../protocol/queen_schemas.ts";
import type { SpawnRequest } from "../../protocol/spawn_request.ts";
import { type Clock, systemClock, unixSeconds } from "../../daemon/clock.ts";
import { CLOSE_PATIENCE_MS, EVICTION_ROUNDS_MAX, FAILED_KEPT_MAX, LOAD_HISTORY_SHOWN } from "../limits.ts";
import type { GgufFacts } from "../models/gguf.ts";
import type { MemoryEstimate } from "../models/memory_estimate.ts";
import type { Quantisation } from "../models/model_files.ts";
import { findAgain } from "./adopt.ts";
import { type Connect, connectHttp } from "./connection.ts";
import type { Verdict } from "./eviction.ts";
import { FilesInUse } from "./files_in_use.ts";
import { launchWorker } from "./launch.ts";
import { checkMemory, type MemoryDecision, noRoomMade } from "./memory_check.ts";
import { offers, planSpawn, type PresentModel, type SpawnPlan, wishedIdleTimeout } from "./preflight.ts";
import { type Processes, SYSTEM_PROCESSES, type WorkerProcess } from "./process.ts";
import type { WorkerRecord } from "./registry.ts";
import { RegistryWriter } from "./registry_writer.ts";
import { dismiss, holdersOf, memoryFor, squeezedOut } from "./room.ts";
import { Worker } from "./worker.ts";
import type { WorkerEvent } from "./worker_options.ts";
import type { WorkersOptions } from "./workers_options.ts";

/** Which memory workers on the CPU hold. */
const RAM = { backend: "cpu", device: 0 } as const;

/** The workers of one machine. */
export class Workers {
  readonly #options: WorkersOptions;
  readonly #clock: Clock;
  readonly #connect: Connect;
  readonly #processes: Processes;
  readonly #log: Logger;
  readonly #workers = new Map<string, Worker>();
  readonly #registry: RegistryWriter;
  /** Of workers, and of spawns on their way to one. */
  readonly filesInUse = new FilesInUse();
  #closing = false;

  /** Nothing happens before {@linkcode adopt} or {@linkcode spawn}. */
  constructor(options: WorkersOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#connect = options.connect ?? connectHttp;
    this.#processes = options.processes ?? SYSTEM_PROCESSES;
    this.#log = options.log;
    this.#registry = new RegistryWriter({
      registry: options.registry,
      alive: () => this.records,
      ...{ clock: this.#clock, log: this.#log },
    });
  }

  /**
   * Starts a worker and waits for its ready callback, or returns one that serves the same model on the same device
   * with at least as many slots and as much context. Requests for the same worker at the same time get the same worker. Idle workers leave when
   * there is no room otherwise; that is waited for.
   *
   * @throws {RbeeError} preflight's errors, `WORKER_START_FAILED`, `SHUTTING_DOWN`.
   */
  async spawn(request: SpawnRequest): Promise<SpawnResponse> {
    const path = await this.#options.findModel(request.model_ref);
    using _wanted = path === undefined ? undefined : this.filesInUse.want(path);
    const model: PresentModel | undefined = path === undefined
      ? undefined
      : { path, facts: await this.#options.readFacts(path) };
    const freeDiskMb = await this.#options.freeDiskMb();
    const { devices } = await this.#options.hardware.detect();
    const plan = planSpawn(request, { model, devices, freeDiskMb });
    const { worker, evicted } = await this.#obtain(plan, { request, facts: model!.facts, devices });
    await worker.started;
    const { record } = worker;
    if (evicted === undefined) this.#adjust(worker, request);
    return {
      worker_id: record.id,
      url: record.url!,
      state: worker.state,
      api_key: record.apiKey,
      backend: record.backend,
      device: record.device,
      reused: evicted === undefined,
      evicted: evicted ?? [],
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
    this.#registry.save(worker.record);
  }

  /** RAM that other programs can get, in MB: what workers have mapped looks free and is not. */
  get freeRamMb(): number {
    const mapped = holdersOf(this.#workers.values(), RAM).reduce((sum, { mappedMb }) => sum + mappedMb, 0);
    return this.#options.hardware.memory().free_mb - mapped;
  }

  /** Lets idle workers go for other programs that need `missingMb` of RAM. Resolves when they are gone. */
  async relieve(missingMb: number): Promise<void> {
    await this.#probeAll();
    const holders = holdersOf(this.#workers.values(), RAM);
    const verdicts = squeezedOut(holders, { missingMb, clock: this.#clock });
    const left = await dismiss(verdicts, { workers: this.#workers, reason: "squeezed" });
    if (left.length === 0) return;
    this.#log.info("workers left to other programs' need of memory", {
      missing_mb: Math.ceil(missingMb),
      left,
    });
  }

  /** What loads took of late, the latest first. */
  pastLoads(): PastLoad[] {
    return this.#options.history.latest(LOAD_HISTORY_SHOWN);
  }

  /** All workers, oldest first, each just asked how it is. */
  async list(): Promise<WorkerInfo[]> {
    await this.#probeAll();
    return this.snapshot();
  }

  /** All workers as a queen is told, each just asked how it is and what it holds. */
  async report(): Promise<ReportedWorker[]> {
    const called = [...this.#workers.values()].filter(({ record }) => record.url !== null);
    await Promise.all(called.map((worker) => worker.probe({ blocks: true })));
    return called.map((worker) => worker.report());
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

  /** Ids of the processes of all workers that are alive … */
  get pids(): number[] {
    return this.records.map(({ pid }) => pid);
  }

  /** … and all that is kept of them. */
  get records(): WorkerRecord[] {
    return [...this.#workers.values()].filter(({ alive }) => alive).map(({ record }) => record);
  }

  /** A worker holds so much memory of its own, in MB. */
  sawMemory(pid: number, privateMb: number): void {
    this.#workers.values().find(({ alive, record }) => alive && record.pid === pid)?.sawMemory(privateMb);
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
    this.#registry.close();
  }

  async #probeAll(): Promise<void> {
    await Promise.all(this.#workers.values().map((worker) => worker.probe()));
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

  /** One that offers what is planned, the smallest of them. */
  #serving(plan: SpawnPlan): Worker | undefined {
    const size = ({ record }: Worker) => record.slots * record.ctxSize;
    return [...this.#workers.values()].filter((worker) => worker.usable && offers(worker.record, plan))
      .sort((a, b) => size(a) - size(b)).at(0);
  }

  /** A worker for the plan: one that is there (`evicted` is undefined then), or a new one. */
  async #obtain(
    plan: SpawnPlan,
    wish: { request: SpawnRequest; facts: GgufFacts; devices: readonly Device[] },
  ): Promise<{ worker: Worker; evicted?: Verdict[] }> {
    const evicted: Verdict[] = [];
    let asked = false;
    let alternatives: Quantisation[] | undefined;
    let { devices } = wish;
    for (let round = 0;; round++) {
      if (round > 0) ({ devices } = await this.#options.hardware.detect({ fresh: true }));
      this.#requireOpen();
      // From here to the launch nothing waits: two requests can't both find nobody, or both take the same memory.
      const there = this.#serving(plan);
      if (there !== undefined) return { worker: there };
      let decision: MemoryDecision;
      try {
        decision = checkMemory(
          plan,
          memoryFor(plan, { ...this.#memorySources(), facts: wish.facts, devices, alternatives }),
        );
      } catch (error) {
        // Only now is it worth asking what else there is; the refusal that names it is the one to be told.
        if (alternatives !== undefined) throw error;
        [alternatives] = await Promise.all([this.#options.findAlternatives(plan.modelRef), this.#probeAll()]);
        asked = true;
        continue;
      }
      const { estimate, leave } = decision;
      if (leave.length === 0) return { worker: this.#launch(plan, { ...wish, estimate }), evicted };
      if (!asked) {
        // Who was used last only the workers know: clients ask them without their hive.
        await this.#probeAll();
        asked = true;
        continue;
      }
      if (round === EVICTION_ROUNDS_MAX) throw noRoomMade(plan, leave);
      this.#log.info("workers have to leave for another", { model_ref: plan.modelRef, leave });
      evicted.push(...await dismiss(leave, { workers: this.#workers, reason: "evicted" }));
    }
  }

  #memorySources() {
    const { hardware, history, config } = this.#options;
    const workers = this.#workers.values();
    return { ...{ hardware, history, workers }, reserveMb: config.reserve_mb, nowMs: this.#clock.unixMs() };
  }

  /** What a spawn asks of a worker that is there already. */
  #adjust(worker: Worker, { pin, idle_timeout }: SpawnRequest): void {
    worker.record.pinned = pin ?? worker.record.pinned;
    worker.handOut(wishedIdleTimeout({ pin, idle_timeout }) ?? worker.record.idleTimeoutSeconds);
    this.#registry.save(worker.record);
  }

  #launch(plan: SpawnPlan, wish: { request: SpawnRequest; estimate: MemoryEstimate }): Worker {
    const { request, estimate } = wish;
    const { home, command, env, config } = this.#options;
    const place = { ...this.#options.place(), ports: config.worker_ports };
    const { record, process, token } = launchWorker(plan, {
      pinned: request.pin ?? false,
      idleTimeoutSeconds: wishedIdleTimeout(request) ?? config.idle_timeout,
      expectedMb: estimate.expected_mb,
      requiredMb: estimate.required_mb,
      processes: this.#processes,
      home,
      command,
      env,
      place,
      healthIntervalSeconds: config.health_interval,
      sandbox: config.worker_sandbox,
      startedUnix: unixSeconds(this.#clock),
    });
    const worker = this.#add(record, { process, token });
    this.#registry.save(record);
    this.#identify(worker, process);
    this.#log.info("worker started", { worker_id: record.id, pid: process.pid, model_ref: plan.modelRef });
    return worker;
  }

  /** Without it the next hive can't tell the worker from another process. */
  #identify(worker: Worker, process: WorkerProcess): void {
    const { record } = worker;
    process.identity().then((identity = "") => {
      record.identity = identity;
      if (worker.alive) this.#registry.save(record);
    }, (error) => this.#log.error("worker can't be adopted by a next hive", { worker_id: record.id, error }));
  }

  async #adopt(record: WorkerRecord): Promise<void> {
    const log = this.#log.child({ worker_id: record.id });
    const found = await findAgain(record, {
      ...{ clock: this.#clock, connect: this.#connect, processes: this.#processes, log },
    });
    if (found === undefined) return this.#registry.delete(record.id);
    const worker = this.#add(record, { ...found, adopted: true });
    worker.resume(record.url!, found.ready);
    if (record.identity === "") this.#identify(worker, found.process);
  }

  #add(record: WorkerRecord, of: { process: WorkerProcess; token?: string; adopted?: boolean }): Worker {
    const { config, onEvent, groups, pulses: pulse = true } = this.#options;
    const { process, token, adopted = false } = of;
    const worker = new Worker({
      ...{ process, token },
      tail: () => this.#processes.tail(record.logPath),
      record,
      clock: this.#clock,
      connect: this.#connect,
      log: this.#log.child({ worker_id: record.id }),
      callbackTimeoutMs: config.callback_timeout * 1000,
      loadTimeoutMs: config.load_timeout * 1000,
      healthIntervalMs: config.health_interval * 1000,
      memoryMarginMb: config.worker_memory_margin_mb,
      ...{ groups, pulse },
      onEvent: (event) => {
        this.#follow(event);
        onEvent?.(event);
      },
    });
    this.#workers.set(record.id, worker);
    const unwant = this.filesInUse.want(record.modelPath);
    void worker.exited.then(() => unwant[Symbol.dispose]());
    onEvent?.({ kind: "listed", worker, adopted });
    return worker;
  }

  #follow(event: WorkerEvent): void {
    const { record } = event.worker;
    if (event.kind === "exited") {
      this.#registry.delete(record.id);
      return;
    }
    if (event.kind === "measured") this.#noteLoad(event.worker);
    if (event.kind === "limited") this.#registry.save(record);
    if (event.kind !== "state") return;
    if (event.to === "gone") this.#workers.delete(record.id);
    if (event.to !== "failed") return;
    const failed = [...this.#workers.values()].filter(({ state, alive }) => state === "failed" && !alive);
    for (const worker of failed.slice(0, -FAILED_KEPT_MAX)) worker.forget();
  }

  #noteLoad({ record, figures }: Worker): void {
    if (record.expectedMb === 0) return;
    this.#options.history.note(record, {
      expectedMb: record.expectedMb,
      predictedMb: record.requiredMb,
      actualMb: figures.takenMb,
      nowUnix: unixSeconds(this.#clock),
    });
  }
}
