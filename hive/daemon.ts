/** Puts a hive together, serves until told to leave, and leaves nothing behind. */
import { join } from "@std/path";
import { type RunningServer, startServer, untilShutdown } from "../daemon/lifecycle.ts";
import { createLogger, type Logger, stderrIs } from "../daemon/log.ts";
import { ownKey } from "../daemon/own_key.ts";
import { serviceManager } from "../daemon/systemd.ts";
import type { LoadedConfig } from "../home/config.ts";
import type { Config, ListenAddress } from "../home/config_schema.ts";
import { INSTALLATION } from "../home/installation.ts";
import { fingerprint, readKeyFile } from "../home/keys.ts";
import { ensureHome, hiveLogPath } from "../home/paths.ts";
import { isThisMachine } from "../home/this_machine.ts";
import { RbeeError } from "../protocol/errors.ts";
import { QueenClient } from "../protocol/queen_client.ts";
import { HIVE_ROUTES } from "../protocol/routes.ts";
import { VERSION } from "../protocol/version.ts";
import { systemClock, unixSeconds } from "../daemon/clock.ts";
import { createHive, type HiveOptions } from "./hive.ts";
import { CLOSE_TIMEOUT_MS, DOWNLOADS_CLOSE_TIMEOUT_MS, START_TIMEOUT_MS } from "./limits.ts";
import { removeHiveFile, writeHiveFile } from "../home/hive_file.ts";
import { processIdentity } from "../home/process_identity.ts";
import { HiveLogs } from "./logs/hive_logs.ts";
import { lockHome } from "../daemon/home_lock.ts";
import { workerCommand, workerEnvironment, type WorkerPlace } from "./workers/command.ts";
import { advertisedHost, localHost } from "../daemon/hosts.ts";

/** Options of {@linkcode runDaemon}. */
export interface DaemonOptions {
  /** Workers are left to the next hive. */
  keepWorkers: boolean;
}

/**
 * Runs the hive until SIGTERM, SIGINT or SIGHUP, or SIGUSR1: then it leaves its workers to the next hive and asks for
 * that by its exit code.
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
  const logs = new HiveLogs({ home, clock: systemClock });
  const log = createLogger({ part: "rbee-hive", ...config.log, alsoTo: (line) => logs.own(line) });
  await ensureHome(home);
  using _lock = await lockHome(home, "hive");
  const apiKey = await ownKey({ config, home, hostname: listen.hostname });

  let bound: ListenAddress = listen;
  const hive = createHive({
    ...{ home, config, apiKey, env: Deno.env, builtinDir: join(INSTALLATION, "models"), log, logs },
    // Whoever else reads the hive's lines keeps them within bounds itself.
    logFile: stderrIs(hiveLogPath(home)) ? hiveLogPath(home) : undefined,
    workerCommand: workerCommand(Deno.env),
    workerEnv: { ...workerEnvironment(Deno.env.toObject()), RBEE_LOG_LEVEL: config.log.level },
    place: () => placeOf(bound, config.hive.advertise),
    queen: await queenOf(config, { apiKey, ownUrl: () => urlOf(bound, config.hive.advertise), log }),
  });
  const { models, workers, hardware } = hive;
  await models.start();
  const service = serviceManager({ env: Deno.env, log });
  let server: RunningServer | undefined;
  const start = async () => {
    await hive.adopt();
    server = startServer(hive.app, { listen, log });
    bound = server.address;
    const url = `http://${localHost(listen.hostname)}:${bound.port}`;
    const { pid } = Deno;
    const identity = await processIdentity(pid);
    await writeHiveFile(home, {
      pid,
      url,
      version: VERSION,
      started_unix: unixSeconds(systemClock),
      identity,
    });
    log.info("hive ready", { url, version: VERSION, pid, home, key_fp6: await fingerprint(apiKey) });
    service.ready(`Serving at ${url}`);
    hive.startWork();
  };

  let { keepWorkers } = options;
  const starting = start();
  // From the first adopted worker on a signal must lead to the end of all: it waits until the start is done.
  const ended = untilShutdown([
    { name: "start", timeoutMs: START_TIMEOUT_MS, run: () => starting },
    {
      name: "presence",
      timeoutMs: CLOSE_TIMEOUT_MS,
      run: () => {
        service.stopping();
        return removeHiveFile(home);
      },
    },
    {
      name: "server and workers",
      timeoutMs: CLOSE_TIMEOUT_MS,
      run: async () => {
        await Promise.all([
          hive.stopWork(),
          server?.close(),
          workers.close({ keepWorkers }),
          hardware.close(),
        ]);
      },
    },
    { name: "models", timeoutMs: DOWNLOADS_CLOSE_TIMEOUT_MS, run: () => models.close() },
    { name: "registry", timeoutMs: CLOSE_TIMEOUT_MS, run: () => hive.database.close() },
    { name: "service manager", timeoutMs: CLOSE_TIMEOUT_MS, run: () => service.close() },
  ], { log, onHandOver: () => keepWorkers = true });
  await starting;
  return await ended;
}

/** Workers listen where the hive does; they report to it by the shortest way. */
function placeOf(bound: ListenAddress, advertise: string | undefined): Omit<WorkerPlace, "ports"> {
  const { hostname, port } = bound;
  return {
    host: hostname,
    advertise: advertisedHost(hostname, advertise),
    callbackUrl: `http://${localHost(hostname)}:${port}${HIVE_ROUTES.ready.path}`,
  };
}

function urlOf(bound: ListenAddress, advertise: string | undefined): string {
  return `http://${placeOf(bound, advertise).advertise}:${bound.port}`;
}

/** Whom this hive reports to, if to anybody. */
async function queenOf(
  config: Config,
  own: { apiKey: string; ownUrl: () => string; log: Logger },
): Promise<HiveOptions["queen"]> {
  const { queen, queen_key_file: keyFile, name } = config.hive;
  if (queen === undefined) return undefined;
  const apiKey = keyFile === undefined ? own.apiKey : await readKeyFile(keyFile);
  if (keyFile === undefined && !isThisMachine(queen)) {
    own.log.warn("this hive's own key is taken for the queen's: name the queen's as hive.queen_key_file", {
      queen,
    });
  }
  return {
    client: new QueenClient({ baseUrl: queen, apiKey }),
    name: name ?? Deno.hostname(),
    ownUrl: own.ownUrl,
  };
}
