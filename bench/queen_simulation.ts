/**
 * A thousand machines, ten thousand workers and a million requests in time that passes as fast as it can be computed, with
 * the queue, the placement and the cluster of the real queen. What a request costs before it is decided is part of it: its
 * schema, which model it means, the hashes of its prompt. One prompt in fifty has 128k tokens, keys have shares of 1 and 2,
 * some models have to be loaded first, and hives refuse some of these. Prints what decisions take, how fair they are, who
 * waited longest, and what memory the state takes, then after 24 hours of machines that come and go; last, what the
 * heartbeats of a thousand hives cost a real queen while a hundred requests wait that no machine has room for.
 *
 *     deno run -A bench/queen_simulation.ts [--requests N] [--seed N]
 */
import { createLogger } from "../daemon/log.ts";
import { type FlagTable, readFlags } from "../home/flags.ts";
import { RbeeError } from "../protocol/errors.ts";
import { HEARTBEAT_INTERVAL_MS } from "../protocol/limits.ts";
import { CompletionRequest } from "../protocol/openai_schemas.ts";
import { BLOCK_TOKENS } from "../protocol/prefix_blocks.ts";
import { Heartbeat, type HeartbeatInput } from "../protocol/queen_schemas.ts";
import { Cluster } from "../queen/cluster/cluster.ts";
import { Prefixes, promptTextOf } from "../queen/cluster/prefixes.ts";
import type { Lease } from "../queen/dispatch/lease.ts";
import { modelOf } from "../queen/dispatch/requests.ts";
import { Scheduler } from "../queen/dispatch/scheduler.ts";
import { CLUSTER_KEY, startQueen } from "../tests/helpers/cluster.ts";
import { tempHome } from "../tests/helpers/temp_home.ts";
import { Random } from "../tests/soak/random.ts";
import { Agenda } from "./agenda.ts";
import {
  BLOCKS_PER_WORKER,
  blocksOf,
  HIVES,
  MODELS,
  PREFIXES,
  reportOf,
  SLOTS,
  WORKERS_PER_HIVE,
} from "./queen_reports.ts";

const KEYS = 50;
const QUEUE_LIMIT = 2_000;
/** Each key asks for so much of its share, or for twice as much. */
const OVERLOAD = 1.3;
const TOKENS_PER_SECOND = 40;
const HEARTBEAT_ROUNDS = 6;
/** One prompt in so many is long. */
const LONG_EVERY = 50;
const LONG_TOKENS = 131_072;
const LONG_BLOCKS = LONG_TOKENS / BLOCK_TOKENS;
const LONG_PROMPTS = 100;
/** Models that nobody has loaded; hives refuse one in four. */
const UNLOADED_MODELS = 20;
const LOAD_MS = 20_000;
const UNPLACEABLE = 100;
const CHURN_HOURS = 24;

const FLAGS = {
  requests: { type: "integer", value: "N", min: 1, max: 100_000_000, default: 1_000_000, help: "How many." },
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
    console.error([...problems, "Usage: queen_simulation.ts [--requests N] [--seed N]"].join("\n"));
    Deno.exit(2);
  }
  await simulate(flags);
  churn(flags.seed);
  await heartbeats(flags.seed);
}

async function simulate({ requests, seed }: { requests: number; seed: number }): Promise<void> {
  const random = new Random(seed);
  gc();
  const beforeBytes = Deno.memoryUsage().heapUsed;
  const cluster = new Cluster(0);
  for (let hive = 0; hive < HIVES; hive++) cluster.report(Heartbeat.parse(reportOf(hive, random)), 0);
  gc();
  const stateMb = (Deno.memoryUsage().heapUsed - beforeBytes) / 1e6;

  let nowMs = 0;
  const loads = { begun: 0, refused: 0 };
  const scheduler: Scheduler = new Scheduler({
    cluster,
    queueLimit: QUEUE_LIMIT,
    replicateAfterMs: 0,
    startLoad: (load) => {
      loads.begun++;
      const node = cluster.node(load.node)!;
      const over = cluster.loading(node, load.model);
      const done = Promise.withResolvers<void>();
      agenda.add(nowMs + LOAD_MS, () => {
        over();
        if (Number(load.model.split("-").at(-1)) % 4 === 0) {
          loads.refused++;
          cluster.refused(node, load.model, {
            atMs: nowMs,
            untilMs: nowMs + 30_000,
            code: "WORKER_START_FAILED",
            message: "no",
          });
          return done.reject(new Error("no"));
        }
        const hive = Number(load.node.split("-")[1]);
        const report = reportOf(hive, random);
        const [worker] = report.workers;
        report.workers.push({
          ...worker,
          worker_id: `loaded-${loads.begun}`,
          model_ref: load.model,
          blocks: "",
        });
        scheduler.changed(cluster.report(Heartbeat.parse(report), nowMs));
        done.resolve();
      });
      return done.promise;
    },
    log: createLogger({ part: "simulation", level: "error", format: "json", write: () => {} }),
    now: () => nowMs,
  });
  const agenda = new Agenda();
  const served = new Float64Array(KEYS);
  const decisionsUs: number[] = [];
  const longUs: number[] = [];
  const beforeUs: number[] = [];
  const beforeLongUs: number[] = [];
  const waits = { interactive: 0, batch: 0 };
  let longestMs = 0;
  let refused = 0;
  let unloadable = 0;
  let hits = 0;
  const timed = <T>(act: () => T, into = decisionsUs): T => {
    const start = performance.now();
    const result = act();
    into.push((performance.now() - start) * 1000);
    return result;
  };
  const prefixes = new Prefixes();
  const longTexts = Array.from(
    { length: LONG_PROMPTS },
    (_, i) => `${i} `.padEnd(4 * LONG_TOKENS, "once upon "),
  );
  const longBlocks = (i: number) =>
    Array.from({ length: LONG_BLOCKS }, (_, block) => 1e9 + i * LONG_BLOCKS + block);
  const slots = HIVES * WORKERS_PER_HIVE * SLOTS;
  // Keys have shares of 1 and 2, ask for answers of different lengths and for more than their share, some for twice as much.
  const shareOf = (key: number) => 1 + Number(key >= KEYS / 2);
  const lengthOf = (key: number) => 50 + 30 * (key % 10);
  const shareOfAll = slots * TOKENS_PER_SECOND / KEYS;
  const perSecondOf = (key: number) =>
    OVERLOAD * (1 + key % 2) * shareOf(key) / 1.5 * shareOfAll / lengthOf(key);
  const perSecond = Array.from({ length: KEYS }, (_, key) => perSecondOf(key)).reduce(
    (sum, one) => sum + one,
    0,
  );
  const keys = Array.from(
    { length: KEYS },
    (_, key) => Array<number>(Math.round(10_000 * perSecondOf(key) / perSecond)).fill(key),
  ).flat();
  const signal = new AbortController().signal;
  let ended = 0;
  let accepted = 0;

  const arrive = (id: number) => {
    const key = random.pick(keys);
    const tokens = lengthOf(key);
    const prefix = random.integer(0, PREFIXES - 1);
    const priority = random.chance(20) ? "batch" : "interactive";
    const sinceMs = nowMs;
    const isLong = id % LONG_EVERY === 0;
    const long = random.integer(0, LONG_PROMPTS - 1);
    const name = random.chance(1) && random.chance(10)
      ? `hf:unloaded/model-${random.integer(0, UNLOADED_MODELS - 1)}`
      : `model-${random.integer(0, MODELS - 1)}`;
    const body = {
      model: name,
      prompt: isLong ? longTexts[long] : `${prefix} `.padEnd(2_048, "once upon "),
      max_tokens: tokens,
    };
    const { model, text } = timed(() => {
      const request = CompletionRequest.parse(body);
      const model = modelOf(request.model, { cluster });
      return { model, text: promptTextOf(model, { request: body, scope: `key-${key}` }) };
    }, isLong ? beforeLongUs : beforeUs);
    const asked = timed(() =>
      scheduler.acquire({
        ...{ id: String(id), key: `key-${key}`, share: shareOf(key), model },
        ...{ priority, tokens, sinceMs, deadlineMs: Infinity, begun: false },
        promptTokens: isLong ? LONG_TOKENS : 512,
        blocks: isLong ? prefixes.blocksOf(text) : blocksOf(prefix),
      }, { signal }), isLong ? longUs : decisionsUs);
    asked.then((lease) => {
      accepted++;
      if (isLong) {
        prefixes.learn(text, longBlocks(long));
        cluster.read(lease.worker, longBlocks(long));
      }
      if (lease.sharedTokens > 0) hits++;
      const waitedMs = nowMs - sinceMs;
      waits[priority] = Math.max(waits[priority], waitedMs);
      longestMs = Math.max(longestMs, waitedMs);
      start(lease, { key, tokens });
    }, (error) => {
      if (!(error instanceof RbeeError)) throw error;
      if (error.code === "QUEUE_FULL") refused++;
      else if (error.code === "WORKER_START_FAILED") unloadable++;
      else throw error;
    });
  };
  const start = (lease: Lease, what: { key: number; tokens: number }) => {
    agenda.add(nowMs + what.tokens * 1000 / TOKENS_PER_SECOND, () => {
      served[what.key] += what.tokens;
      ended++;
      timed(() => lease.done(what.tokens));
    });
  };

  const startedMs = performance.now();
  let arrivals = 0;
  const nextArrival = () => {
    if (arrivals === requests) return;
    agenda.add(nowMs - Math.log(1 - random.next()) * 1000 / perSecond, () => {
      arrive(arrivals++);
      nextArrival();
    });
  };
  nextArrival();
  // Fairness is measured while all keys want more than there is, not when the last requests run out.
  let fairShares: Float64Array | undefined;
  for (let event = agenda.next(); event !== undefined; event = agenda.next()) {
    nowMs = event.atMs;
    event.act();
    // What was given is taken before time goes on.
    await Promise.resolve();
    await Promise.resolve();
    await Promise.resolve();
    await Promise.resolve();
    if (arrivals === requests && fairShares === undefined) fairShares = served.slice();
  }
  const told = (values: number[]) => {
    values.sort((a, b) => a - b);
    const percentile = (p: number) => values[Math.min(values.length - 1, Math.floor(values.length * p))];
    return `p50 ${percentile(0.5).toFixed(0)} µs, p99 ${percentile(0.99).toFixed(0)} µs, most ${
      (percentile(1) / 1000).toFixed(1)
    } ms, of ${values.length}`;
  };
  console.log(
    `${HIVES} hives, ${
      HIVES * WORKERS_PER_HIVE
    } workers, ${slots} slots, ${MODELS} loaded models, ${KEYS} keys with shares of 1 and 2:`,
  );
  console.log(
    `  state: ${stateMb.toFixed(1)} MB of heap, ${BLOCKS_PER_WORKER} prompt blocks for each worker`,
  );
  console.log(
    `  ${requests} requests, each key for ${OVERLOAD} or ${
      2 * OVERLOAD
    } × its share: ${accepted} served, ${refused} refused (queue of ${QUEUE_LIMIT} full), ` +
      `${accepted - ended + scheduler.waiting} left over; ${
        Math.round(100 * hits / accepted)
      } % went where their prompt began`,
  );
  console.log(
    `  ${loads.begun} loads begun, ${loads.refused} of them refused, ${unloadable} requests told so`,
  );
  console.log(`  decision: ${told(decisionsUs)}`);
  console.log(`  decision with a prompt of ${LONG_TOKENS} tokens: ${told(longUs)}`);
  console.log(
    `  schema, model and hashes: ${told(beforeUs)}; of ${LONG_TOKENS} tokens: ${told(beforeLongUs)}`,
  );
  const fair = fairShares ?? served;
  const perShare = Array.from(fair, (tokens, key) => tokens / shareOf(key));
  const mean = perShare.reduce((sum, one) => sum + one, 0) / KEYS;
  const off = Math.max(...perShare.map((one) => Math.abs(one / mean - 1)));
  const jainOf = (share: number) => jain(fair.filter((_, key) => shareOf(key) === share)).toFixed(4);
  console.log(
    `  fairness (Jain, tokens): ${jainOf(1)} within keys of share 1, ${jainOf(2)} of share 2; ` +
      `tokens per share differ from the mean by at most ${(100 * off).toFixed(1)} %`,
  );
  console.log(
    `  longest wait: interactive ${(waits.interactive / 1000).toFixed(1)} s, batch ${
      (waits.batch / 1000).toFixed(1)
    } s, ` +
      `of ${(nowMs / 1000).toFixed(0)} s`,
  );
  console.log(`  computed in ${((performance.now() - startedMs) / 1000).toFixed(0)} s`);
}

/** Machines that come and go for a day: what is kept of them. */
function churn(seed: number): void {
  const random = new Random(seed, 2);
  const cluster = new Cluster(0);
  const heapMb = () => (gc(), Deno.memoryUsage().heapUsed / 1e6);
  const figures: string[] = [];
  let nowMs = 0;
  let made = 0;
  const there = Array.from({ length: 100 }, () => churned(made++, random));
  for (let hour = 0; hour <= CHURN_HOURS; hour++) {
    if (hour % 6 === 0) {
      figures.push(`${heapMb().toFixed(1)} MB after ${hour} h (${[...cluster.nodes()].length} known)`);
    }
    for (const endMs = nowMs + 3_600_000; nowMs < endMs; nowMs += 1_000) {
      if (nowMs % 10_000 === 0) {
        // One leaves for good, and another one comes.
        const place = random.integer(0, there.length - 1);
        there[place] = churned(made++, random);
        for (const report of there) cluster.report(report, nowMs);
      }
      cluster.tick(nowMs);
    }
  }
  console.log(`${made} machines in ${CHURN_HOURS} hours, 100 at a time: ${figures.join(", ")}`);
}

/** A machine like no other, with a model of its own. */
function churned(number: number, random: Random): Heartbeat {
  const report = reportOf(number % HIVES, random);
  return Heartbeat.parse({
    ...{ ...report, node_name: `machine-${number}`, instance: `i-${number}` },
    models: [{ model_ref: `model-of-${number}`, size_bytes: 1e9 }],
    workers: report.workers.map((worker) => ({ ...worker, worker_id: `${worker.worker_id}-${number}` })),
  });
}

/** 1: all the same; 1/n: one has everything. */
function jain(shares: Float64Array): number {
  const sum = shares.reduce((total, share) => total + share, 0);
  return sum * sum / (shares.length * shares.reduce((total, share) => total + share * share, 0));
}

/** A real queen, told by a thousand hives every five seconds. */
async function heartbeats(seed: number): Promise<void> {
  const random = new Random(seed, 1);
  await using home = await tempHome();
  await using queen = await startQueen({ home });
  const send = (report: HeartbeatInput) =>
    fetch(`${queen.url}/v2/hives/heartbeat`, {
      method: "POST",
      headers: { Authorization: `Bearer ${CLUSTER_KEY}`, "Content-Type": "application/json" },
      body: JSON.stringify(report),
    }).then(async (response) => {
      if (!response.ok) throw new Error(await response.text());
      await response.body?.cancel();
    });
  const reports = Array.from({ length: HIVES }, (_, hive) => reportOf(hive, random));
  const large = Array.from({ length: UNPLACEABLE }, (_, i) => `hf:large/model-${i}:Q8_0`);
  reports[0].models!.push(...large.map((model_ref) => ({ model_ref, size_bytes: 3e10 })));
  for (const report of reports) await send(report);
  // These wait for room that no machine has.
  for (const model of large) {
    const response = await fetch(`${queen.url}/v2/tasks`, {
      method: "POST",
      headers: { Authorization: `Bearer ${CLUSTER_KEY}`, "Content-Type": "application/json" },
      body: JSON.stringify({ model, prompt: "Once" }),
    });
    if (response.status !== 202) throw new Error(await response.text());
    await response.body?.cancel();
  }
  // From now on as a hive does it: what has not changed is not told again. One worker in ten has read new prompts.
  const cpuSeconds = async () => {
    const fields = (await Deno.readTextFile(`/proc/${queen.pid}/stat`)).split(") ")[1].split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100;
  };
  const cpuBefore = await cpuSeconds();
  const startMs = performance.now();
  const gapMs = HEARTBEAT_INTERVAL_MS / HIVES;
  const sent: Promise<void>[] = [];
  for (let i = 0; i < HEARTBEAT_ROUNDS * HIVES; i++) {
    const { workers, devices: _, models: __, ...rest } = reports[i % HIVES];
    const told = workers.map(({ blocks, ...worker }) => random.chance(10) ? { ...worker, blocks } : worker);
    sent.push(send({ ...rest, workers: told }));
    const aheadMs = (i + 1) * gapMs - (performance.now() - startMs);
    if (aheadMs > 1) await new Promise((resolve) => setTimeout(resolve, aheadMs));
  }
  await Promise.all(sent);
  const seconds = (performance.now() - startMs) / 1000;
  const used = await cpuSeconds() - cpuBefore;
  const memory = /VmHWM:\s+(\d+)/.exec(await Deno.readTextFile(`/proc/${queen.pid}/status`))![1];
  console.log(
    `with ${UNPLACEABLE} requests waiting for room, heartbeats of ${HIVES} hives every ${
      HEARTBEAT_INTERVAL_MS / 1000
    } s, over HTTP: ${(100 * used / seconds).toFixed(1)} % of a core ` +
      `over ${seconds.toFixed(0)} s; the queen's greatest resident memory ${
        (Number(memory) * 1024 / 1e6).toFixed(0)
      } MB`,
  );
}

/** With `--v8-flags=--expose-gc`; else memory is only about right. */
function gc(): void {
  (globalThis as { gc?: () => void }).gc?.();
}
