/** Rows about the archive that `deno task bundle` makes: its engine beside the one built for this machine, its start. */
import { fromFileUrl, join } from "@std/path";
import { bundleName } from "../home/installation.ts";
import { emptyHome } from "../keeper/testing/keeper_process.ts";
import { tokensPerSecond } from "./answer.ts";
import { BOTH_THREADS, type Load, rbee } from "./entrants.ts";
import { MADE_UP, RANDOM_1B, STORIES } from "./models.ts";
import { atLeast, type Entrant, figureAtMost, type Row, type RunningContender } from "./row.ts";

/** Where `deno task bundle` leaves it. */
const ARCHIVE = fromFileUrl(new URL(`../dist/${bundleName()}`, import.meta.url));
const PACKED = `${ARCHIVE}.tar.gz`;

function generating(prompt: string, maxTokens: number): Load {
  return (server) => tokensPerSecond(server, [{ prompt, maxTokens }]);
}

function beside(load: Load): [Entrant, Entrant] {
  return [
    rbee({ load, threads: BOTH_THREADS, setup: { archive: ARCHIVE }, detail: "archive" }),
    rbee({ load, threads: BOTH_THREADS, detail: "built for this machine", target: atLeast(0.97) }),
  ];
}

/** Bytes of the packed archive. */
const packedSize: Entrant = {
  program: "archive, packed",
  start: () =>
    Promise.resolve(oneFigure("ls -l dist/*.tar.gz", async () => (await Deno.stat(PACKED)).size / 1e6)),
};

/** Bytes of the files in it. */
const unpackedSize: Entrant = {
  program: "archive, unpacked",
  start: () => Promise.resolve(oneFigure("du -b dist/rbee-*", async () => await bytesIn(ARCHIVE) / 1e6)),
};

async function bytesIn(folder: string): Promise<number> {
  let sum = 0;
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = join(folder, name);
    sum += isDirectory ? await bytesIn(path) : (await Deno.stat(path)).size;
  }
  return sum;
}

/** From the packed archive to the first token, on a machine that has nothing else. */
const firstToken: Entrant = {
  program: "archive",
  target: figureAtMost(10_000),
  start(): Promise<RunningContender> {
    const command = "tar -xzf dist/rbee-*.tar.gz && rbee-*/rbee-keeper infer --prompt x --max-tokens 1";
    return Promise.resolve(oneFigure(command, async () => {
      await using home = await emptyHome();
      const startMs = performance.now();
      await run("tar", ["-xzf", PACKED, "-C", home.path], home.path);
      const keeper = join(home.path, bundleName(), "rbee-keeper");
      await run(keeper, ["infer", "--prompt", "x", "--max-tokens", "1"], home.path);
      const tookMs = performance.now() - startMs;
      await run(keeper, ["daemon", "stop"], home.path);
      return tookMs;
    }));
  },
};

/** From start to end of a program that only says its version. */
function coldStart(program: string): Entrant {
  return {
    program,
    start: () =>
      Promise.resolve(oneFigure(`${program} --version`, async () => {
        const startMs = performance.now();
        await run(join(ARCHIVE, program), ["--version"], ARCHIVE);
        return performance.now() - startMs;
      })),
  };
}

async function run(program: string, args: string[], home: string): Promise<void> {
  const { success, stderr } = await new Deno.Command(program, {
    args,
    clearEnv: true,
    env: {
      ...{ PATH: "/usr/bin:/bin", HOME: home, RBEE_HOME: join(home, ".rbee") },
      ...{ RBEE_HIVE_LISTEN: "127.0.0.1:0", RBEE_HIVE_WORKER_PORTS: "0-0" },
    },
    stdin: "null",
  }).output();
  if (!success) throw new Error(`${program}: ${new TextDecoder().decode(stderr)}`);
}

function oneFigure(command: string, measure: () => Promise<number>): RunningContender {
  return { command, run: measure, [Symbol.asyncDispose]: () => Promise.resolve() };
}

/** See the file's head. */
export const ARCHIVE_ROWS: readonly Row[] = [
  {
    name: "archive-speed",
    what: "one stream of 400 tokens: the code for all machines beside the code for this one",
    model: STORIES,
    unit: "tokens/s",
    entrants: beside(generating("Once upon a time", 400)),
  },
  {
    name: "archive-speed-1b",
    what: "the same with 128 tokens of a model whose weights don't fit a cache",
    model: RANDOM_1B,
    unit: "tokens/s",
    entrants: beside(generating("The dog saw", 128)),
  },
  {
    name: "archive-size",
    what: "the archive that `deno task bundle` makes",
    model: MADE_UP,
    unit: "MB",
    rounds: 1,
    entrants: [packedSize, unpackedSize],
  },
  {
    name: "archive-first-token",
    what: "from the packed archive to the end of a first answer of one token, in a home with nothing in it",
    model: MADE_UP,
    unit: "ms",
    entrants: [firstToken],
  },
  {
    name: "archive-start",
    what: "each program of the archive, from its start until it has said its version",
    model: MADE_UP,
    unit: "ms",
    entrants: [
      coldStart("rbee-keeper"),
      ...["rbee-hive", "queen-rbee", "llm-worker-rbee"].map(coldStart),
    ],
  },
];
