/** From a plan to a running process. */
import { randomBytes } from "node:crypto";
import type { Config } from "../../home/config_schema.ts";
import { newKey } from "../../home/keys.ts";
import { workerLogPath } from "../logs/old_logs.ts";
import { workerArgs, type WorkerPlace } from "./command.ts";
import type { SpawnPlan } from "./preflight.ts";
import type { Processes, WorkerProcess } from "./process.ts";
import type { WorkerRecord } from "./registry.ts";
import { notStartable } from "./start_errors.ts";

/** Random bytes of a worker's id: short enough to type, long enough never to repeat. */
const ID_BYTES = 6;

/** Options of {@linkcode launchWorker}. */
export interface LaunchWorkerOptions {
  /** The rbee home, for the log. */
  home: string;
  /** Program and leading arguments. */
  command: readonly string[];
  /** Its environment, without its secrets. */
  env: Record<string, string>;
  /** See {@linkcode WorkerPlace}. */
  place: WorkerPlace;
  /** Pause between the hive's questions for its health. */
  healthIntervalSeconds: number;
  /** Whether its process is confined. */
  sandbox: Config["hive"]["worker_sandbox"];
  /** Where it is started. */
  processes: Processes;
  /** See {@linkcode WorkerRecord}. */
  idleTimeoutSeconds: number;
  /** See {@linkcode WorkerRecord}. */
  pinned: boolean;
  /** See {@linkcode WorkerRecord}. */
  expectedMb: number;
  /** See {@linkcode WorkerRecord}. */
  requiredMb: number;
  /** See {@linkcode WorkerRecord}. */
  startedUnix: number;
}

/** A worker's process just after its start. */
export interface LaunchedWorker {
  /** `url` and `identity` are still to come. */
  record: WorkerRecord;
  /** Running. */
  process: WorkerProcess;
  /** What its ready callback must show. */
  token: string;
}

/**
 * Starts a worker with secrets of its own. Does not block.
 *
 * @throws {RbeeError} `WORKER_START_FAILED` when the program can't be executed.
 */
export function launchWorker(plan: SpawnPlan, options: LaunchWorkerOptions): LaunchedWorker {
  const { home, command, env, place, healthIntervalSeconds, sandbox, processes, ...known } = options;
  const id = randomBytes(ID_BYTES).toString("hex");
  const apiKey = newKey();
  const token = newKey();
  const logPath = workerLogPath(home, id);
  try {
    const process = processes.launch({
      command,
      args: workerArgs(id, { plan, place, healthIntervalSeconds, sandbox }),
      env: { ...env, RBEE_WORKER_API_KEY: apiKey, RBEE_CALLBACK_TOKEN: token },
      logPath,
    });
    const record = {
      ...{ ...plan, ...known, id, apiKey, logPath, pid: process.pid },
      ...{ identity: "", url: null, planMb: 0 },
    };
    return { record, process, token };
  } catch (error) {
    throw notStartable(command[0], error);
  }
}
