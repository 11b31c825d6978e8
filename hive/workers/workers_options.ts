/** What the hive gives its workers' owner. */
import type { Logger } from "../../daemon/log.ts";
import type { Config } from "../../home/config_schema.ts";
import type { Clock } from "../../daemon/clock.ts";
import type { Hardware } from "../hardware.ts";
import type { GgufFacts } from "../models/gguf.ts";
import type { Quantisation } from "../models/model_files.ts";
import type { WorkerPlace } from "./command.ts";
import type { Connect } from "./connection.ts";
import type { LoadHistory } from "./load_history.ts";
import type { MemoryGroups } from "./memory_groups.ts";
import type { Processes } from "./process.ts";
import type { WorkerRegistry } from "./registry.ts";
import type { WorkerEvent } from "./worker_options.ts";

/** What `Workers` (workers.ts) needs. */
export interface WorkersOptions {
  /** The rbee home: logs are written there. */
  home: string;
  /** Ports and time limits. */
  config: Pick<
    Config["hive"],
    | "worker_ports"
    | "idle_timeout"
    | "callback_timeout"
    | "load_timeout"
    | "health_interval"
    | "reserve_mb"
    | "worker_memory_margin_mb"
    | "worker_sandbox"
  >;
  /** Rows of the workers that may be alive. */
  registry: WorkerRegistry;
  /** What loads took. */
  history: LoadHistory;
  /** The file of a model that is on this machine, else undefined. */
  findModel: (modelRef: string) => Promise<string | undefined>;
  /** What is read of its file. */
  readFacts: (path: string) => Promise<GgufFacts>;
  /** Room where logs and the registry are written, in MB. */
  freeDiskMb: () => Promise<number>;
  /** The same model in other quantisations, here or at its hub, as far as that can be told soon. */
  findAlternatives: (modelRef: string) => Promise<Quantisation[]>;
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
  /** Whether workers' pulses are watched, see `pulse.ts`. Default: true; real processes can't keep up with a test's clock. */
  pulses?: boolean;
  /** Default: the machine's. */
  clock?: Clock;
  /** Default: over HTTP. */
  connect?: Connect;
  /** Default: the machine's. */
  processes?: Processes;
  /** Where the kernel keeps limits of memory; absent: nowhere. */
  groups?: MemoryGroups;
}
