/** Rows about the hive itself: what it costs to have one, and how it answers while its workers take all there is. */
import { delay } from "@std/async";
import { callRouteEmpty } from "../protocol/client.ts";
import { HIVE_ROUTES } from "../protocol/routes.ts";
import { WorkerClient } from "../protocol/worker_client.ts";
import { type RunningHive, startHive } from "../tests/helpers/daemons.ts";
import { eventually } from "../tests/helpers/eventually.ts";
import { tempHome } from "../tests/helpers/temp_home.ts";
import { RANDOM_1B } from "./models.ts";
import { kilobytes } from "./process_figures.ts";
import { figureAtMost, type Row, type RunningContender, type Setup, type Target } from "./row.ts";

const HEALTH_CALLS = 500;
/** Between two of them: they are to be served beside the load, not to be one. */
const HEALTH_PAUSE_MS = 20;
const LOAD_TIMEOUT_MS = 60_000;
/** Short enough that a loop ends soon after its bench. */
const ANSWER_TOKENS = 50;
const IDLE_SPAN_MS = 20_000;
/** Of `/proc/PID/stat`, in 1/100 s on every Linux there is. */
const TICKS_PER_SECOND = 100;
const BYTES_PER_MB = 1e6;

type Measure = (hive: RunningHive) => Promise<number>;

/** A hive with two workers, of one slot and of two, idle or generating as fast as they can. */
function withTwoWorkers(of: { busy: boolean; measure: Measure; target: Target }): Row["entrants"] {
  const { busy, measure, target } = of;
  return [{
    program: "rbee-hive",
    target,
    async start({ model }: Setup): Promise<RunningContender> {
      const all = new AsyncDisposableStack();
      const home = all.use(await tempHome());
      const hive = all.use(await startHive({ home }));
      const workers = [];
      for (const slots of [1, 2]) {
        const wish = { model_ref: `file:${model}`, slots, ctx_size: 512, idle_timeout: 0 };
        const { url, api_key } = await hive.client.spawn(wish);
        const client = new WorkerClient({ baseUrl: url, apiKey: api_key });
        await eventually("a loaded model", async () => (await client.ready()).ready, LOAD_TIMEOUT_MS);
        workers.push(...Array.from({ length: slots }, () => client));
      }
      let over = false;
      const loops = busy ? workers.map((worker) => keepBusy(worker, () => over)) : [];
      all.defer(async () => {
        over = true;
        await Promise.all(loops);
      });
      return {
        command: "rbee-hive daemon",
        run: () => measure(hive),
        [Symbol.asyncDispose]: () => all.disposeAsync(),
      };
    },
  }];
}

async function keepBusy(worker: WorkerClient, over: () => boolean): Promise<void> {
  while (!over()) {
    const { events } = await worker.infer({ prompt: "Once upon a time", max_tokens: ANSWER_TOKENS });
    await Array.fromAsync(events);
  }
}

const healthMs: Measure = async ({ url, key }) => {
  await delay(HEALTH_PAUSE_MS);
  const startMs = performance.now();
  await callRouteEmpty({ baseUrl: url, apiKey: key }, { route: HIVE_ROUTES.v1Health });
  return performance.now() - startMs;
};

const residentMb: Measure = async ({ pid }) =>
  await kilobytes(`/proc/${pid}/status`, /^VmRSS:\s+(\d+) kB/m) / BYTES_PER_MB;

/** Share of one core, in percent. */
const idlePercent: Measure = async ({ pid }) => {
  const before = await cpuSeconds(pid);
  const startMs = performance.now();
  await delay(IDLE_SPAN_MS);
  return (await cpuSeconds(pid) - before) / ((performance.now() - startMs) / 1000) * 100;
};

async function cpuSeconds(pid: number): Promise<number> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
  // Counted from the third field on: the second, in brackets, may hold anything.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** See the file's head. */
export const HIVE_ROWS: readonly Row[] = [
  {
    name: "hive-health",
    what: "the hive's /v1/health while two workers generate in three slots as fast as two cores let them",
    model: RANDOM_1B,
    unit: "ms",
    statistic: "p99",
    rounds: HEALTH_CALLS,
    entrants: withTwoWorkers({ busy: true, measure: healthMs, target: figureAtMost(10) }),
  },
  {
    name: "hive-memory",
    what: "the hive's resident memory (VmRSS) with two idle workers",
    model: RANDOM_1B,
    unit: "MB",
    entrants: withTwoWorkers({ busy: false, measure: residentMb, target: figureAtMost(120) }),
  },
  {
    name: "hive-idle-cpu",
    what: "CPU time of the hive with two idle workers, over 20 s, as a share of one core",
    model: RANDOM_1B,
    unit: "%",
    entrants: withTwoWorkers({ busy: false, measure: idlePercent, target: figureAtMost(0.5) }),
  },
];
