/** The real keeper as a child process, in a home of its own. */
import { fromFileUrl, join } from "@std/path";
import { HIVE_KEY, type StandIn } from "./stand_in.ts";

const ROOT = fromFileUrl(new URL("../../", import.meta.url));

/** A home folder, gone with the test. */
export interface TestHome extends AsyncDisposable {
  path: string;
}

/** Makes a home with nothing in it. */
export async function emptyHome(): Promise<TestHome> {
  const path = await Deno.makeTempDir({ prefix: "rbee-keeper-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** Makes a home with a configuration. The hive, when given, is its node `stand-in`. */
export async function testHome(hive?: StandIn, options: { apiKey?: string } = {}): Promise<TestHome> {
  const home = await emptyHome();
  const nodes = hive === undefined ? {} : { "stand-in": { url: hive.url } };
  // YAML takes JSON as it is.
  await Deno.writeTextFile(
    join(home.path, "config.yaml"),
    JSON.stringify({ nodes, api_key: options.apiKey ?? HIVE_KEY }),
  );
  return home;
}

/** What a finished keeper left. */
export interface Finished {
  code: number;
  stdout: string;
  stderr: string;
}

/** A running keeper. */
export interface KeeperProcess {
  /** Resolves once stdout or stderr matches. */
  shows(stream: "stdout" | "stderr", wanted: string | RegExp): Promise<void>;
  /** Sends a signal. */
  signal(name: Deno.Signal): void;
  /** Resolves at its end. */
  finished: Promise<Finished>;
}

/** How a keeper is started. */
export interface KeeperOptions {
  /** Its `RBEE_HOME`, and its `TMPDIR` too. */
  home: TestHome;
  /** Beside those. */
  env?: Record<string, string>;
  /** Its whole stdin; absent: there is none. */
  stdin?: string;
  /** A program and its leading arguments that start it and make way for it (`exec`). */
  within?: readonly [string, ...string[]];
  /** The reader of its stdout goes away once it has seen this. */
  closeStdoutAfter?: string;
}

/** The command line of the keeper, without its arguments. */
export function keeperCommand(): [string, ...string[]] {
  const config = join(ROOT, "deno.json");
  const main = join(ROOT, "keeper", "main.ts");
  return [
    Deno.execPath(),
    "run",
    "-q",
    "--no-prompt",
    "--cached-only",
    "-P=keeper",
    "--config",
    config,
    main,
  ];
}

/** Starts `rbee-keeper ARGS`. */
export function startKeeper(args: readonly string[], options: KeeperOptions): KeeperProcess {
  const inherited = ["PATH", "HOME", "DENO_DIR"].flatMap((name) => {
    const value = Deno.env.get(name);
    return value === undefined ? [] : [[name, value]];
  });
  const [program, ...before] = [...options.within ?? [], ...keeperCommand(), ...args];
  const child = new Deno.Command(program, {
    args: before,
    clearEnv: true,
    env: {
      ...Object.fromEntries(inherited),
      RBEE_HOME: options.home.path,
      TMPDIR: options.home.path,
      ...options.env,
    },
    stdin: options.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  if (options.stdin !== undefined) void new Blob([options.stdin]).stream().pipeTo(child.stdin);
  const stdout = collect(child.stdout, options.closeStdoutAfter);
  const stderr = collect(child.stderr);
  const finished = Promise.all([child.status, stdout.ended, stderr.ended]).then(([status]) => ({
    code: status.code,
    stdout: stdout.text(),
    stderr: stderr.text(),
  }));
  return {
    async shows(stream, wanted) {
      if (await (stream === "stdout" ? stdout : stderr).until(wanted)) return;
      throw new Error(`It ended without "${wanted}" on ${stream}: ${JSON.stringify(await finished)}`);
    },
    signal: (name) => child.kill(name),
    finished,
  };
}

/** Runs `rbee-keeper ARGS` to its end. */
export async function runKeeper(args: readonly string[], options: KeeperOptions): Promise<Finished> {
  return await startKeeper(args, options).finished;
}

function collect(stream: ReadableStream<Uint8Array<ArrayBuffer>>, closeAfter?: string) {
  let text = "";
  let over = false;
  let waiting: { wanted: string | RegExp; resolve: (there: boolean) => void }[] = [];
  const isThere = (wanted: string | RegExp) =>
    typeof wanted === "string" ? text.includes(wanted) : wanted.test(text);
  const settle = () => {
    for (const each of waiting) if (isThere(each.wanted)) each.resolve(true);
    waiting = waiting.filter((each) => !isThere(each.wanted));
  };
  const ended = (async () => {
    for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      settle();
      // Leaving the loop closes the pipe.
      if (closeAfter !== undefined && text.includes(closeAfter)) return;
    }
  })().finally(() => {
    over = true;
    for (const each of waiting) each.resolve(false);
  });
  return {
    text: () => text,
    ended,
    /** Whether it came before the end. */
    until: (wanted: string | RegExp) => {
      if (over || isThere(wanted)) return Promise.resolve(isThere(wanted));
      const { promise, resolve } = Promise.withResolvers<boolean>();
      waiting.push({ wanted, resolve });
      return promise;
    },
  };
}
