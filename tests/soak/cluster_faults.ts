/**
 * Part of `deno task soak`: a queen, three hives and real workers under 500 mixed requests, while a worker is killed every
 * 5 s, one machine falls silent for 20 s and comes back, and the queen is killed and started again twice. Every task that
 * was taken has to end exactly once, its tokens without gaps and doubles; nothing may be stuck, and no healthy worker may
 * lose its answers. Exit status 1 otherwise. With `--network` each machine has a network namespace of its own, and falls
 * silent because its cable is cut; else its processes stand still.
 */
import { DatabaseSync } from "node:sqlite";
import { delay } from "@std/async";
import { join } from "@std/path";
import { type FlagTable, readFlags } from "../../home/flags.ts";
import { isSilence, RbeeError } from "../../protocol/errors.ts";
import type { TaskEvent, TaskInput } from "../../protocol/queen_schemas.ts";
import { StreamCutError } from "../../protocol/sse.ts";
import { known, type RunningQueen } from "../helpers/cluster.ts";
import { waysOf } from "../helpers/cluster_answers.ts";
import { type FaultWorld, houseWorld, loopbackWorld, runInHouse } from "../helpers/fault_world.ts";
import { Random } from "./random.ts";

const MODEL = "builtin:stories";
const NODES = ["blep", "mac", "workstation"] as const;
const CLIENTS = 12;
const KILL_EVERY_MS = 5_000;
const SILENT_AT_MS = 12_000;
const SILENT_FOR_MS = 20_000;
const QUEEN_KILLED_AT_MS = [38_000, 62_000];
/** By then all clients have to be done. */
const PATIENCE_MS = 400_000;
/** Of one client between two requests: so that the requests last as long as the faults. */
const PAUSE_MAX_MS = 3_200;
const RETRY_MS = 200;

const FLAGS = {
  requests: { type: "integer", value: "N", min: 1, max: 1_000_000, default: 500, help: "How many." },
  seed: {
    type: "integer",
    value: "N",
    min: 0,
    max: 2 ** 32 - 1,
    default: 1,
    help: "What makes them the same.",
  },
  network: { type: "boolean", help: "Each machine in a network namespace of its own." },
} as const satisfies FlagTable;

if (import.meta.main) {
  const { flags, problems } = readFlags(Deno.args, FLAGS);
  if (problems.length > 0) {
    console.error([...problems, "Usage: cluster_faults.ts [--requests N] [--seed N] [--network]"].join("\n"));
    Deno.exit(2);
  }
  const inHouse = await houseWorld();
  if (inHouse !== undefined) Deno.exit(await soak(flags, inHouse));
  if (flags.network) Deno.exit(await runInHouse(Deno.args, NODES));
  Deno.exit(await onLoopback(flags));
}

interface Run {
  readonly world: FaultWorld;
  queen: RunningQueen;
  /** Workers that were killed or fell silent: these may lose their answers. */
  readonly harmed: Set<string>;
  readonly problems: string[];
  /** Lines of the logs of all queens. */
  readonly logs: { message: string; [field: string]: unknown }[];
  readonly ended: { tasks: Set<string>; streams: number; cut: number; errors: Map<string, number> };
}

/** Its hives end before the program does. */
async function onLoopback(flags: Parameters<typeof soak>[0]): Promise<number> {
  await using world = await loopbackWorld(NODES);
  return await soak(flags, world);
}

async function soak(what: { requests: number; seed: number }, world: FaultWorld): Promise<number> {
  const { requests, seed } = what;
  const startedMs = performance.now();
  const run: Run = {
    ...{ world, queen: await world.startQueen(), harmed: new Set(), problems: [], logs: [] },
    ended: { tasks: new Set(), streams: 0, cut: 0, errors: new Map() },
  };
  await known(run.queen, NODES);
  const over = new AbortController();
  const faults = Promise.all([
    killWorkers(run, new Random(seed, 1), over.signal),
    silence(run, over.signal),
    killQueens(run, over.signal),
  ]);
  let left = requests;
  let late: ReturnType<typeof setTimeout> | undefined;
  const clients = Promise.all(Array.from({ length: CLIENTS }, async (_, client) => {
    const random = new Random(seed, 2, client);
    while (left-- > 0) {
      await request(run, random);
      await delay(random.integer(0, PAUSE_MAX_MS));
    }
  }));
  const done = await Promise.race([
    clients.then(() => true),
    new Promise<false>((resolve) => late = setTimeout(() => resolve(false), PATIENCE_MS)),
  ]);
  clearTimeout(late);
  if (!done) run.problems.push(`not all requests had ended after ${PATIENCE_MS / 1000} s`);
  over.abort();
  await faults;
  await check(run);
  const { tasks, streams, cut, errors } = run.ended;
  const moved = run.logs.filter(({ message }) => message.startsWith("worker lost"));
  for (const problem of run.problems) console.log(`failed: ${problem}`);
  console.log(
    `cluster faults: ${requests} requests (${tasks.size} tasks, ${streams} streams of the front door, ` +
      `${cut} of them cut with the queen and asked again; ${
        [...errors].map(([code, count]) => `${count} ${code}`).join(", ") || "no errors"
      }), ` +
      `${run.harmed.size} workers killed or silent, ${moved.length} answers moved, in ` +
      `${
        ((performance.now() - startedMs) / 1000).toFixed(0)
      } s, seed ${seed}; ${run.problems.length} problems`,
  );
  return run.problems.length === 0 ? 0 : 1;
}

async function request(run: Run, random: Random): Promise<void> {
  const asked = {
    model: MODEL,
    prompt: random.pick(["Once upon a time", "One day, a bird", "The little dog", "A girl found a shell"]),
    maxTokens: random.integer(10, 300),
    seed: random.integer(0, 1_000),
    temperature: random.integer(0, 12) / 10,
  };
  if (random.chance(50)) {
    const { maxTokens, ...rest } = asked;
    await task(run, { ...rest, max_tokens: maxTokens, priority: random.pick(["interactive", "batch"]) });
    return;
  }
  // Not through a task: who is cut off with the queen asks again.
  for (;;) {
    const [, ...ways] = waysOf(run.queen);
    try {
      await random.pick(ways).ask(asked);
      run.ended.streams++;
      return;
    } catch (error) {
      if (!isCut(error)) {
        run.problems.push(`a stream: ${error instanceof Error ? error.message : error}`);
        return;
      }
      run.ended.cut++;
      await delay(RETRY_MS);
    }
  }
}

/** Hands a task in and follows it to its end, whatever happens to the queen meanwhile. */
async function task(run: Run, asked: TaskInput): Promise<void> {
  let id: string | undefined;
  while (id === undefined) {
    try {
      id = (await run.queen.client.submit(asked)).job_id;
    } catch (error) {
      if (!isCut(error)) return void run.problems.push(`a task was refused: ${error}`);
      await delay(RETRY_MS);
    }
  }
  const events: TaskEvent[] = [];
  let seq = 0;
  for (;;) {
    try {
      const opened = await run.queen.client.taskEvents(id, { lastEventId: seq });
      for await (const event of opened.events) {
        if (event.type === "queued" || event.type === "loading") continue;
        seq++;
        events.push(event);
      }
      break;
    } catch (error) {
      if (!isCut(error)) return void run.problems.push(`task ${id} can't be followed: ${error}`);
      await delay(RETRY_MS);
    }
  }
  if (run.ended.tasks.has(id)) run.problems.push(`task ${id} was given twice`);
  run.ended.tasks.add(id);
  const problem = taskProblem(events, asked.max_tokens!);
  if (problem !== undefined) run.problems.push(`task ${id}: ${problem}`);
  const last = events.at(-1);
  if (last?.type === "error") {
    run.ended.errors.set(last.error.code, (run.ended.errors.get(last.error.code) ?? 0) + 1);
  }
}

function taskProblem(events: readonly TaskEvent[], maxTokens: number): string | undefined {
  const ends = events.filter(({ type }) => type === "end" || type === "error");
  if (ends.length !== 1 || events.at(-1) !== ends[0]) return `${ends.length} ends`;
  const indices = events.flatMap((event) => event.type === "token" ? [event.index] : []);
  const wrong = indices.findIndex((index, i) => index !== i);
  if (wrong >= 0) return `token ${indices[wrong]} came as the ${wrong}th`;
  const [end] = ends;
  if (end.type === "error") return `ended with ${end.error.code}: ${end.error.message}`;
  if (end.type === "end" && (end.stats.total_tokens !== indices.length || indices.length > maxTokens)) {
    return `${indices.length} tokens came, ${end.stats.total_tokens} were made`;
  }
}

/** A daemon that is gone, going or just coming: nothing that was promised is broken by it. */
function isCut(error: unknown): boolean {
  if (error instanceof StreamCutError || isSilence(error)) return true;
  if (error instanceof RbeeError) return error.code === "SHUTTING_DOWN";
  // How fetch tells of a lost connection.
  return error instanceof TypeError;
}

async function killWorkers(run: Run, random: Random, signal: AbortSignal): Promise<void> {
  while (await pause(KILL_EVERY_MS, signal)) {
    const alive: { id: string; pid: number }[] = [];
    for (const { client } of Object.values(run.world.hives)) {
      // One that is silent can't be asked.
      const listed = await client.workers({ timeoutMs: 500 }).catch(() => undefined);
      for (const { worker_id, pid } of listed?.workers ?? []) alive.push({ id: worker_id, pid });
    }
    if (alive.length === 0) continue;
    const { id, pid } = random.pick(alive);
    run.harmed.add(id);
    try {
      Deno.kill(pid, "SIGKILL");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

/** A machine from which nothing comes any more, for a while. */
async function silence(run: Run, signal: AbortSignal): Promise<void> {
  if (!await pause(SILENT_AT_MS, signal)) return;
  const busiest = await nodeWithWorkers(run);
  if (busiest === undefined) return void run.problems.push("no machine had a worker to fall silent");
  const { workers } = await run.world.hives[busiest].client.workers();
  for (const { worker_id } of workers) run.harmed.add(worker_id);
  await run.world.silence(busiest, workers.map(({ pid }) => pid));
  await pause(SILENT_FOR_MS, signal);
  await run.world.hear(busiest);
}

async function nodeWithWorkers({ world }: Run): Promise<string | undefined> {
  for (const [name, { client }] of Object.entries(world.hives)) {
    if ((await client.workers()).workers.length > 0) return name;
  }
}

async function killQueens(run: Run, signal: AbortSignal): Promise<void> {
  let passedMs = 0;
  for (const atMs of QUEEN_KILLED_AT_MS) {
    if (!await pause(atMs - passedMs, signal)) return;
    passedMs = atMs;
    await run.queen.kill();
    run.logs.push(...run.queen.logLines());
    run.queen = await run.world.startQueen();
  }
}

/** Whether the time passed before the end. */
async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  return await delay(ms, { signal }).then(() => true, () => false);
}

async function check(run: Run): Promise<void> {
  const { queen, problems, logs, harmed, world } = run;
  for (const id of run.ended.tasks) {
    const { status } = await queen.client.task(id);
    if (status !== "done") problems.push(`task ${id} is ${status}`);
  }
  const busy = (await queen.client.workers()).filter(({ slots_busy }) => slots_busy > 0);
  if (busy.length > 0) problems.push(`slots stay taken: ${JSON.stringify(busy)}`);
  await queen.stop();
  logs.push(...queen.logLines());
  using database = new DatabaseSync(join(world.queenHome, "queen.db"));
  const stuck = database.prepare("SELECT id, status FROM tasks WHERE ended_ms IS NULL").all();
  if (stuck.length > 0) problems.push(`tasks that never ended: ${JSON.stringify(stuck)}`);
  const sealed = database.prepare(
    "SELECT (SELECT count(*) FROM task_prompts) + (SELECT count(*) FROM tasks WHERE state IS NOT NULL) AS n",
  ).get();
  if (sealed?.n !== 0) problems.push(`what was asked is kept of ${sealed?.n} tasks that have ended`);
  for (const { message, ...line } of logs.filter(({ message }) => message.startsWith("worker lost"))) {
    if (!harmed.has(String(line.worker_id))) {
      problems.push(`a healthy worker lost its answer: ${message} ${JSON.stringify(line)}`);
    }
  }
}
