/**
 * A machine that is not there: processes, memory and a clock that the test moves, around the hive's real workers'
 * owner, its real decisions and its real registry.
 */
import type { DatabaseSync } from "node:sqlite";
import { createLogger } from "../../daemon/log.ts";
import { openDatabase } from "../../home/database.ts";
import { ConfigSchema } from "../../home/config_schema.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { Device } from "../../protocol/hive_schemas.ts";
import { FakeClock } from "../../tests/helpers/fake_clock.ts";
import type { Clock } from "../../daemon/clock.ts";
import { watchMemory } from "../memory_watch.ts";
import { LoadHistory } from "./load_history.ts";
import { guardMemory } from "./memory_guard.ts";
import type { Processes, WorkerProcess } from "./process.ts";
import { HIVE_MIGRATIONS, WorkerRegistry } from "./registry.ts";
import { factsOf, type Fault, SimulatedWorker } from "./simulated_worker_test_bed.ts";
import type { WorkerEvent } from "./worker_options.ts";
import { Workers } from "./workers.ts";

/** Memory of the machine. */
export const TOTAL_MB = 8_000;
/** What the hive leaves to others. */
export const RESERVE_MB = 400;
const CPU: Device = {
  ...{ backend: "cpu", index: 0, name: "CPU", description: "none", memory_total_mb: TOTAL_MB },
  memory_free_mb: 0,
};

/** The machine: at most one hive at a time, and processes that outlive it. */
export class Machine {
  readonly clock = new FakeClock();
  readonly processes = new Map<number, SimulatedWorker>();
  /** MB that other programs hold. */
  othersMb = 0;
  /** What the next process does wrong. */
  nextFault: () => Fault = () => "none";
  hive: Workers | undefined;
  registry: WorkerRegistry;
  readonly #home: string;
  readonly #database: DatabaseSync;
  readonly #onEvent: (event: WorkerEvent) => void;
  #end = new AbortController();
  #nextPid = 1;

  constructor(home: string, onEvent: (event: WorkerEvent) => void) {
    this.#home = home;
    this.#onEvent = onEvent;
    this.#database = openDatabase(`${home}/hive.db`, HIVE_MIGRATIONS);
    this.registry = new WorkerRegistry(this.#database);
  }

  get alive(): SimulatedWorker[] {
    return [...this.processes.values()].filter(({ alive }) => alive);
  }

  get freeMb(): number {
    return TOTAL_MB - this.othersMb - this.alive.reduce((sum, { holdsMb }) => sum + holdsMb, 0);
  }

  byId(id: string): SimulatedWorker | undefined {
    return [...this.processes.values()].find((process) => process.id === id);
  }

  /** A hive starts and looks for the workers of the one before. */
  async start(): Promise<void> {
    const end = this.#end = new AbortController();
    const isAlive = () => !end.signal.aborted;
    // A killed hive does nothing any more, whatever it had planned.
    const clock: Clock = {
      unixMs: () => this.clock.unixMs(),
      after: (ms, task) => this.clock.after(ms, () => isAlive() && task()),
    };
    const memory = () => ({ total_mb: TOTAL_MB, free_mb: Math.max(0, this.freeMb) });
    const log = createLogger({ part: "hive", level: "error", format: "json", write: () => {} });
    const config = ConfigSchema.parse({ hive: { reserve_mb: RESERVE_MB } }).hive;
    const hive = new Workers({
      ...{ home: this.#home, config, clock, log, command: ["none"], env: {}, registry: this.registry },
      history: new LoadHistory(this.#database, log),
      hardware: { memory, detect: () => Promise.resolve({ rbee: "", llama_cpp: "", devices: [CPU] }) },
      findModel: (modelRef) => Promise.resolve(modelRef.replace("file:", "")),
      readFacts: (path) => Promise.resolve(factsOf(path)),
      freeDiskMb: () => Promise.resolve(1_000),
      findAlternatives: () => Promise.resolve([]),
      place: () => ({ host: "", advertise: "", callbackUrl: "" }),
      onEvent: (event) => {
        if (isAlive()) this.#onEvent(event);
      },
      connect: ({ url, apiKey }) => {
        const worker = [...this.processes.values()].find((process) => process.url === url);
        if (worker?.apiKey !== apiKey) throw new RbeeError("INVALID_API_KEY", "Another worker.");
        return worker.api(isAlive);
      },
      processes: this.#host(),
    });
    this.hive = hive;
    await hive.adopt();
    void guardMemory({ workers: hive, processes: this.#host(), clock, log, signal: end.signal });
    void watchMemory({
      ...{ workers: hive, clock, log, memory, reserveMb: RESERVE_MB, onChange: () => {} },
      signal: end.signal,
    });
  }

  /** SIGKILL. */
  killHive(): void {
    this.hive = undefined;
    this.#end.abort();
  }

  /** The hive leaves in order. */
  async stopHive(options: { keepWorkers: boolean }): Promise<void> {
    const hive = this.hive;
    await hive?.close(options);
    this.killHive();
  }

  close(): void {
    this.#database.close();
  }

  #host(): Processes {
    const processOf = (worker: SimulatedWorker): WorkerProcess => ({
      pid: worker.pid,
      exited: worker.exited.promise,
      identity: () => Promise.resolve(`boot/${worker.pid}`),
      kill: (signal) => Promise.resolve(worker.kill(signal)),
      look: () => Promise.resolve(),
      expectExit: () => {},
      detach: () => {},
    });
    return {
      launch: (options) => {
        const worker = new SimulatedWorker(this, {
          ...options,
          pid: this.#nextPid++,
          fault: this.nextFault(),
        });
        this.processes.set(worker.pid, worker);
        return processOf(worker);
      },
      tail: () => Promise.resolve([]),
      workers: () => Promise.resolve([]),
      privateMemory: (pids) =>
        Promise.resolve(
          new Map(pids.flatMap((pid): [number, number][] => {
            const worker = this.processes.get(pid);
            return worker?.alive ? [[pid, worker.holdsMb]] : [];
          })),
        ),
      attach: (pid) => {
        const worker = this.processes.get(pid);
        return Promise.resolve(worker?.alive ? processOf(worker) : undefined);
      },
    };
  }
}
