/** Runs one worker from the bound port to the last drained answer. */
import { createLogger, LOG_LEVELS, type Logger } from "../daemon/log.ts";
import { type RunningServer, startServer, untilShutdown } from "../daemon/lifecycle.ts";
import { ownKey } from "../daemon/own_key.ts";
import { loadConfig } from "../home/config.ts";
import { RbeeError } from "../protocol/errors.ts";
import { HiveClient } from "../protocol/hive_client.ts";
import type { Device, SandboxSupport } from "../protocol/hive_schemas.ts";
import { VERSION } from "../protocol/version.ts";
import { BackendName } from "../protocol/spawn_request.ts";
import { createWorkerApp } from "./app.ts";
import { Engine } from "./engine.ts";
import { modelFingerprint } from "./exported_answer.ts";
import { HiveWatch } from "./hive_watch.ts";
import { CALLBACK_DELAYS_MS, CLOSE_TIMEOUT_MS, DRAIN_TIMEOUT_MS, FAILED_LINGER_MS } from "./limits.ts";
import { WorkerMetrics } from "./metrics.ts";
import { loadAddon } from "./native/addon.ts";
import type { WorkerOptions } from "./options.ts";
import { confineWorker } from "./sandbox.ts";
import { type LoadContext, Worker } from "./worker.ts";

/** Runs until told to leave; resolves to the exit code. Throws {@linkcode RbeeError} when it can't start. */
export async function runWorker(options: WorkerOptions): Promise<number> {
  const { apiKey, log: partLog } = await surroundings(options);
  const log = partLog.child({ worker_id: options.workerId });
  const metrics = new WorkerMetrics();
  let fingerprint: Promise<string> | undefined;
  const worker = new Worker({
    modelRef: options.modelRef,
    fingerprint: () => fingerprint ??= modelFingerprint(options.model),
    metrics,
    log,
    confine: () => confineWorker(options, log),
  });
  const { orphanTimeoutSeconds } = options;
  using hive = orphanTimeoutSeconds === 0 ? undefined : new HiveWatch({
    timeoutMs: orphanTimeoutSeconds * 1000,
    busy: () => worker.slots().busy > 0,
  });
  const app = createWorkerApp({ worker, metrics, apiKey, log, onHealthAsked: () => hive?.heard() });
  const server = listenOnFreePort(app, { options, log });
  const url = `http://${options.advertise}:${server.address.port}`;
  log.info("listening", { url });
  if (options.callback) await reportReady(options, url);

  const load = async (context: LoadContext) =>
    await Engine.load({ ...options, chatTemplate: await chatTemplateText(options.chatTemplate) }, context);
  const failure = worker.load(load).then(async (error) => {
    if (error === undefined) return await new Promise<never>(() => {});
    // Long enough for the hive and its caller to be told why.
    await new Promise((resolve) => setTimeout(resolve, FAILED_LINGER_MS));
    throw error;
  });
  const orphaned = hive?.silent.then(() => {
    log.warn("the hive of this worker is gone for good: leaving", {
      orphan_timeout_seconds: orphanTimeoutSeconds,
    });
  });
  return await untilShutdown([
    {
      name: "drain",
      timeoutMs: DRAIN_TIMEOUT_MS + CLOSE_TIMEOUT_MS,
      run: () => worker.drain(AbortSignal.timeout(DRAIN_TIMEOUT_MS)),
    },
    { name: "server", timeoutMs: CLOSE_TIMEOUT_MS, run: () => server.close() },
    { name: "engine", timeoutMs: CLOSE_TIMEOUT_MS, run: () => worker.close() },
  ], { log, leave: Promise.race([worker.shutdownAsked, failure, ...orphaned ? [orphaned] : []]) });
}

/** What `--detect` prints: how a hive, which may not load native code, learns of devices. */
export function detect(): { rbee: string; llama_cpp: string; devices: Device[]; sandbox: SandboxSupport } {
  const addon = loadAddon();
  const mb = (bytes: number) => Math.round(bytes / 1e6);
  const devices = addon.devices().flatMap((device) => {
    const backend = BackendName.safeParse(device.backend);
    if (!backend.success) return [];
    return [{
      backend: backend.data,
      index: device.index,
      name: device.name,
      description: device.description,
      memory_total_mb: mb(device.memoryTotalBytes),
      memory_free_mb: mb(device.memoryFreeBytes),
    }];
  });
  const { landlockAbi, seccomp } = addon.sandboxSupport();
  const sandbox = { landlock_abi: landlockAbi, seccomp };
  return { rbee: VERSION, llama_cpp: addon.llamaVersion, devices, sandbox };
}

/** Binding is the check: whoever asks first whether a port is free may find it taken a moment later. */
function listenOnFreePort(
  app: ReturnType<typeof createWorkerApp>,
  context: { options: WorkerOptions; log: Logger },
): RunningServer {
  const { ports: [first, last], host } = context.options;
  for (let port = first;; port++) {
    try {
      return startServer(app, { listen: { hostname: host, port }, log: context.log });
    } catch (error) {
      const taken = error instanceof RbeeError && error.cause instanceof Deno.errors.AddrInUse;
      if (!taken || port === last) throw error;
    }
  }
}

async function reportReady(options: WorkerOptions, url: string): Promise<void> {
  const { callback } = options;
  const hive = new HiveClient({ baseUrl: new URL(callback!.url).origin, apiKey: callback!.token });
  await hive.workerReady({
    worker_id: options.workerId,
    url,
    model_ref: options.modelRef,
    backend: options.backend,
    device: options.device,
    pid: Deno.pid,
  }, { retry: { delaysMs: CALLBACK_DELAYS_MS } });
}

/** A name stays one; of a file, its text. */
async function chatTemplateText(nameOrPath?: string): Promise<string | undefined> {
  if (nameOrPath === undefined || /^[a-z0-9._-]+$/i.test(nameOrPath) && !nameOrPath.includes(".")) {
    return nameOrPath;
  }
  try {
    return await Deno.readTextFile(nameOrPath);
  } catch (cause) {
    throw new RbeeError("INVALID_REQUEST", `The chat template ${nameOrPath} cannot be read.`, { cause });
  }
}

/** Under a hive everything comes by flag and environment; by hand the person's own configuration counts. */
async function surroundings(options: WorkerOptions): Promise<{ apiKey: string; log: Logger }> {
  const part = "llm-worker-rbee";
  if (options.callback !== undefined && options.apiKey !== undefined) {
    const level = LOG_LEVELS.find((known) => known === Deno.env.get("RBEE_LOG_LEVEL")) ?? "info";
    return { apiKey: options.apiKey, log: createLogger({ part, level, format: "auto" }) };
  }
  const { config, home } = await loadConfig();
  const apiKey = options.apiKey ?? await ownKey({ config, home, hostname: options.host });
  return { apiKey, log: createLogger({ part, ...config.log }) };
}
