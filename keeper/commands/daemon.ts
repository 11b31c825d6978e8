/** `daemon start|stop|restart|status`: this machine's hive. */
import process from "node:process";
import { delay } from "@std/async";
import type { LoadedConfig } from "../../home/config.ts";
import { type HiveFile, readHiveFile } from "../../home/hive_file.ts";
import { hiveLogPath } from "../../home/paths.ts";
import { processIdentity } from "../../home/process_identity.ts";
import { newCorrelationId } from "../../protocol/correlation.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { WorkerInfo } from "../../protocol/hive_schemas.ts";
import { HEALTH_TIMEOUT_MS } from "../../protocol/limits.ts";
import type { LoadedCommand } from "../cli.ts";
import type { CommandContext, PhaseContext } from "../context.ts";
import { HIVE_START_POLL_MS, HIVE_STOP_TIMEOUT_MS, SERVICE_RESTART_TIMEOUT_MS } from "../limits.ts";
import { LOCALHOST, resolveNode } from "../node.ts";
import { hiveClient, reachHive } from "../phases/reach_hive.ts";
import type { DaemonFlags } from "../table/system.ts";
import { textTable } from "../text_table.ts";
import { workerColumns } from "../worker_columns.ts";
import { withConfig } from "../with_config.ts";

/** `daemon start`. */
export const DAEMON_START: LoadedCommand<DaemonFlags> = { run: here(start) };
/** `daemon stop`. */
export const DAEMON_STOP: LoadedCommand<DaemonFlags> = { run: here(stop) };
/** `daemon restart`. */
export const DAEMON_RESTART: LoadedCommand<DaemonFlags> = { run: here(restart) };
/** `daemon status`. */
export const DAEMON_STATUS: LoadedCommand<DaemonFlags> = { run: here(status) };

/** What a running hive is like. */
interface Running extends HiveFile {
  /** Undefined where it does not take this home's key: that was changed while the hive ran. */
  workers?: WorkerInfo[];
}

function here(work: (config: LoadedConfig, context: PhaseContext) => Promise<number>) {
  return async (context: CommandContext): Promise<number> => {
    return await withConfig(async (config, place) => {
      place.node = await resolveNode(LOCALHOST, config);
      return await work(config, { ...context, correlationId: newCorrelationId() });
    });
  };
}

async function start(config: LoadedConfig, context: PhaseContext): Promise<number> {
  const { output } = context;
  const before = await running(config, context);
  if (before === undefined) await reachHive(await resolveNode(LOCALHOST, config), config, context);
  else output.say(`The hive runs already, at ${before.url} (pid ${before.pid}).${keyHint(before)}`);
  if (output.json) await output.document(shown(before ?? await running(config, context)));
  return 0;
}

async function stop(config: LoadedConfig, context: PhaseContext): Promise<number> {
  const { output, signal } = context;
  const hive = await running(config, context);
  if (hive !== undefined) {
    const count = hive.workers?.length;
    const workers = count === undefined ? "workers" : count === 1 ? "worker" : `${count} workers`;
    output.say(`Stopping the hive${count === 0 ? "" : ` and its ${workers}`} ...`);
    await end(hive, "SIGTERM", { config, signal });
  }
  if (output.json) await output.document({ running: false, stopped: hive !== undefined });
  else output.say(hive === undefined ? "No hive runs on this machine." : "The hive is stopped.");
  return 0;
}

/** Replaces the hive by one with the configuration as it is now; starts one when none runs. */
export async function restart(config: LoadedConfig, context: PhaseContext): Promise<number> {
  const { output, signal } = context;
  const hive = await running(config, context);
  if (hive !== undefined) {
    output.say(`The hive (pid ${hive.pid}, version ${hive.version}) makes way for another ...`);
    const isService = await runsAsService(hive.pid);
    await end(hive, "SIGUSR1", { config, signal });
    // The manager starts the next one; another in its way would make the service fail.
    if (isService) await untilRunning(config, context);
  }
  return await start(config, context);
}

/** Whether systemd runs a hive, and so starts the next one. */
async function runsAsService(pid: number): Promise<boolean> {
  try {
    return (await Deno.readTextFile(`/proc/${pid}/cgroup`)).includes("/rbee-hive.service");
  } catch {
    // Other systems have other managers, or none.
    return false;
  }
}

/** Gives the manager the time to start a hive; without one the caller does. */
async function untilRunning(config: LoadedConfig, context: PhaseContext): Promise<void> {
  const deadlineMs = performance.now() + SERVICE_RESTART_TIMEOUT_MS;
  while (performance.now() < deadlineMs && await running(config, context) === undefined) {
    await delay(HIVE_START_POLL_MS, { signal: context.signal });
  }
}

/** Tells a hive to go, and waits until it has. {@linkcode running} has just found the pid in its file to be its own. */
async function end(
  { pid }: HiveFile,
  by: Deno.Signal,
  { config, signal }: { config: LoadedConfig; signal: AbortSignal },
): Promise<void> {
  Deno.kill(pid, by);
  const deadlineMs = performance.now() + HIVE_STOP_TIMEOUT_MS;
  while (isAlive(pid)) {
    if (performance.now() > deadlineMs) {
      throw new RbeeError(
        "INTERNAL",
        `The hive (pid ${pid}) did not stop within ${HIVE_STOP_TIMEOUT_MS / 1000} s`,
        {
          details: { advice: [`Its log: ${hiveLogPath(config.home)}`] },
        },
      );
    }
    await delay(HIVE_START_POLL_MS, { signal });
  }
}

async function status(config: LoadedConfig, context: PhaseContext): Promise<number> {
  const { output } = context;
  const hive = await running(config, context);
  if (output.json) await output.document(shown(hive));
  else if (hive === undefined) output.say("No hive runs on this machine.");
  else {
    await output.line(
      `The hive runs at ${hive.url} (pid ${hive.pid}, version ${hive.version}).${keyHint(hive)}`,
    );
    if (hive.workers?.length) await output.text(`\n${textTable(hive.workers.map(workerColumns))}`);
  }
  return hive === undefined ? 1 : 0;
}

function keyHint({ workers }: Running): string {
  return workers === undefined
    ? " Its key was changed while it ran: rbee-keeper daemon restart makes it use the new one."
    : "";
}

function shown(hive: Running | undefined) {
  if (hive === undefined) return { running: false };
  const { pid, url, version, workers } = hive;
  return { running: true, pid, url, version, workers };
}

/** This home's hive: it answers to this home's key, or its process is the one that wrote this home's file. */
async function running(config: LoadedConfig, context: PhaseContext): Promise<Running | undefined> {
  const file = await readHiveFile(config.home);
  if (file === undefined) return undefined;
  const client = hiveClient(await resolveNode(LOCALHOST, config), context);
  try {
    const { workers } = await client.workers({ signal: context.signal, timeoutMs: HEALTH_TIMEOUT_MS });
    return { ...file, workers };
  } catch (error) {
    context.signal.throwIfAborted();
    // What a hive that was killed left behind.
    if (error instanceof RbeeError && error.code === "NODE_UNREACHABLE") return undefined;
    const ours = file.identity !== undefined && await processIdentity(file.pid) === file.identity;
    if (ours && error instanceof RbeeError && error.code === "INVALID_API_KEY") return file;
    throw error;
  }
}

function isAlive(pid: number): boolean {
  try {
    // Signal 0 asks without doing anything; Deno's own kill does not know it.
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
