/** Running other programs from the tools: output collected or followed line by line, and no orphans. */

/** What a finished program left behind. */
export interface CommandResult {
  /** Exit status; 127 when there is no such program. */
  code: number;
  /** Standard output, without the last line break. */
  stdout: string;
  /** Standard output and standard error in the order they came, without the last line break. */
  output: string;
}

/** Options of {@linkcode runCommand}. */
export interface CommandOptions {
  /** Working directory. */
  cwd?: string;
  /** Added to the environment. */
  env?: Record<string, string>;
  /** Ends the program and everything it started. */
  signal?: AbortSignal;
  /** Called for every line as it comes. */
  onLine?: (line: string) => void;
}

/** Variables git sets for its hooks; they would point our own git commands at the wrong repository. */
const GIT_LOCAL_VARIABLES = [
  "GIT_DIR",
  "GIT_WORK_TREE",
  "GIT_INDEX_FILE",
  "GIT_OBJECT_DIRECTORY",
  "GIT_ALTERNATE_OBJECT_DIRECTORIES",
  "GIT_COMMON_DIR",
  "GIT_NAMESPACE",
  "GIT_PREFIX",
];

/**
 * Runs a program to its end. Does not throw when it fails or is missing: see `code`.
 *
 * It gets a process group of its own, so that `signal` ends a compiler three levels down as well; a terminal's
 * Ctrl+C therefore has to be passed on by way of `signal`.
 */
export async function runCommand(argv: string[], options: CommandOptions = {}): Promise<CommandResult> {
  const { cwd, signal, onLine } = options;
  const env = { ...Deno.env.toObject(), ...options.env };
  for (const name of GIT_LOCAL_VARIABLES) if (!options.env?.[name]) delete env[name];
  signal?.throwIfAborted();
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(argv[0], {
      args: argv.slice(1),
      cwd,
      env,
      clearEnv: true,
      detached: true,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return { code: 127, stdout: "", output: `${argv[0]}: not found` };
  }
  const stop = () => endGroup(child.pid);
  signal?.addEventListener("abort", stop, { once: true });
  try {
    const stdout: string[] = [];
    const output: string[] = [];
    const take = (line: string) => {
      output.push(line);
      onLine?.(line);
    };
    const takeStdout = (line: string) => {
      stdout.push(line);
      take(line);
    };
    const [status] = await Promise.all([
      child.status,
      followLines(child.stdout, takeStdout),
      followLines(child.stderr, take),
    ]);
    signal?.throwIfAborted();
    return { code: status.code, stdout: stdout.join("\n"), output: output.join("\n") };
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/** Whether a program of this name is on the search path. */
export function hasProgram(name: string): boolean {
  return programPath(name) !== undefined;
}

/** Where it would be started from. */
export function programPath(name: string): string | undefined {
  const paths = (Deno.env.get("PATH") ?? "").split(":").map((folder) => `${folder}/${name}`);
  return paths.find((path) => {
    try {
      const info = Deno.statSync(path);
      return info.isFile && ((info.mode ?? 0) & 0o111) !== 0;
    } catch {
      return false;
    }
  });
}

async function followLines(stream: ReadableStream<Uint8Array>, take: (line: string) => void): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    lines.forEach(take);
  }
  if (rest !== "") take(rest);
}

function endGroup(pid: number): void {
  try {
    Deno.kill(-pid, "SIGTERM");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
