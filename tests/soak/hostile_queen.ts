/**
 * `deno task soak:hostile:queen`: hostile requests by way of a queen with three workers, while another key asks for short
 * answers. No request may cost more than two workers, whatever it does to them, and the other key is served throughout.
 * What kills a worker for certain is done by the harness. Exit status 1 otherwise.
 */
import { delay } from "@std/async";
import { fromFileUrl } from "@std/path";
import { digestOf } from "../../daemon/auth.ts";
import { type FlagTable, readFlags } from "../../home/flags.ts";
import { FOREIGN_ROUTES } from "../../protocol/routes.ts";
import { entryAt, foundCount } from "../hostile/corpus.ts";
import { type Kind, KINDS } from "../hostile/entry.ts";
import { post, type Target, wrong } from "../hostile/send.ts";
import { type Cluster, spawned, startCluster } from "../helpers/cluster.ts";
import { ROOT } from "../helpers/daemons.ts";

const MODEL = "builtin:stories";
const NODES = ["blep", "mac", "workstation"] as const;
/** What a request may cost. */
const MOST_WORKERS = 2;
const OTHERS_PAUSE_MS = 100;
/** Of the other key's requests: a worker that was lost has to be started anew meanwhile. */
const OTHERS_LIMIT_MS = 60_000;
/** Time for a death to be noticed, and for what it moves to arrive elsewhere. */
const SETTLE_MS = 300;
const ROUTES: ReadonlySet<string> = new Set([
  FOREIGN_ROUTES.completions.path,
  FOREIGN_ROUTES.chatCompletions.path,
  FOREIGN_ROUTES.messages.path,
  FOREIGN_ROUTES.responses.path,
  FOREIGN_ROUTES.embeddings.path,
]);
const KINDS_OF_REQUESTS = ["A4", "A1", "A2", "A3", "A5", "A6", "A12"] as const;

const FLAGS = {
  "per-kind": {
    type: "integer",
    value: "N",
    min: 1,
    max: 100_000,
    default: 10,
    help: "How many of each kind.",
  },
  seed: {
    type: "integer",
    value: "N",
    min: 0,
    max: 2 ** 32 - 1,
    default: 1,
    help: "What makes them the same.",
  },
  only: { type: "text", value: "KIND", repeatable: true, choices: Object.keys(KINDS), help: "Of this kind." },
  patience: {
    type: "integer",
    value: "SECONDS",
    min: 1,
    max: 600,
    default: 60,
    help: "Until an answer is stuck.",
  },
} as const satisfies FlagTable;

if (import.meta.main) {
  const { flags, problems } = readFlags(Deno.args, FLAGS);
  if (problems.length > 0) {
    console.error(
      [...problems, "Usage: deno task soak:hostile:queen [--per-kind N] [--seed N] [--only KIND]"].join("\n"),
    );
    Deno.exit(2);
  }
  const kinds = (flags.only?.length ? flags.only : KINDS_OF_REQUESTS) as readonly Kind[];
  Deno.exit(
    await soak({ perKind: flags["per-kind"], seed: flags.seed, kinds, patienceMs: flags.patience * 1000 }),
  );
}

async function soak(
  run: { perKind: number; seed: number; kinds: readonly Kind[]; patienceMs: number },
): Promise<number> {
  const keys = { hostile: crypto.randomUUID(), other: crypto.randomUUID() };
  const command = [
    ...[Deno.execPath(), "run", "-q", "-A", "--config", `${ROOT}deno.json`],
    ...[
      "--preload",
      fromFileUrl(new URL("../hostile/mortal_worker.ts", import.meta.url)),
      `${ROOT}worker/main.ts`,
    ],
  ];
  await using cluster = await startCluster({
    nodes: NODES,
    queenConfig: {
      keys: Object.entries(keys).map(([name, key]) => ({ name, hash: digestOf(key).toHex() })),
    },
    hive: { env: { RBEE_WORKER_COMMAND: JSON.stringify(command) } },
  });
  const hostile = { url: cluster.queen.url, key: keys.hostile };
  await workersEverywhere(cluster);
  const over = new AbortController();
  const others = otherKey({ url: cluster.queen.url, key: keys.other }, over.signal);
  let failed = 0;
  let passed = 0;
  for (const kind of run.kinds) {
    const outcomes = new Map<string, number>();
    let most = { lost: 0, name: "nothing" };
    let lostInAll = 0;
    const costs: number[] = [];
    let sent = 0;
    let wrongOnes = 0;
    for (let index = 0; sent < run.perKind && index < foundCount(kind) + 10 * run.perKind; index++) {
      const entry = entryAt(kind, { seed: run.seed, index });
      if (entry.act !== "request" || !ROUTES.has(entry.path)) continue;
      sent++;
      await workersEverywhere(cluster);
      const before = deaths(cluster);
      const outcome = await post(hostile, { path: entry.path, body: named(entry.body()) }, {
        limitMs: run.patienceMs,
      });
      await delay(SETTLE_MS);
      const lost = deaths(cluster) - before;
      lostInAll += lost;
      if (lost > 0) costs.push(lost);
      if (lost > most.lost) most = { lost, name: `${index} ${entry.name}` };
      const told = outcome.code === undefined ? outcome.what : `${outcome.what} ${outcome.code}`;
      outcomes.set(told, (outcomes.get(told) ?? 0) + 1);
      // The end of its worker is nobody's fault but the request's: it is told so, and not tried for ever.
      const ended = outcome.code === "REQUEST_POISONED" || outcome.code === "WORKER_CRASHED";
      const problem = lost > 0 && ended ? undefined : wrong(outcome, "either");
      if (problem !== undefined || lost > MOST_WORKERS) {
        wrongOnes++;
        console.log(`failed: ${kind}[${index}] ${entry.name}: ${lost} workers lost; ${problem ?? told}`);
      }
    }
    failed += wrongOnes;
    passed += sent - wrongOnes;
    console.log(
      `${kind} ${KINDS[kind]}: ${sent} sent, ${lostInAll} workers lost (${
        costs.join(", ")
      }), at most ${most.lost} by one (${most.name}); ` +
        [...outcomes].map(([what, count]) => `${count} ${what}`).join(", "),
    );
  }
  over.abort();
  const { served, problems, longestMs } = await others;
  for (const problem of problems) console.log(`failed: the other key: ${problem}`);
  console.log(
    `the other key: ${served} served, ${problems.length} not, the longest took ${longestMs.toFixed(0)} ms`,
  );
  console.log(`queen: ${passed + served} passed, ${failed + problems.length} failed (seed ${run.seed})`);
  return failed + problems.length === 0 ? 0 : 1;
}

/** Asks for short answers, one after the other, until the end. */
async function otherKey(target: Target, signal: AbortSignal) {
  const figures = { served: 0, problems: [] as string[], longestMs: 0 };
  const body = JSON.stringify({ model: MODEL, prompt: "Once upon a time", max_tokens: 10, temperature: 0 });
  while (!signal.aborted) {
    const outcome = await post(target, { path: FOREIGN_ROUTES.completions.path, body }, {
      limitMs: OTHERS_LIMIT_MS,
      signal,
    });
    if (outcome.what === "left") break;
    figures.longestMs = Math.max(figures.longestMs, outcome.ms);
    const problem = wrong(outcome, "answered");
    if (problem === undefined) figures.served++;
    else figures.problems.push(problem);
    await delay(OTHERS_PAUSE_MS, { signal }).catch(() => {});
  }
  return figures;
}

/** One worker on each machine. */
async function workersEverywhere(cluster: Cluster): Promise<void> {
  await Promise.all(NODES.map(async (node) => {
    const { workers } = await cluster.hives[node].client.workers();
    if (workers.some(({ state, pid }) => state !== "loading" && isAlive(pid))) return;
    await spawned(cluster, node, { model_ref: MODEL });
  }));
}

/** Workers that have ended since the start. */
function deaths({ hives }: Cluster): number {
  return Object.values(hives).flatMap((hive) => hive.workerPids()).filter((pid) => !isAlive(pid)).length;
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(Deno.readTextFileSync(`/proc/${pid}/status`));
  } catch {
    return false;
  }
}

/** A queen has to be told which model. */
function named(body: string | Uint8Array<ArrayBuffer>): string | Uint8Array<ArrayBuffer> {
  if (typeof body !== "string" || !body.startsWith("{") || body.startsWith('{"model"')) return body;
  return `{"model":"${MODEL}",${body.slice(1)}`;
}
