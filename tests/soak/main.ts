/**
 * The last part of `deno task soak`: thousands of requests of every shape against one real worker, eight at a time.
 * It has to answer each as it ought to, have all its slots in the end, and be no larger than after its warm-up. Ends
 * with one line of counts; exit status 1 when anything was wrong.
 */
import { type FlagTable, readFlags } from "../../home/flags.ts";
import { callRoute } from "../../protocol/client.ts";
import { WORKER_ROUTES } from "../../protocol/routes.ts";
import { ReadyResponse, StopReason } from "../../protocol/worker_schemas.ts";
import { startDaemon } from "../helpers/daemons.ts";
import { eventually } from "../helpers/eventually.ts";
import { tempHome } from "../helpers/temp_home.ts";
import { STORIES } from "../helpers/test_models.ts";
import { drawPlan, type ModelShape, type Plan, storyText } from "./requests.ts";
import { type Result, sendPlan, type Target } from "./send.ts";
import { Tally } from "./tally.ts";
import { memoryTrend, trendProblems } from "./trend.ts";

const SLOTS = 8;
/** Over a whole run, evenly spread. */
const MEMORY_SAMPLES = 40;
const PROGRESS_LINES = 20;
/** V8 lets garbage lie while the machine has memory, some 80 MB of it; in a small heap only what is kept counts. */
const SMALL_HEAP = "--max-old-space-size=48,--max-semi-space-size=4";
/** Requests whose answers are compared before and after. */
const REPEATED = 20;
const LOAD_TIMEOUT_MS = 120_000;
/** Until a cancel whose caller is gone has freed its slot. */
const DRAIN_TIMEOUT_MS = 10_000;

const FLAGS = {
  requests: { type: "integer", value: "N", min: 1, max: 10_000_000, default: 10_000, help: "How many." },
  seed: {
    type: "integer",
    value: "N",
    min: 0,
    max: 2 ** 32 - 1,
    default: 1,
    help: "What makes them the same.",
  },
  model: { type: "text", value: "PATH", default: STORIES, help: "The GGUF file." },
} as const satisfies FlagTable;

if (import.meta.main) {
  const { flags, problems } = readFlags(Deno.args, FLAGS);
  if (problems.length > 0) {
    console.error([...problems, "Usage: deno task soak [--requests N] [--seed N] [--model PATH]"].join("\n"));
    Deno.exit(2);
  }
  Deno.exit(await soak({ ...flags, tell: console.log }));
}

/** What a run works with. */
interface Run {
  requests: number;
  seed: number;
  target: Target;
  model: ModelShape;
  tally: Tally;
  /** Of the worker. */
  pid: number;
  /** Aborted when the worker is gone. */
  gone: AbortSignal;
}

/** Runs it; returns the exit status. */
async function soak(
  options: { requests: number; seed: number; model: string; tell: (line: string) => void },
): Promise<number> {
  const key = crypto.randomUUID();
  await using home = await tempHome();
  await using worker = startDaemon({
    main: "worker/main.ts",
    permissions: "worker",
    args: ["--model", options.model, "--port", "0", "--slots", String(SLOTS)],
    env: { ...home.env, RBEE_WORKER_API_KEY: key, DENO_V8_FLAGS: SMALL_HEAP },
  });
  const { url } = await worker.logged("its address", ({ message }) => message === "listening");
  const gone = new AbortController();
  worker.status.then(() => gone.abort());
  const target = { url: String(url), key };
  const tally = new Tally(options.tell);
  const { model } = await eventually("the model is loaded", async () => {
    const state = await status(target);
    return state.ready && state;
  }, LOAD_TIMEOUT_MS);
  const shape = await measure(target, { context: model.context, chatTemplate: model.chat_template });
  const run = { ...options, target, model: shape, tally, pid: worker.pid, gone: gone.signal };

  const startedMs = performance.now();
  try {
    await checkedRun(run);
  } catch (error) {
    if (!gone.signal.aborted) throw error;
  }
  const seconds = (performance.now() - startedMs) / 1000;
  if (gone.signal.aborted) {
    tally.problem(`the worker is gone. Its last words:\n${worker.logs().slice(-4000)}`);
  } else tally.expect((await worker.stop()).success, "the worker did not leave with exit status 0");
  options.tell(
    `soak: ${tally.requests} requests in ${seconds.toFixed(1)} s ` +
      `(${(tally.requests / seconds).toFixed(0)} requests/s, ${
        (tally.tokens / seconds).toFixed(0)
      } tokens/s): ` +
      `${tally.summary()}; ${tally.problems} problems`,
  );
  return tally.problems === 0 ? 0 : 1;
}

async function checkedRun(run: Run): Promise<void> {
  const { target, tally } = run;
  const textsBefore = await repeat(run);
  const endedBefore = await endedRequests(target);
  await sendAll(run);
  await eventually("all slots are free", async () => {
    const state = await status(target);
    return state.state === "idle" && state.slots_available === SLOTS;
  }, DRAIN_TIMEOUT_MS);
  checkCounts(tally, await endedRequests(target) - endedBefore);
  checkMemory(tally);
  const textsAfter = await repeat(run);
  const changed = textsBefore.filter((text, i) => text !== textsAfter[i]);
  tally.expect(changed.length === 0, `${changed.length} of ${REPEATED} answers changed: ${changed[0]}`);
}

/** Every slot's worth of requests at once, until all were sent or the worker is gone. */
async function sendAll(run: Run): Promise<void> {
  const { requests, seed, model, tally, gone } = run;
  const progressEvery = Math.ceil(requests / PROGRESS_LINES);
  const sampleEvery = Math.ceil(requests / MEMORY_SAMPLES);
  let next = 0;
  const sendOneByOne = async () => {
    while (next < requests && !gone.aborted) {
      const number = next++;
      const plan = drawPlan(model, { seed, number });
      const result = await sendUntilTaken(run, plan);
      tally.add(result);
      for (const problem of result.problems) tally.problem(`request ${number} ${problem}`);
      const { requests: sent } = tally;
      if (sent % sampleEvery === 0) {
        tally.memory.push({ requests: sent, megabytes: await residentMegabytes(run) });
      }
      if (sent % progressEvery === 0) {
        tally.tell(`${sent} requests, ${tally.memory.at(-1)?.megabytes.toFixed(1)} MB: ${tally.summary()}`);
      }
    }
  };
  await Promise.all(Array.from({ length: SLOTS }, sendOneByOne));
}

/** Sends a request again when there was no slot for it: who aborts lets go of one a moment later. */
async function sendUntilTaken({ target, tally }: Run, plan: Plan): Promise<Result> {
  for (;;) {
    const result = await sendPlan(target, plan);
    if (result.outcome !== "ALL_SLOTS_BUSY") return result;
    tally.busy++;
    await eventually("a slot is free", async () => {
      const state = await status(target);
      return state.ready && state.slots_available > 0;
    }, DRAIN_TIMEOUT_MS);
  }
}

/** The texts of some requests that name a seed, one after the other, while nothing else runs. */
async function repeat({ target, model, seed, tally }: Run): Promise<string[]> {
  const texts: string[] = [];
  for (let number = 0; texts.length < REPEATED; number++) {
    const { cancel: _, ...plan } = drawPlan(model, { seed, number });
    if (typeof plan.body === "string" || plan.expect !== "answer" || "X-Deadline" in plan.headers) continue;
    const result = await sendPlan(target, { ...plan, body: { ...plan.body, seed: number } });
    for (const problem of result.problems) tally.problem(`repeated request ${number} ${problem}`);
    texts.push(result.text ?? result.outcome);
  }
  return texts;
}

/** How long story text is in tokens. */
async function measure(target: Target, facts: Omit<ModelShape, "charactersPerToken">): Promise<ModelShape> {
  const prompt = storyText(facts.context / 4, { charactersPerToken: 1 });
  const plan: Plan = { body: { prompt, max_tokens: 1, stream: false }, headers: {}, expect: "answer" };
  const { stats, problems } = await sendPlan(target, plan);
  if (stats === undefined) throw new Error(`The worker does not answer: ${problems.join("; ")}`);
  return { ...facts, charactersPerToken: prompt.length / stats.prompt_tokens };
}

async function status(target: Target): Promise<ReadyResponse> {
  return await callRoute({ baseUrl: target.url, apiKey: target.key }, {
    route: WORKER_ROUTES.ready,
    schema: ReadyResponse,
  });
}

/**
 * Resident memory of the worker. Where the system tells it apart, without what is mapped from files: those pages come
 * and go as the machine needs them.
 */
async function residentMegabytes({ pid, target }: Run): Promise<number> {
  if (Deno.build.os === "linux") {
    const anonymous = /^RssAnon:\s+(\d+) kB$/m.exec(await Deno.readTextFile(`/proc/${pid}/status`));
    if (anonymous !== null) return Number(anonymous[1]) * 1024 / 1e6;
  }
  const state = await status(target);
  return state.ready ? state.memory.process_mb : NaN;
}

/** How many answers the worker says it has ended. */
async function endedRequests(target: Target): Promise<number> {
  const headers = { Authorization: `Bearer ${target.key}` };
  const text = await (await fetch(new URL(WORKER_ROUTES.metrics.path, target.url), { headers })).text();
  const counts = text.matchAll(/^rbee_worker_requests_total\{.*\} (\d+)$/gm);
  return counts.reduce((sum, [, count]) => sum + Number(count), 0);
}

/** Of an aborted request nobody knows whether the worker had begun with it. */
function checkCounts(tally: Tally, ended: number): void {
  const seen = StopReason.options.reduce((sum, reason) => sum + tally.count(reason), 0);
  const most = seen + tally.count("aborted");
  const ok = ended >= seen && ended <= most;
  tally.expect(ok, `the metrics count ${ended} answers; ${seen} to ${most} were seen`);
}

function checkMemory(tally: Tally): void {
  const trend = memoryTrend(tally.memory);
  if (trend === undefined) return tally.tell("memory: too few requests to judge it by");
  const { samples, bytesPerRequest, firstMegabytes, lastMegabytes } = trend;
  tally.tell(
    `memory: ${bytesPerRequest.toFixed(0)} bytes a request over ${samples} samples after the warm-up; ` +
      `${firstMegabytes.toFixed(1)} MB in their first quarter, ${lastMegabytes.toFixed(1)} MB in the last`,
  );
  for (const problem of trendProblems(trend)) tally.problem(problem);
}
