/** This machine's hive, started in the background when a command needs it and none runs. It stays afterwards. */
import { delay } from "@std/async";
import type { LoadedConfig } from "../home/config.ts";
import { programCommand } from "../home/installation.ts";
import { ensureHome, hiveLogPath, PRIVATE_FILE_MODE } from "../home/paths.ts";
import { callRouteEmpty } from "../protocol/client.ts";
import { RbeeError } from "../protocol/errors.ts";
import { HEALTH_TIMEOUT_MS } from "../protocol/limits.ts";
import { HIVE_ROUTES } from "../protocol/routes.ts";
import type { PhaseContext } from "./context.ts";
import { type HiveFile, readHiveFile } from "../home/hive_file.ts";
import {
  HIVE_RIVAL_TIMEOUT_MS,
  HIVE_START_POLL_MS,
  HIVE_START_TIMEOUT_MS,
  LOG_TAIL_BYTES,
  LOG_TAIL_LINES,
} from "./limits.ts";
import type { ResolvedNode } from "./node.ts";

/**
 * Makes sure that this machine's hive answers. Waits up to {@linkcode HIVE_START_TIMEOUT_MS}. Two keepers that start
 * one at the same time end up with the same: the second hive refuses to run beside the first, and its keeper goes on
 * with that. `command` is what to start, `rivalTimeoutMs` how long to wait for such a first one.
 *
 * @returns whether one was started, and so address and key may be new.
 * @throws {RbeeError} `NODE_UNREACHABLE` with the log's last lines in `details.log_tail`.
 */
export async function ensureLocalHive(
  node: ResolvedNode,
  place: LoadedConfig,
  context: PhaseContext & { command?: readonly [string, ...string[]]; rivalTimeoutMs?: number },
): Promise<boolean> {
  if (await answers(node.url, context)) return false;
  await ensureHome(place.home);
  const log = hiveLogPath(place.home);
  context.output.say(`No hive runs on this machine: starting one in the background (log: ${log}).`);
  const logBefore = await sizeOf(log);
  const child = await startDetached(context.command ?? programCommand("hive", "daemon"), log);
  const running = await untilRunning(place, child.exited, context);
  if (running !== undefined) {
    context.output.say(
      `The hive is ready at ${running.url} (pid ${running.pid}) and stays after this command.`,
    );
    return true;
  }
  throw new RbeeError("NODE_UNREACHABLE", "The hive of this machine did not start", {
    details: { log, log_tail: await tailOf(log, logBefore) },
  });
}

/** Resolves to the running hive, or to nothing when it is clear that none will come. */
async function untilRunning(
  place: LoadedConfig,
  exited: Promise<void>,
  context: PhaseContext & { rivalTimeoutMs?: number },
): Promise<HiveFile | undefined> {
  const { rivalTimeoutMs = HIVE_RIVAL_TIMEOUT_MS } = context;
  let deadlineMs = performance.now() + HIVE_START_TIMEOUT_MS;
  exited.then(() => {
    // It may have made way for one that another keeper started: that one is as good.
    deadlineMs = Math.min(deadlineMs, performance.now() + rivalTimeoutMs);
  });
  while (performance.now() < deadlineMs) {
    const file = await readHiveFile(place.home);
    if (file !== undefined && await answers(file.url, context)) return file;
    await delay(HIVE_START_POLL_MS, { signal: context.signal });
  }
}

async function answers(url: string, context: PhaseContext): Promise<boolean> {
  try {
    await callRouteEmpty({ baseUrl: url, correlationId: context.correlationId }, {
      route: HIVE_ROUTES.live,
      signal: context.signal,
      timeoutMs: HEALTH_TIMEOUT_MS,
    });
    return true;
  } catch (error) {
    context.signal.throwIfAborted();
    // Whatever else it says, something listens there; whether it is our hive is for the next phase to find out.
    if (error instanceof RbeeError) return error.code !== "NODE_UNREACHABLE";
    throw error;
  }
}

/** Starts a program of its own session, so that neither this terminal's Ctrl+C nor its end reaches it. */
async function startDetached(
  command: readonly [string, ...string[]],
  log: string,
): Promise<{ exited: Promise<void> }> {
  // Loaded here because most commands start nothing. Deno.Command can't write to an open file.
  const { spawn } = await import("node:child_process");
  const { closeSync, openSync } = await import("node:fs");
  const [program, ...args] = command;
  const fd = openSync(log, "a", PRIVATE_FILE_MODE);
  try {
    const child = spawn(program, args, { detached: true, stdio: ["ignore", fd, fd] });
    const exited = new Promise<void>((resolve) => {
      child.once("exit", () => resolve());
      child.once("error", () => resolve());
    });
    child.unref();
    return { exited };
  } finally {
    closeSync(fd);
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await Deno.stat(path)).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

/** The last lines written since the file had `from` bytes. */
async function tailOf(path: string, from: number): Promise<string[]> {
  using file = await Deno.open(path);
  const { size } = await file.stat();
  await file.seek(Math.max(from, size - LOG_TAIL_BYTES), Deno.SeekMode.Start);
  const text = await new Response(file.readable).text();
  return text.split("\n").filter((line) => line.trim() !== "").slice(-LOG_TAIL_LINES);
}
