/** `rbee-hive detect` and `rbee-hive status`: what this machine has, and what runs on it. */
import type { LoadedConfig } from "../home/config.ts";
import { createLogger } from "../daemon/log.ts";
import { configuredKey } from "../home/keys.ts";
import { RbeeError } from "../protocol/errors.ts";
import { printable } from "../protocol/printable.ts";
import { HiveClient } from "../protocol/hive_client.ts";
import type { WorkerInfo } from "../protocol/hive_schemas.ts";
import { Hardware } from "./hardware.ts";
import { STATUS_TIMEOUT_MS } from "./limits.ts";
import { cacheRoot } from "./models/cache.ts";
import { readHiveFile } from "../home/hive_file.ts";
import { workerCommand, workerEnvironment } from "./workers/command.ts";

/**
 * The machine's facts as text or JSON.
 *
 * @throws {RbeeError} `WORKER_START_FAILED` when the worker program can't tell.
 */
export async function detectReport(loaded: LoadedConfig, options: { json: boolean }): Promise<string> {
  const { config } = loaded;
  const hardware = new Hardware({
    command: workerCommand(Deno.env),
    env: workerEnvironment(Deno.env.toObject()),
    backends: config.hive.backends,
    modelsDir: cacheRoot(config, Deno.env),
    log: createLogger({ part: "rbee-hive", level: "warn", format: config.log.format }),
  });
  const [{ devices, llama_cpp, sandbox }, disk] = await Promise.all([hardware.detect(), hardware.disk()]);
  const memory = hardware.memory();
  if (options.json) return JSON.stringify({ devices, memory, disk, llama_cpp, sandbox });
  return [
    ...devices.map((device) =>
      `${device.backend} ${device.index}: ${device.name}, ${device.description} ` +
      `(${device.memory_free_mb} of ${device.memory_total_mb} MB free)`
    ),
    `memory: ${memory.free_mb} of ${memory.total_mb} MB free`,
    `disk of ${disk.models_dir}: ${disk.free_mb} of ${disk.total_mb} MB free`,
    `llama.cpp: ${llama_cpp}`,
  ].map(printable).join("\n");
}

/** What `status` found. */
export interface HiveStatus {
  /** Whether it answers. */
  running: boolean;
  pid?: number;
  url?: string;
  version?: string;
  workers?: WorkerInfo[];
}

/** Asks this machine's hive. One that can't be reached does not run; any other trouble is thrown. */
export async function hiveStatus({ config, home }: LoadedConfig): Promise<HiveStatus> {
  const file = await readHiveFile(home);
  if (file === undefined) return { running: false };
  const client = new HiveClient({ baseUrl: file.url, apiKey: await configuredKey(config, home) });
  try {
    const { workers } = await client.workers({ timeoutMs: STATUS_TIMEOUT_MS });
    return { running: true, pid: file.pid, url: file.url, version: file.version, workers };
  } catch (error) {
    if (error instanceof RbeeError && error.code === "NODE_UNREACHABLE") return { running: false };
    throw error;
  }
}

/** {@linkcode HiveStatus} as text or JSON. */
export function statusReport(status: HiveStatus, options: { json: boolean }): string {
  if (options.json) return JSON.stringify(status);
  if (!status.running) return "No hive runs on this machine. Start one: rbee-hive daemon";
  const workers = status.workers ?? [];
  return [
    `The hive runs at ${status.url} (pid ${status.pid}, version ${status.version}), workers: ${workers.length}`,
    ...workers.map((worker) =>
      `  ${worker.worker_id}  ${worker.state}  ${worker.model_ref}  ${worker.backend} ${worker.device}  ${worker.url}`
    ),
  ].map(printable).join("\n");
}
