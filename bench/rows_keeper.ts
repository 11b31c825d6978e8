/** Rows about the keeper: what a person waits for it, and what it takes, when the worker is there already. */
import { keeperCommand, runKeeper, testHome } from "../keeper/testing/keeper_process.ts";
import { answerOf, on, standInHive, standInWorker } from "../keeper/testing/stand_in.ts";
import { WORKER_ROUTES } from "../protocol/routes.ts";
import { eventually } from "../tests/helpers/eventually.ts";
import { MADE_UP } from "./models.ts";
import { kilobytes } from "./process_figures.ts";
import { atMostAbove, type Entrant, figureAtMost, type Row, type RunningContender } from "./row.ts";

const INFER = ["infer", "--node", "stand-in", "--prompt", "x"];
const BYTES_PER_MB = 1e6;
const COMMAND = 'rbee-keeper infer --prompt "x"';

/** A worker that is known and well, whose answers `onRequest` is told of and may hold up. */
async function warm(onRequest: () => Promise<void> | void) {
  const all = new AsyncDisposableStack();
  const worker = all.use(standInWorker({
    [on(WORKER_ROUTES.inference)]: async () => {
      await onRequest();
      return answerOf(["Once", " upon"]);
    },
  }));
  const hive = all.use(standInHive(worker));
  const home = all.use(await testHome(hive));
  const first = await runKeeper(INFER, { home });
  if (first.code !== 0) throw new Error(first.stderr);
  return { home, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** From the start of the process until its request has arrived at the worker. */
const untilRequest: Entrant = {
  program: "rbee-keeper",
  async start(): Promise<RunningContender> {
    let arrivedMs = 0;
    const { home, ...rest } = await warm(() => void (arrivedMs = performance.now()));
    return {
      ...rest,
      command: COMMAND,
      async run() {
        const startMs = performance.now();
        await runKeeper(INFER, { home });
        return arrivedMs - startMs;
      },
    };
  },
};

/** A program of Deno's that does nothing, from its start to its end. */
const bareStart: Entrant = {
  program: "deno, an empty program",
  target: atMostAbove(150),
  async start(): Promise<RunningContender> {
    const path = await Deno.makeTempFile({ suffix: ".js" });
    return {
      command: "deno run empty.js",
      async run() {
        const startMs = performance.now();
        await new Deno.Command(Deno.execPath(), { args: ["run", "-q", path], stdin: "null" }).output();
        return performance.now() - startMs;
      },
      [Symbol.asyncDispose]: () => Deno.remove(path),
    };
  },
};

/** Greatest resident memory of a keeper whose request is being answered. */
const greatestMemory: Entrant = {
  program: "rbee-keeper",
  target: figureAtMost(90),
  async start(): Promise<RunningContender> {
    let waiting = false;
    let answer = () => {};
    let hold = false;
    const { home, ...rest } = await warm(() => {
      if (!hold) return;
      waiting = true;
      return new Promise<void>((resolve) => answer = resolve);
    });
    hold = true;
    return {
      ...rest,
      command: COMMAND,
      async run() {
        waiting = false;
        const [program, ...args] = [...keeperCommand(), ...INFER];
        const env = { RBEE_HOME: home.path, TMPDIR: home.path };
        const child = new Deno.Command(program, { args, env, stdin: "null", stdout: "null", stderr: "null" })
          .spawn();
        await eventually("a request", () => waiting);
        const memory = await kilobytes(`/proc/${child.pid}/status`, /^VmHWM:\s+(\d+) kB/m);
        answer();
        await child.status;
        return memory / BYTES_PER_MB;
      },
    };
  },
};

/** See the file's head. */
export const KEEPER_ROWS: readonly Row[] = [
  {
    name: "infer-overhead",
    what: "from the keeper's start until its request has reached a warm worker",
    model: MADE_UP,
    unit: "ms",
    rounds: 20,
    entrants: [untilRequest, bareStart],
  },
  {
    name: "infer-memory",
    what: "the keeper's greatest resident memory (VmHWM) while its request is being answered",
    model: MADE_UP,
    unit: "MB",
    entrants: [greatestMemory],
  },
];
