/**
 * Real daemons as child processes, each on a free port and in a home of its own. Waiting is for conditions only; what
 * is started is stopped when its scope ends.
 */
import { fromFileUrl, join } from "@std/path";
import { localKeyPath } from "../../home/keys.ts";
import { HiveClient } from "../../protocol/hive_client.ts";
import { fakeWorkerCommand, type FakeWorkerOptions } from "./fake_worker.ts";
import type { TempHome } from "./temp_home.ts";

/** Time for a daemon to be ready. */
const START_TIMEOUT_MS = 30_000;
/** Time for a daemon to leave once asked, above the 30 s that it grants its workers. */
const STOP_TIMEOUT_MS = 45_000;

/** The root of the checkout. */
export const ROOT = fromFileUrl(new URL("../../", import.meta.url));

/** A line of a daemon's log. */
export interface LogLine {
  readonly message: string;
  readonly [field: string]: unknown;
}

/** A running daemon. */
export interface Daemon extends AsyncDisposable {
  readonly pid: number;
  /** Everything it wrote so far, as text. */
  logs(): string;
  /** The lines that are log lines. */
  logLines(): LogLine[];
  /** Waits for a log line that has come or will come. */
  logged(what: string, matches: (line: LogLine) => boolean): Promise<LogLine>;
  /** SIGTERM, and waits until it is over. */
  stop(): Promise<Deno.CommandStatus>;
  /** SIGKILL, and waits until it is over. */
  kill(): Promise<Deno.CommandStatus>;
  /** Settles when it is over. */
  readonly status: Promise<Deno.CommandStatus>;
}

/** Options of {@linkcode startDaemon}. */
export interface StartDaemonOptions {
  /** Its main module, relative to the root. */
  main: string;
  /** Its permission set in `deno.json`. */
  permissions: string;
  /** As its task in `deno.json` has them. */
  v8Flags?: string;
  /** Its command line. */
  args: readonly string[];
  /** Laid over this process's environment without its RBEE_ and HF_ variables. */
  env: Readonly<Record<string, string>>;
  /** A program and its leading arguments that start it and make way for it (`exec`). */
  within?: readonly [string, ...string[]];
  /** An unpacked archive whose program it is, instead of the checkout's. */
  archive?: string;
  /** Another checkout than this. */
  root?: string;
}

/** Starts a daemon with the permissions it has in earnest. Does not wait until it is ready. */
export function startDaemon(options: StartDaemonOptions): Daemon {
  const { archive, main } = options;
  const deno = archive === undefined ? Deno.execPath() : join(archive, "lib/deno");
  const root = archive === undefined ? options.root ?? ROOT : join(archive, "lib");
  const [program, ...args] = [
    ...[...options.within ?? [], deno, "run", "-q", "--no-prompt", `-P=${options.permissions}`],
    ...options.v8Flags === undefined ? [] : [`--v8-flags=${options.v8Flags}`],
    ...["--config", join(root, "deno.json")],
    ...[join(root, archive === undefined ? main : main.replace(/\.ts$/, ".js")), ...options.args],
  ];
  const child = new Deno.Command(program, {
    args,
    env: { ...ownEnvironment(), ...options.env },
    clearEnv: true,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let text = "";
  let changed = Promise.withResolvers<void>();
  const tell = (chunk: string) => {
    text += chunk;
    changed.resolve();
    changed = Promise.withResolvers();
  };
  const read = Promise.all([child.stdout, child.stderr].map(async (stream) => {
    for await (const chunk of stream.pipeThrough(new TextDecoderStream())) tell(chunk);
  }));
  let over = false;
  const status = Promise.all([child.status, read]).then(([status]) => {
    over = true;
    changed.resolve();
    return status;
  });
  const end = async (signal: Deno.Signal) => {
    if (!over) child.kill(signal);
    const late = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    try {
      return await status;
    } finally {
      clearTimeout(late);
    }
  };
  const logLines = () => text.split("\n").flatMap((line) => parseLine(line) ?? []);
  return {
    pid: child.pid,
    status,
    logs: () => text,
    logLines,
    async logged(what, matches) {
      let late = false;
      const timer = setTimeout(() => {
        late = true;
        changed.resolve();
      }, START_TIMEOUT_MS);
      try {
        for (;;) {
          const found = logLines().find(matches);
          if (found !== undefined) return found;
          if (over || late) throw new Error(`The daemon never logged: ${what}. It wrote:\n${text}`);
          await changed.promise;
        }
      } finally {
        clearTimeout(timer);
      }
    },
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    [Symbol.asyncDispose]: async () => void await end("SIGTERM"),
  };
}

/** Options of {@linkcode startHive}. */
export interface StartHiveOptions {
  /** Where it lives; several hives may follow each other in one home. */
  home: TempHome;
  /** More environment. */
  env?: Readonly<Record<string, string>>;
  /** More flags of `rbee-hive daemon`. */
  args?: readonly string[];
  /** Fake workers that behave like this; absent: the real worker. */
  worker?: FakeWorkerOptions;
  /** See {@linkcode StartDaemonOptions}. */
  within?: StartDaemonOptions["within"];
}

/** A running hive. */
export interface RunningHive extends Daemon {
  readonly url: string;
  readonly key: string;
  readonly client: HiveClient;
  /** Process ids of all workers that it started or adopted, dead or alive. */
  workerPids(): number[];
}

/** The environment that makes a hive, or a keeper that starts one, use fake workers. */
export function fakeWorkerEnv(worker?: FakeWorkerOptions): Record<string, string> {
  return { RBEE_WORKER_COMMAND: JSON.stringify(fakeWorkerCommand(worker)) };
}

/**
 * Starts a hive on a free loopback port and waits until it is ready.
 *
 * @throws {Error} with its output, when it does not become ready.
 */
export async function startHive(options: StartHiveOptions): Promise<RunningHive> {
  const { home, worker, env = {}, args = [] } = options;
  const daemon = startDaemon({
    main: "hive/main.ts",
    permissions: "hive",
    within: options.within,
    args: ["daemon", "--listen", "127.0.0.1:0", ...args],
    env: {
      RBEE_HIVE_WORKER_PORTS: "0-0",
      ...home.env,
      ...(worker === undefined ? {} : fakeWorkerEnv(worker)),
      ...env,
    },
  });
  try {
    const { url } = await daemon.logged("hive ready", ({ message }) => message === "hive ready");
    const key = env.RBEE_API_KEY ?? (await Deno.readTextFile(localKeyPath(home.rbeeHome))).trim();
    const baseUrl = String(url);
    const workerPids = () =>
      daemon.logLines().filter(({ message }) => message === "worker started" || message === "worker adopted")
        .map(({ pid }) => Number(pid));
    return { ...daemon, url: baseUrl, key, client: new HiveClient({ baseUrl, apiKey: key }), workerPids };
  } catch (error) {
    await daemon.kill();
    throw error;
  }
}

function ownEnvironment(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(Deno.env.toObject()).filter(([name]) => !/^(RBEE|HF)_/.test(name)),
  );
}

function parseLine(line: string): LogLine | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    return JSON.parse(line);
  } catch {
    // Half a line: the rest is still to come.
    return undefined;
  }
}
