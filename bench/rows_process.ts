/** Rows about a whole process: its memory and its start. Every figure is of a process of its own. */
import { timedAnswer } from "./answer.ts";
import { RANDOM_1B } from "./models.ts";
import { kilobytes } from "./process_figures.ts";
import { prompt } from "./prompts.ts";
import { atMostAbove, type Entrant, type Row, type Target } from "./row.ts";
import {
  type InferenceServer,
  type ServerSetup,
  startPeer,
  type StartServer,
  startWorker,
} from "./server.ts";

const CONTEXT = 2048;
const READ_TOKENS = 512;
const ANSWER_TOKENS = 32;

/** Starts a server anew for each figure. */
function eachTime(
  program: string,
  entrant: { start: StartServer; measure: Measure; target?: Target },
): Entrant {
  const { start, measure, target } = entrant;
  return {
    program,
    target,
    start(given) {
      const setup: ServerSetup = { ...given, context: CONTEXT };
      const contender = {
        command: "",
        async run() {
          const startMs = performance.now();
          await using server = await start(setup);
          contender.command = server.command;
          return await measure(server, startMs);
        },
        [Symbol.asyncDispose]: () => Promise.resolve(),
      };
      return contender;
    },
  };
}

type Measure = (server: InferenceServer, startMs: number) => Promise<number>;

/** Of a process that has read and generated, in MB. */
function memory(read: (pid: number) => Promise<number>): Measure {
  return async (server) => {
    await timedAnswer(server, { prompt: prompt(READ_TOKENS), maxTokens: ANSWER_TOKENS });
    return await read(server.pid) / 1e6;
  };
}

/** Bytes resident. */
const rss = (pid: number) => kilobytes(`/proc/${pid}/status`, /^VmRSS:\s+(\d+) kB/m);

/** Bytes resident, those shared with other processes by share. */
const pss = (pid: number) => kilobytes(`/proc/${pid}/smaps_rollup`, /^Pss:\s+(\d+) kB/m);

const untilFirstToken: Measure = async (server, startMs) => {
  const { firstMs } = await timedAnswer(server, { prompt: prompt(8), maxTokens: 2 });
  return firstMs - startMs;
};

const processes = (measure: Measure, target: Target): Row["entrants"] => [
  eachTime("rbee", { start: startWorker, measure }),
  eachTime("llama-server", { start: startPeer, measure, target }),
];

const MEMORY_LOAD =
  `after a prompt of ${READ_TOKENS} tokens and ${ANSWER_TOKENS} generated, one slot of ${CONTEXT}`;

/** See the file's head. */
export const PROCESS_ROWS: readonly Row[] = [
  {
    name: "memory-rss",
    what: `resident memory (VmRSS) ${MEMORY_LOAD}`,
    model: RANDOM_1B,
    unit: "MB",
    entrants: processes(memory(rss), atMostAbove(90)),
  },
  {
    name: "memory-pss",
    what: `the same as Pss: shared pages by share`,
    model: RANDOM_1B,
    unit: "MB",
    entrants: processes(memory(pss), atMostAbove(90)),
  },
  {
    name: "start",
    what: "from the start of the process to the first token, the file in the page cache",
    model: RANDOM_1B,
    unit: "ms",
    entrants: processes(untilFirstToken, atMostAbove(200)),
  },
];
