/** Another machine's shell, for what can only be done there: installing, starting and stopping daemons. */
import { RbeeError } from "../protocol/errors.ts";

/** Time for the other machine to answer at all. */
const SSH_CONNECT_TIMEOUT_SECONDS = 10;

/** ssh's own exit code: it never got as far as the other shell. */
const SSH_FAILED = 255;
/** Lines of what was said there that an error shows. */
const SHOWN_LINES = 20;

/** Options of {@linkcode runOver}. */
export interface SshOptions {
  /** What the other shell runs. Nothing of it may be a secret: it shows in the process lists of both machines. */
  script: string;
  /** Given to the script. */
  stdin?: ReadableStream<Uint8Array<ArrayBuffer>> | string;
  /** Told each line that it writes to stderr. */
  onLine?: (line: string) => void;
  signal: AbortSignal;
}

/**
 * Runs a script in a login shell of another machine, without asking anybody anything.
 *
 * @returns what it wrote to stdout.
 * @throws {RbeeError} `NODE_UNREACHABLE` with what ssh said, or `INTERNAL` with what the script said.
 */
export async function runOver(destination: string, options: SshOptions): Promise<string> {
  const { script, stdin, onLine, signal } = options;
  const child = start(destination, { script, piped: stdin !== undefined, signal });
  const said: string[] = [];
  const listening = lines(child.stderr, (line) => {
    said.push(line);
    if (said.length > SHOWN_LINES) said.shift();
    onLine?.(line);
  });
  const feeding = stdin === undefined ? undefined : feed(child.stdin, stdin);
  const [{ code }, stdout] = await Promise.all([
    child.status,
    new Response(child.stdout).text(),
    listening,
    feeding,
  ]);
  signal.throwIfAborted();
  if (code === 0) return stdout;
  if (code === SSH_FAILED) throw unreachable(destination, said);
  throw new RbeeError("INTERNAL", `The script on ${destination} ended with ${code}`, {
    details: { exit_code: code, log_tail: said },
  });
}

/** A word for a shell. */
export function shellWord(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** USER@HOST[:PORT] taken apart; an IPv6 address loses its brackets. */
export function sshParts(destination: string): { user?: string; host: string; port?: number } {
  const match = /^(?:(?<user>.*)@)?(?<host>.*?)(?<!:)(?::(?<port>\d{1,5}))?$/.exec(destination);
  const { user, host = destination, port } = match?.groups ?? {};
  return {
    user,
    host: host.replace(/^\[(.*)\]$/, "$1"),
    port: port === undefined ? undefined : Number(port),
  };
}

/** The arguments that name a destination: a port is a flag of its own. */
export function sshDestination(destination: string): string[] {
  const { user, host, port } = sshParts(destination);
  return [
    ...port === undefined ? [] : ["-p", String(port)],
    "--",
    user === undefined ? host : `${user}@${host}`,
  ];
}

function start(
  destination: string,
  options: { script: string; piped: boolean; signal: AbortSignal },
): Deno.ChildProcess {
  const args = [
    ...["-o", "BatchMode=yes", "-o", `ConnectTimeout=${SSH_CONNECT_TIMEOUT_SECONDS}`],
    ...[...sshDestination(destination), `exec env NO_COLOR=1 sh -lc ${shellWord(options.script)}`],
  ];
  try {
    return new Deno.Command("ssh", {
      args,
      stdin: options.piped ? "piped" : "null",
      stdout: "piped",
      stderr: "piped",
      signal: options.signal,
    }).spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new RbeeError("NODE_UNREACHABLE", "There is no ssh on this machine", {
      details: { advice: ["Install it (on Debian: apt install openssh-client)."] },
      cause: error,
    });
  }
}

async function feed(
  into: WritableStream<Uint8Array<ArrayBuffer>>,
  from: ReadableStream<Uint8Array<ArrayBuffer>> | string,
): Promise<void> {
  try {
    await (typeof from === "string" ? new Blob([from]).stream() : from).pipeTo(into);
  } catch {
    // A script that ends early says why by its exit code.
  }
}

async function lines(stream: ReadableStream<Uint8Array>, tell: (line: string) => void): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split(/\r?\n|\r/);
    rest = parts.pop()!;
    parts.filter((line) => line !== "").forEach(tell);
  }
  if (rest !== "") tell(rest);
}

const CAUSES: [said: RegExp, advice: (destination: string) => string][] = [
  [
    /permission denied/i,
    (to) =>
      `The key was refused. Put yours there: ssh-copy-id ${to} (an agent or ~/.ssh/config must offer it without a password).`,
  ],
  [
    /host key verification failed|host identification has changed/i,
    (to) =>
      `The machine is not known or not the one it was. If that is all right, connect once by hand: ssh ${to}`,
  ],
  [/could not resolve/i, () => "The name is not known: check its spelling and the network."],
  [
    /refused|timed out|no route|unreachable/i,
    () => "Check that the machine is on, that sshd runs there, and the port.",
  ],
];

function unreachable(destination: string, said: readonly string[]): RbeeError {
  const why = said.join("\n");
  const advice = CAUSES.find(([pattern]) => pattern.test(why))?.[1](destination);
  const last = said.at(-1);
  return new RbeeError(
    "NODE_UNREACHABLE",
    `Cannot reach ${destination} by ssh${last === undefined ? "" : `: ${last}`}`,
    {
      details: { ssh: destination, advice: advice === undefined ? said.slice(0, -1) : [advice] },
    },
  );
}
