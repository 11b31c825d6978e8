/** Worker processes: starting one in a group of its own, noticing its end, ending it, reading what it said last. */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import process from "node:process";
import { PRIVATE_FILE_MODE } from "../../home/paths.ts";
import { outputOf, processIdentity } from "../../home/process_identity.ts";
import type { Clock } from "../../daemon/clock.ts";
import { rotatedPath } from "../logs/log_file.ts";
import { privateMemory } from "./process_memory.ts";
import {
  ADOPTED_LOOK_EVERY_POLLS,
  ADOPTED_POLL_INTERVAL_MS,
  LOG_TAIL_LINE_MAX_CHARS,
  LOG_TAIL_LINES,
  LOG_TAIL_MAX_BYTES,
} from "../limits.ts";

/** How a process ended; both null when it was not this hive's child. */
export interface ExitStatus {
  /** Exit code. */
  code: number | null;
  /** The signal that ended it. */
  signal: string | null;
}

/** A running worker process. */
export interface WorkerProcess {
  /** Also the id of its process group. */
  readonly pid: number;
  /** Settles at once when the process is over; never rejects. */
  readonly exited: Promise<ExitStatus>;
  /** What tells it from every other process that ever had its pid; see {@linkcode processIdentity}. */
  identity(): Promise<string | undefined>;
  /** Signals the whole group. Does nothing once the process is over. Throws only what the system refuses. */
  kill(signal: Deno.Signal): Promise<void>;
  /** Looks now whether the process is over, where the system does not tell. Never throws. */
  look(): Promise<void>;
  /** It has been asked to leave: where the system does not tell of its end, looks for it more closely from now on. */
  expectExit(): void;
  /** Stops watching; the process goes on. */
  detach(): void;
}

/** How processes are started and found again; the machine's own are {@linkcode SYSTEM_PROCESSES}. */
export interface Processes {
  /** See {@linkcode launchProcess}. */
  launch(options: LaunchOptions): WorkerProcess;
  /** See {@linkcode attachProcess}. */
  attach(
    pid: number,
    options: { identity?: string; clock: Clock },
  ): Promise<WorkerProcess | undefined>;
  /** See {@linkcode tailLog}. */
  tail(logPath: string): Promise<string[]>;
  /** See {@linkcode workerProcesses}. */
  workers(): Promise<{ pid: number; workerId: string }[]>;
  /** See {@linkcode privateMemory}. */
  privateMemory(pids: readonly number[]): Promise<Map<number, number>>;
}

/** What {@linkcode launchProcess} starts. */
export interface LaunchOptions {
  /** Program and leading arguments. */
  command: readonly string[];
  /** Added to them. */
  args: readonly string[];
  /** The whole environment: nothing else is passed on. */
  env: Record<string, string>;
  /** Gets stdout and stderr; created for the owner alone. */
  logPath: string;
}

/**
 * Starts a process in a session and group of its own: it gets no Ctrl+C of the hive's terminal and outlives a hive
 * that crashes. Does not block.
 *
 * @throws {Error} when the program can't be started.
 */
export function launchProcess(options: LaunchOptions): WorkerProcess {
  const [program, ...args] = [...options.command, ...options.args];
  const log = openSync(options.logPath, "a", PRIVATE_FILE_MODE);
  let child;
  try {
    child = spawn(program, args, { detached: true, stdio: ["ignore", log, log], env: options.env });
  } finally {
    closeSync(log);
  }
  const { pid } = child;
  // Says the same as the missing pid, only later.
  child.on("error", () => {});
  if (pid === undefined) throw new Error("it is not there or not executable");
  let over = false;
  const exited = Promise.withResolvers<ExitStatus>();
  child.once("exit", (code, signal) => {
    // Whatever the worker started itself must not outlive it.
    signalGroup(pid, "SIGKILL");
    over = true;
    exited.resolve({ code, signal });
  });
  return {
    pid,
    exited: exited.promise,
    kill(signal) {
      if (!over) signalGroup(pid, signal);
      return Promise.resolve();
    },
    identity: () => processIdentity(pid),
    look: () => Promise.resolve(),
    expectExit: () => {},
    detach: () => child.unref(),
  };
}

/**
 * Watches a process that an earlier hive started. Not being its parent, this hive learns of its end by looking.
 * Undefined when no process with this pid and identity is alive; without an identity any process will do.
 */
export async function attachProcess(
  pid: number,
  options: { identity?: string; clock: Clock },
): Promise<WorkerProcess | undefined> {
  const { clock } = options;
  const identity = await processIdentity(pid);
  if (identity === undefined || (options.identity ?? identity) !== identity) return undefined;
  const ended = Promise.withResolvers<ExitStatus>();
  let over = false;
  let cancel: () => void;
  const end = () => {
    if (over) return;
    over = true;
    cancel();
    ended.resolve({ code: null, signal: null });
  };
  const look = async () => {
    try {
      // A process whose new parent never asks for its status stays a zombie: the bare pid is no proof of life.
      if (!over && await processIdentity(pid) !== identity) end();
    } catch {
      // That nobody could look says nothing about the process.
    }
  };
  let expected = false;
  const poll = (round: number) => {
    cancel = clock.after(ADOPTED_POLL_INTERVAL_MS, () => {
      if (!processExists(pid)) return end();
      poll(round + 1);
      if (expected || round % ADOPTED_LOOK_EVERY_POLLS === 0) void look();
    });
  };
  poll(1);
  const kill = async (signal: Deno.Signal) => {
    // The pid may be somebody else's by now.
    await look();
    if (over) return;
    expected = true;
    signalGroup(pid, signal);
  };
  return {
    ...{ pid, exited: ended.promise, kill, look },
    identity: () => Promise.resolve(identity),
    expectExit: () => void (expected = true),
    detach: () => cancel(),
  };
}

/** The machine's processes. */
export const SYSTEM_PROCESSES: Processes = {
  launch: launchProcess,
  attach: attachProcess,
  tail: tailLog,
  workers: workerProcesses,
  privateMemory,
};

/** All processes of this machine that were started as a worker of some hive, by what their command lines say. */
export async function workerProcesses(): Promise<{ pid: number; workerId: string }[]> {
  // A shell, because only it spares a process for each file; see processIdentity for why not to read them here.
  const look = Deno.build.os === "linux"
    ? ["sh", "-c", "grep -a -H -e --worker-id /proc/[0-9]*/cmdline | tr '\\0' ' '"]
    : ["ps", "-axo", "pid=,args="];
  return (await outputOf(look)).split("\n").flatMap((line) => {
    const pid = /^\s*(?:\/proc\/)?(\d+)/.exec(line)?.[1];
    const workerId = / --worker-id ([0-9a-f]+) /.exec(`${line} `)?.[1];
    return pid === undefined || workerId === undefined ? [] : [{ pid: Number(pid), workerId }];
  });
}

/** The last lines of a log file, read within bounds; empty when there is none. Never throws. */
export async function tailLog(path: string, lines = LOG_TAIL_LINES): Promise<string[]> {
  const last = await tailOfFile(path, lines);
  if (last.length === lines) return last;
  // A log that has just been cut goes on where the other file ends.
  return [...await tailOfFile(rotatedPath(path), lines - last.length), ...last];
}

async function tailOfFile(path: string, lines: number): Promise<string[]> {
  try {
    using file = await Deno.open(path);
    const { size } = await file.stat();
    await file.seek(Math.max(0, size - LOG_TAIL_MAX_BYTES), Deno.SeekMode.Start);
    const bytes = new Uint8Array(LOG_TAIL_MAX_BYTES);
    let length = 0;
    for (let read; length < bytes.length && (read = await file.read(bytes.subarray(length))) !== null;) {
      length += read;
    }
    const text = new TextDecoder().decode(bytes.subarray(0, length)).trimEnd();
    if (text === "") return [];
    return text.split(/\r?\n/).slice(-lines).map((line) => line.slice(0, LOG_TAIL_LINE_MAX_CHARS));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    // It is only ever wanted while something worse is told.
    return [`(${path} cannot be read: ${error})`];
  }
}

function signalGroup(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(-pid, signal);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code !== "ESRCH";
  }
}
