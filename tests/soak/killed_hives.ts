/**
 * Part of `deno task soak`: a hive that is killed (SIGKILL) at random moments while it starts, uses and stops real
 * workers, and is started again on the same home. After each: no worker without its hive's knowledge, no row without a
 * worker, an answer that was being streamed arrives whole, and the next request works. In the end nothing is left. Exit
 * status 1 when anything was wrong.
 */
import { delay } from "@std/async";
import { join } from "@std/path";
import { DatabaseSync } from "node:sqlite";
import { type FlagTable, readFlags } from "../../home/flags.ts";
import type { HiveClient } from "../../protocol/hive_client.ts";
import type { SpawnResponse } from "../../protocol/hive_schemas.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import { type RunningHive, startHive } from "../helpers/daemons.ts";
import { eventually } from "../helpers/eventually.ts";
import { type TempHome, tempHome } from "../helpers/temp_home.ts";
import { Random } from "./random.ts";

/** Latest moment of a kill: by then the first workers are loaded and used. */
const LATEST_MS = 1_500;
/** Tokens of an answer that outlives its hive. */
const ANSWER_TOKENS = 400;
const MODEL = "builtin:stories";

const FLAGS = {
  kills: { type: "integer", value: "N", min: 1, max: 1_000_000, default: 50, help: "How many." },
  seed: {
    type: "integer",
    value: "N",
    min: 0,
    max: 2 ** 32 - 1,
    default: 1,
    help: "What makes them the same.",
  },
} as const satisfies FlagTable;

if (import.meta.main) {
  const { flags, problems } = readFlags(Deno.args, FLAGS);
  if (problems.length > 0) {
    console.error([...problems, "Usage: killed_hives.ts [--kills N] [--seed N]"].join("\n"));
    Deno.exit(2);
  }
  Deno.exit(await soak(flags));
}

/** Addresses of all hives of the run: what tells their workers from anybody else's. */
type Callbacks = Set<string>;

async function soak({ kills, seed }: { kills: number; seed: number }): Promise<number> {
  await using home = await tempHome();
  const callbacks: Callbacks = new Set();
  const counts = { adopted: 0, answers: 0, problems: 0 };
  const startedMs = performance.now();
  for (let number = 0; number < kills; number++) {
    const random = new Random(seed, number);
    try {
      const answers = await killAtWork(home, { random, callbacks });
      await using next = await startHive({ home, args: ["--keep-workers"] });
      callbacks.add(next.url);
      counts.adopted += next.logLines().filter(({ message }) => message === "worker adopted").length;
      await registryIsTrue(home, { hive: next, callbacks });
      counts.answers += await whole(answers);
      await nextRequestWorks(next.client, random);
    } catch (error) {
      counts.problems++;
      console.log(
        `failed: kill ${number} of seed ${seed}: ${error instanceof Error ? error.message : error}`,
      );
    }
  }
  await (await startHive({ home })).stop();
  const left = await workersOf(callbacks);
  if (left.length > 0) {
    counts.problems++;
    console.log(`failed: workers are left behind: ${left}`);
  }
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(0);
  console.log(
    `killed hives: ${kills} kills, ${counts.adopted} workers adopted, ${counts.answers} answers arrived whole ` +
      `over the end of their hive, in ${seconds} s; ${counts.problems} problems`,
  );
  return counts.problems === 0 ? 0 : 1;
}

/** Starts a hive, has it do several things at once, and kills it in the middle; the answers that go on. */
async function killAtWork(
  home: TempHome,
  at: { random: Random; callbacks: Callbacks },
): Promise<Promise<number>[]> {
  const { random, callbacks } = at;
  const killAfterMs = random.integer(0, LATEST_MS);
  await using hive = await startHive({ home });
  callbacks.add(hive.url);
  const answers: Promise<number>[] = [];
  const work = Array.from({ length: random.integer(1, 3) }, async () => {
    const spawned = await hive.client.spawn({ model_ref: MODEL, slots: random.integer(1, 4), ctx_size: 512 });
    if (random.chance(25)) return await hive.client.shutdownWorker(spawned.worker_id);
    await loaded(spawned);
    const running = answer(spawned);
    // Looked at later: until then a refusal is nobody's.
    running.catch(() => {});
    answers.push(running);
  });
  const outcome = Promise.allSettled(work);
  await delay(killAfterMs);
  await hive.kill();
  await outcome;
  return answers;
}

async function loaded({ url, api_key }: SpawnResponse): Promise<void> {
  const worker = new WorkerClient({ baseUrl: url, apiKey: api_key });
  await eventually("a loaded model", async () => (await worker.ready()).ready);
}

/** Streams an answer; how many tokens came before its end. */
async function answer({ url, api_key }: SpawnResponse): Promise<number> {
  const { events } = await new WorkerClient({ baseUrl: url, apiKey: api_key })
    .infer({ prompt: "Once", max_tokens: ANSWER_TOKENS });
  let tokens = 0;
  for await (const event of events) {
    if ("error" in event) throw new Error(`${event.error.code}: ${event.error.message}`);
    if ("token" in event) tokens++;
    else if (event.total_tokens !== tokens) throw new Error(`${tokens} of ${event.total_tokens} tokens came`);
  }
  return tokens;
}

/** How many answers came whole. One that a full worker refused, or one that was stopped, is not one that was cut. */
async function whole(answers: Promise<number>[]): Promise<number> {
  const outcomes = await Promise.allSettled(answers);
  const refusals = ["ALL_SLOTS_BUSY", "SHUTTING_DOWN", "NODE_UNREACHABLE"];
  for (const outcome of outcomes) {
    if (outcome.status === "rejected" && !refusals.includes(outcome.reason.code)) throw outcome.reason;
  }
  return outcomes.filter(({ status }) => status === "fulfilled").length;
}

async function registryIsTrue(
  home: TempHome,
  at: { hive: RunningHive; callbacks: Callbacks },
): Promise<void> {
  let seen = "";
  const isTrue = async () => {
    const alive = (await workersOf(at.callbacks)).sort();
    const listed = (await at.hive.client.workers()).workers.map(({ pid }) => pid).sort();
    const rows = rowsOf(home).sort();
    seen = `processes ${alive}; list ${listed}; registry ${rows}`;
    return String(alive) === String(listed) && String(alive) === String(rows);
  };
  // A worker that nobody can adopt ends by itself when its callback is refused.
  await eventually("processes, list and registry to agree", isTrue).catch(() => {
    throw new Error(`processes, list and registry do not agree: ${seen}`);
  });
}

async function nextRequestWorks(client: HiveClient, random: Random): Promise<void> {
  const spawned = await client.spawn({ model_ref: MODEL, slots: random.integer(1, 4), ctx_size: 512 });
  await loaded(spawned);
  const worker = new WorkerClient({ baseUrl: spawned.url, apiKey: spawned.api_key });
  const { total_tokens } = await worker.inferWhole({ prompt: "Once", max_tokens: 4 });
  if (total_tokens !== 4) throw new Error(`the next request gave ${total_tokens} tokens`);
  if (random.chance(50)) await client.shutdownWorker(spawned.worker_id);
}

/** Process ids of the living workers that were started by hives of these addresses. */
async function workersOf(callbacks: Callbacks): Promise<number[]> {
  const { stdout } = await new Deno.Command("ps", { args: ["-eo", "pid=,stat=,args="] }).output();
  return new TextDecoder().decode(stdout).split("\n")
    .filter((line) => line.includes("--worker-id") && [...callbacks].some((url) => line.includes(`${url}/`)))
    .map((line) => line.trim().split(/\s+/))
    .filter(([, state]) => !state.startsWith("Z"))
    .map(([pid]) => Number(pid));
}

function rowsOf(home: TempHome): number[] {
  using database = new DatabaseSync(join(home.rbeeHome, "hive.db"), { readOnly: true });
  return database.prepare("SELECT pid FROM workers").all().map(({ pid }) => Number(pid));
}
