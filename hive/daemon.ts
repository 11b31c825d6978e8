/** Puts a hive together, serves until told to leave, and leaves nothing behind. */
import { fromFileUrl, join } from "@std/path";
import { type RunningServer, startServer, untilShutdown } from "../daemon/lifecycle.ts";
import { createLogger } from "../daemon/log.ts";
import { ownKey } from "../daemon/own_key.ts";
import type { LoadedConfig } from "../home/config.ts";
import type { ListenAddress } from "../home/config_schema.ts";
import { openDatabase } from "../home/database.ts";
import { fingerprint } from "../home/keys.ts";
import { ensureHome } from "../home/paths.ts";
import { RbeeError } from "../protocol/errors.ts";
import { HIVE_ROUTES } from "../protocol/routes.ts";
import { VERSION } from "../protocol/version.ts";
import { createHiveApp } from "./app.ts";
import { systemClock, unixSeconds } from "./clock.ts";
import { Hardware } from "./hardware.ts";
import { CLOSE_TIMEOUT_MS, DOWNLOADS_CLOSE_TIMEOUT_MS, START_TIMEOUT_MS } from "./limits.ts";
import { HiveMetrics } from "./metrics.ts";
import { noteModelUse } from "./model_use.ts";
import { Models } from "./models/models.ts";
import { removeHiveFile, writeHiveFile } from "../home/hive_file.ts";
import { lockHome } from "./presence.ts";
import { workerCommand, workerEnvironment, type WorkerPlace } from "./workers/command.ts";
import { localHost, urlHost } from "./workers/connection.ts";
import { HIVE_MIGRATIONS, WorkerRegistry } from "./workers/registry.ts";
import { Workers } from "./workers/workers.ts";

/** Options of {@linkcode runDaemon}. */
export interface DaemonOptions {
  /** Workers are left to the next hive. */
  keepWorkers: boolean;
}

/**
 * Runs the hive until SIGTERM or SIGINT.
 *
 * @returns the exit code.
 * @throws {RbeeError} why it can't start.
 */
export async function runDaemon(loaded: LoadedConfig, options: DaemonOptions): Promise<number> {
  const { config, home } = loaded;
  const { listen } = config.hive;
  if (config.hive.tls_cert !== undefined || config.hive.tls_key !== undefined) {
    throw new RbeeError(
      "INVALID_REQUEST",
      "hive.tls_cert and hive.tls_key are set, but this hive can't serve TLS. Put a proxy before it and unset them.",
    );
  }
  const log = createLogger({ part: "rbee-hive", ...config.log });
  await ensureHome(home);
  using _lock = await lockHome(home);
  const apiKey = await ownKey({ config, home, hostname: listen.hostname });

  const metrics = new HiveMetrics();
  const models = new Models({ home, config, env: Deno.env, builtinDir: builtinDir(), log });
  await models.start();
  const command = workerCommand(Deno.env);
  const env = { ...workerEnvironment(Deno.env.toObject()), RBEE_LOG_LEVEL: config.log.level };
  const hardware = new Hardware({
    command,
    env,
    backends: config.hive.backends,
    modelsDir: models.modelsDir,
    log,
  });
  const database = openDatabase(join(home, "hive.db"), HIVE_MIGRATIONS);
  let bound: ListenAddress = listen;
  const workers = new Workers({
    ...{ home, config: config.hive, hardware, command, env, log },
    registry: new WorkerRegistry(database),
    findModel: async (modelRef) => (await models.find(modelRef))?.local_path,
    place: () => placeOf(bound, config.hive.advertise),
    onEvent: (event) => {
      metrics.workerEvent(event);
      noteModelUse(models, event);
    },
  });
  const app = createHiveApp({ apiKey, log, config: config.hive, hardware, models, workers, metrics });
  let server: RunningServer | undefined;
  const start = async () => {
    await workers.adopt();
    server = startServer(app, { listen, log });
    bound = server.address;
    const url = `http://${localHost(listen.hostname)}:${bound.port}`;
    const { pid } = Deno;
    await writeHiveFile(home, { pid, url, version: VERSION, started_unix: unixSeconds(systemClock) });
    log.info("hive ready", { url, version: VERSION, pid, home, key_fp6: fingerprint(apiKey) });
    // The first spawn need not wait for it then; what goes wrong is told to whoever asks.
    hardware.detect().catch((error) => log.warn("devices not known yet", { error }));
  };

  const starting = start();
  // From the first adopted worker on a signal must lead to the end of all: it waits until the start is done.
  const ended = untilShutdown([
    { name: "start", timeoutMs: START_TIMEOUT_MS, run: () => starting },
    { name: "presence", timeoutMs: CLOSE_TIMEOUT_MS, run: () => removeHiveFile(home) },
    {
      name: "server and workers",
      timeoutMs: CLOSE_TIMEOUT_MS,
      run: async () => {
        const { keepWorkers } = options;
        await Promise.all([server?.close(), workers.close({ keepWorkers }), hardware.close()]);
      },
    },
    { name: "models", timeoutMs: DOWNLOADS_CLOSE_TIMEOUT_MS, run: () => models.close() },
    { name: "registry", timeoutMs: CLOSE_TIMEOUT_MS, run: () => database.close() },
  ], { log });
  await starting;
  return await ended;
}

/** Workers listen where the hive does; they report to it by the shortest way. */
function placeOf(bound: ListenAddress, advertise: string | undefined): Omit<WorkerPlace, "ports"> {
  const { hostname, port } = bound;
  const reachable = localHost(hostname) === urlHost(hostname) ? hostname : Deno.hostname();
  return {
    host: hostname,
    advertise: urlHost(advertise ?? reachable),
    callbackUrl: `http://${localHost(hostname)}:${port}${HIVE_ROUTES.ready.path}`,
  };
}

function builtinDir(): string {
  return fromFileUrl(new URL("../models", import.meta.url));
}
