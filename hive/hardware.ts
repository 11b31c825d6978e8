/** What this machine has: devices (asked of the worker program), memory, disk, versions. */
import * as z from "zod";
import type { Logger } from "../daemon/log.ts";
import { RbeeError } from "../protocol/errors.ts";
import { Device, SandboxSupport } from "../protocol/hive_schemas.ts";
import type { BackendName } from "../protocol/spawn_request.ts";
import { DETECT_MAX_AGE_MS, DETECT_TIMEOUT_MS, LOG_TAIL_LINES } from "./limits.ts";
import { diskSpace } from "./models/disk.ts";
import { notStartable } from "./workers/start_errors.ts";

const MB = 1_000_000;

/** What `worker --detect` prints. */
const Detected = z.object({
  rbee: z.string(),
  llama_cpp: z.string(),
  devices: z.array(Device),
  sandbox: SandboxSupport.optional(),
});
/** See {@linkcode Hardware.detect}. */
export type Detected = z.infer<typeof Detected>;

/** Memory of a machine in MB; `free_mb` is what programs can still get without swapping. */
export interface MachineMemory {
  total_mb: number;
  free_mb: number;
}

/** Options of {@linkcode Hardware}. */
export interface HardwareOptions {
  /** Starts the worker program. */
  command: readonly string[];
  /** Its whole environment. */
  env: Record<string, string>;
  /** The only backends that may be used; absent: all. */
  backends?: readonly BackendName[];
  /** Where models are kept; need not exist yet. */
  modelsDir: string;
  /** Where what was found is told. */
  log: Logger;
  /** The machine's memory, in MB. Default: what the system says. */
  memory?: () => MachineMemory;
}

/** The machine's facts. Only the worker program may load native code, so devices are asked of it and remembered. */
export class Hardware {
  readonly #options: HardwareOptions;
  #known: { at: number; detected: Detected } | undefined;
  #running: Promise<Detected> | undefined;
  readonly #closed = new AbortController();

  /** Nothing is asked before the first call. */
  constructor(options: HardwareOptions) {
    this.#options = options;
  }

  /**
   * Devices and the version of llama.cpp. Remembered; asked anew for the free memory of GPUs when that is older than
   * {@linkcode DETECT_MAX_AGE_MS}, or with `fresh` in any case.
   *
   * @throws {RbeeError} `WORKER_START_FAILED` when the worker program can't tell.
   */
  async detect({ fresh = false }: { fresh?: boolean } = {}): Promise<Detected> {
    const known = this.#known;
    if (known !== undefined) {
      const hasGpu = known.detected.devices.some((device) => device.backend !== "cpu");
      const isNews = performance.now() - known.at < DETECT_MAX_AGE_MS;
      if (!hasGpu || (isNews && !fresh)) return this.#current(known.detected);
    }
    this.#running ??= this.#ask().finally(() => this.#running = undefined);
    return this.#current(await this.#running);
  }

  /** Ends a question that is on its way, and waits until whoever was asked is gone. */
  async close(): Promise<void> {
    this.#closed.abort();
    await this.#running?.catch(() => {});
  }

  /** Memory of the machine. */
  memory(): MachineMemory {
    return (this.#options.memory ?? systemMemory)();
  }

  /** Logical cores, and the load averages over 1, 5 and 15 minutes: zeros where the system has none. */
  cpu(): { cores: number; load_average: [number, number, number] } {
    const [one, five, fifteen] = Deno.loadavg();
    return { cores: navigator.hardwareConcurrency, load_average: [one, five, fifteen] };
  }

  /** Disk that holds the models. */
  async disk(): Promise<{ models_dir: string; total_mb: number; free_mb: number }> {
    const { modelsDir } = this.#options;
    const { totalBytes, freeBytes } = await diskSpace(modelsDir);
    return {
      models_dir: modelsDir,
      total_mb: Math.floor(totalBytes / MB),
      free_mb: Math.floor(freeBytes / MB),
    };
  }

  /** The memory of a CPU is the machine's, and that is known without asking. */
  #current(detected: Detected): Detected {
    const { total_mb, free_mb } = this.memory();
    const devices = detected.devices.map((device) =>
      device.backend === "cpu" ? { ...device, memory_total_mb: total_mb, memory_free_mb: free_mb } : device
    );
    return { ...detected, devices };
  }

  async #ask(): Promise<Detected> {
    const detected = await askWorker(this.#options, this.#closed.signal);
    const { backends, log } = this.#options;
    const devices = detected.devices.filter(({ backend }) => backends?.includes(backend) ?? true);
    if (this.#known === undefined) {
      log.info("devices found", {
        devices: devices.map(({ backend, index, name }) => ({ backend, index, name })),
      });
    }
    this.#known = { at: performance.now(), detected: { ...detected, devices } };
    return this.#known.detected;
  }
}

function systemMemory(): MachineMemory {
  const { total, available } = Deno.systemMemoryInfo();
  return { total_mb: Math.floor(total / MB), free_mb: Math.floor(available / MB) };
}

async function askWorker({ command, env }: HardwareOptions, signal: AbortSignal): Promise<Detected> {
  const [program, ...args] = command;
  let output: Deno.CommandOutput;
  try {
    output = await new Deno.Command(program, {
      args: [...args, "--detect"],
      env,
      clearEnv: true,
      stdin: "null",
      signal: AbortSignal.any([signal, AbortSignal.timeout(DETECT_TIMEOUT_MS)]),
    }).output();
  } catch (error) {
    throw notStartable(program, error);
  }
  const text = new TextDecoder();
  try {
    return Detected.parse(JSON.parse(text.decode(output.stdout)));
  } catch (cause) {
    const tail = text.decode(output.stderr).trim().split("\n").slice(-LOG_TAIL_LINES);
    const how = output.success ? "with something else" : `with exit code ${output.code}`;
    throw new RbeeError(
      "WORKER_START_FAILED",
      `The worker program was asked for this machine's devices and answered ${how}: ${
        tail.at(-1) || "no message"
      }`,
      { details: { exit_code: output.code, log_tail: tail }, cause },
    );
  }
}
