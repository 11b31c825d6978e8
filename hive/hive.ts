/** One hive, put together from its parts. */
import { join } from "@std/path";
import type { DatabaseSync } from "node:sqlite";
import type { Logger } from "../daemon/log.ts";
import type { App } from "../daemon/serve.ts";
import type { Config } from "../home/config_schema.ts";
import type { Environment } from "../home/paths.ts";
import { DEFAULT_MODEL_REF } from "../protocol/model_ref.ts";
import type { QueenClient } from "../protocol/queen_client.ts";
import { createHiveApp } from "./app.ts";
import { type Clock, systemClock } from "../daemon/clock.ts";
import { openHiveDatabase } from "./database.ts";
import { HiveEvents } from "./events.ts";
import { Hardware, type MachineMemory } from "./hardware.ts";
import { ALTERNATIVES_TIMEOUT_MS } from "./limits.ts";
import { keepLogsTidy } from "./logs/follow.ts";
import type { HiveLogs } from "./logs/hive_logs.ts";
import { watchMemory } from "./memory_watch.ts";
import { HiveMetrics } from "./metrics.ts";
import { noteModelUse } from "./model_use.ts";
import { diskSpace } from "./models/disk.ts";
import { readGgufFacts } from "./models/gguf.ts";
import { Models } from "./models/models.ts";
import { preload } from "./preload.ts";
import { QueenReports } from "./queen_reports.ts";
import type { WorkerPlace } from "./workers/command.ts";
import { LoadHistory } from "./workers/load_history.ts";
import { guardMemory } from "./workers/memory_guard.ts";
import { MemoryGroups } from "./workers/memory_groups.ts";
import { HIVE_MIGRATIONS, WorkerRegistry } from "./workers/registry.ts";
import { SYSTEM_PROCESSES } from "./workers/process.ts";
import { TELLS_PRIVATE_MEMORY } from "./workers/process_memory.ts";
import { endStrays } from "./workers/strays.ts";
import { Workers } from "./workers/workers.ts";

/** What {@linkcode createHive} needs. */
export interface HiveOptions {
  /** The rbee home; must exist. */
  home: string;
  /** The whole configuration. */
  config: Config;
  /** The hive's own key. */
  apiKey: string;
  /** The Hugging Face variables. */
  env: Environment;
  /** Folder with the models that ship with rbee. */
  builtinDir: string;
  /** Program and leading arguments of a worker. */
  workerCommand: readonly string[];
  /** The whole environment of workers, without their own secrets. */
  workerEnv: Record<string, string>;
  /** Where workers listen and report; asked at each spawn, because the hive's port is not known before it is bound. */
  place: () => Omit<WorkerPlace, "ports">;
  /** Where the hive logs … */
  log: Logger;
  /** … and where all logs of the machine are read. */
  logs: HiveLogs;
  /** The hive's log file, if it writes one. */
  logFile?: string;
  /** Whom it reports to; absent: nobody. */
  queen?: {
    client: QueenClient;
    /** What this machine is called. */
    name: string;
    /** Where the queen reaches this hive. */
    ownUrl: () => string;
  };
  /** Where the kernel limits the memory of workers. Default: the machine's control groups, where it can be had. */
  groups?: MemoryGroups;
  /** See `WorkersOptions`. */
  pulses?: boolean;
  /** Default: the machine's. */
  clock?: Clock;
  /** Default: the machine's. */
  memory?: () => MachineMemory;
}

/** The parts of a hive. */
export interface Hive {
  readonly app: App;
  readonly hardware: Hardware;
  readonly models: Models;
  readonly workers: Workers;
  readonly registry: WorkerRegistry;
  /** Takes over what the last hive left. */
  adopt(): Promise<void>;
  /** What the hive does by itself once it serves: nothing of it is waited for. */
  startWork(): void;
  /** Ends that. */
  stopWork(): Promise<void>;
  /** Of the registry; closing it is the last step. */
  readonly database: DatabaseSync;
}

/** Puts a hive together. Opens its databases, and blocks for that; starts nothing. */
export function createHive(options: HiveOptions): Hive {
  const { home, config, apiKey, log, logs, clock = systemClock } = options;
  const command = options.workerCommand;
  const metrics = new HiveMetrics();
  const events = new HiveEvents();
  const models = new Models({
    ...{ home, config, env: options.env, builtinDir: options.builtinDir, log },
    onDownload: (job, event) => {
      metrics.downloadEvent(job.id, event);
      events.download({ download_id: job.id, model_ref: job.reference }, event);
      if (event.stage === "complete") reports?.soon();
    },
  });
  const hardware = new Hardware({
    ...{ command, env: options.workerEnv, log, memory: options.memory },
    backends: config.hive.backends,
    modelsDir: models.modelsDir,
  });
  const { database, isNew } = openHiveDatabase(join(home, "hive.db"), { migrations: HIVE_MIGRATIONS, log });
  const registry = new WorkerRegistry(database);
  const { groups = new MemoryGroups({ log }) } = options;
  const workers = new Workers({
    ...{ home, config: config.hive, hardware, command, env: options.workerEnv, log, clock },
    ...{ registry, history: new LoadHistory(database, log), place: options.place },
    findModel: async (modelRef) => (await models.find(modelRef))?.local_path,
    readFacts: readGgufFacts,
    freeDiskMb: async () => (await diskSpace(home)).freeBytes / 1e6,
    ...{ groups, pulses: options.pulses },
    findAlternatives: (modelRef) => models.alternatives(modelRef, { timeoutMs: ALTERNATIVES_TIMEOUT_MS }),
    onEvent: (event) => {
      metrics.workerEvent(event);
      events.worker(event);
      logs.workerEvent(event);
      noteModelUse(models, event);
      reports?.soon();
    },
  });
  const reports = options.queen && new QueenReports({
    ...{ name: options.queen.name, queen: options.queen.client, clock, log },
    place: () => ({ url: options.queen!.ownUrl(), apiKey }),
    workers: () => workers.report(),
    models: () => models.present(),
    devices: async () => (await hardware.detect()).devices,
    memory: () => ({ ...hardware.memory(), reserve_mb: config.hive.reserve_mb }),
    cpu: () => hardware.cpu(),
  });
  const stopping = new AbortController();
  const { signal } = stopping;
  return {
    app: createHiveApp({
      ...{ apiKey, log, config: config.hive, hardware, models, workers, metrics, events, logs, clock },
      workerMemory: async () => {
        const home = await groups.home();
        return {
          margin_mb: config.hive.worker_memory_margin_mb,
          watched: TELLS_PRIVATE_MEMORY,
          by_kernel: "path" in home,
          why_not: "path" in home ? undefined : home.reason,
        };
      },
    }),
    ...{ hardware, models, workers, registry },
    async adopt() {
      await workers.adopt();
      if (!isNew) return;
      const known = new Set(workers.snapshot().map(({ worker_id }) => worker_id));
      endStrays({ home, known, processes: SYSTEM_PROCESSES, clock, log })
        .catch((error) => log.error("workers that no registry knows may be left", { error }));
    },
    startWork() {
      models.resumeDownloads();
      if (reports !== undefined) {
        // What ships with rbee is on every machine: it need not be used first for the queen to know.
        models.find(DEFAULT_MODEL_REF).catch((error) => log.error("the built-in model is missing", { error }))
          .finally(() => void reports.run(signal));
      }
      void keepLogsTidy(logs, { clock, signal, log, ownFile: options.logFile });
      void preload(config.hive.preload, { models, workers, signal, clock, log });
      void guardMemory({ workers, processes: SYSTEM_PROCESSES, signal, clock, log });
      void watchMemory({
        ...{ workers, signal, clock, log, reserveMb: config.hive.reserve_mb },
        memory: () => hardware.memory(),
        onChange: (figures) => events.memory(figures),
      });
      // The first spawn need not wait for it then; what goes wrong is told to whoever asks.
      hardware.detect().catch((error) => log.warn("devices not known yet", { error }));
    },
    async stopWork() {
      stopping.abort();
      await reports?.leave();
    },
    database,
  };
}
