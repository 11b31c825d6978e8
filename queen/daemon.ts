/** Puts a queen together and serves until told to leave. The hives that it started run on, unless told otherwise. */
import { advertisedHost } from "../daemon/hosts.ts";
import { lockHome } from "../daemon/home_lock.ts";
import { type RunningServer, startServer, untilShutdown } from "../daemon/lifecycle.ts";
import { createLogger } from "../daemon/log.ts";
import { ownKey } from "../daemon/own_key.ts";
import { serviceManager } from "../daemon/systemd.ts";
import type { LoadedConfig } from "../home/config.ts";
import { fingerprint } from "../home/keys.ts";
import { ensureHome } from "../home/paths.ts";
import { VERSION } from "../protocol/version.ts";
import { CLOSE_TIMEOUT_MS, DRAIN_TIMEOUT_MS, NODE_STOP_TIMEOUT_MS, STORE_TIMEOUT_MS } from "./limits.ts";
import { createQueen } from "./queen.ts";

/** Options of {@linkcode runDaemon}. */
export interface DaemonOptions {
  /** The hives that it started, and queens before it, are stopped at the end. */
  stopHives: boolean;
}

/**
 * Runs the queen until SIGTERM or SIGINT, or the end of the terminal that it was started from; SIGHUP has it read its
 * configuration again.
 *
 * @returns the exit code.
 * @throws {RbeeError} why it can't start.
 */
export async function runDaemon(
  load: () => Promise<LoadedConfig>,
  options: DaemonOptions,
): Promise<number> {
  const { config, home } = await load();
  const { listen } = config.queen;
  const log = createLogger({ part: "queen-rbee", ...config.log });
  await ensureHome(home);
  using _lock = await lockHome(home, "queen");
  const apiKey = await ownKey({ config, home, hostname: listen.hostname });
  let url = "";
  const queen = await createQueen({
    ...{ home, config, apiKey, env: Deno.env, log, ownUrl: () => url },
    loadConfig: async () => (await load()).config,
  });
  const service = serviceManager({ env: Deno.env, log });
  let server: RunningServer | undefined;
  const start = async () => {
    server = startServer(queen.app, { listen, log });
    await queen.start();
    const { hostname, port } = server.address;
    url = `http://${advertisedHost(hostname, config.queen.advertise)}:${port}`;
    log.info("queen ready", {
      url,
      version: VERSION,
      pid: Deno.pid,
      home,
      key_fp6: await fingerprint(apiKey),
    });
    service.ready(`Serving at ${url}`);
  };
  const starting = start();
  const attached = hasTerminal();
  const ended = untilShutdown([
    { name: "start", timeoutMs: STORE_TIMEOUT_MS, run: () => starting },
    {
      name: "work",
      timeoutMs: DRAIN_TIMEOUT_MS,
      run: (signal) => {
        service.stopping();
        return queen.drain(signal);
      },
    },
    {
      name: "hives started from here",
      timeoutMs: NODE_STOP_TIMEOUT_MS,
      run: () => options.stopHives ? queen.stopHives() : undefined,
    },
    { name: "server", timeoutMs: CLOSE_TIMEOUT_MS, run: () => server?.close() },
    { name: "store", timeoutMs: STORE_TIMEOUT_MS, run: () => queen.close() },
    { name: "service manager", timeoutMs: STORE_TIMEOUT_MS, run: () => service.close() },
  ], {
    log,
    onHangup: () => {
      if (attached && !hasTerminal()) return "leave";
      // What is wrong with it is in the log.
      queen.live.reload().catch(() => {});
      return "stay";
    },
  });
  await starting;
  return await ended;
}

/** Whether a person's terminal is there: when it goes, it sends the same signal that asks for a reload. */
function hasTerminal(): boolean {
  return Deno.stdin.isTerminal();
}
