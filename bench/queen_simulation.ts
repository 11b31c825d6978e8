/**
 * A thousand machines, ten thousand workers and a million requests in time that passes as fast as it can be computed, with
 * the queue, the placement and the cluster of the real queen, told by heartbeats and ticks as it is in earnest. What a
 * request costs before it is decided is part of it: its schema, which model it means, the hashes of its prompt. One prompt
 * in fifty has 128k tokens, keys have shares of 1 and 2, some models have to be loaded first, and hives refuse some of
 * these. Prints what decisions take, how fair they are, who waited longest, and what memory the state takes, then after 24
 * hours of machines that come and go; last, what the heartbeats of a thousand hives cost a real queen while a hundred
 * requests wait that no machine has room for.
 *
 *     deno run -A --v8-flags=--expose-gc,--max-semi-space-size=4 bench/queen_simulation.ts [--requests N] [--seed N] [--only PART]
 */
import { type FlagTable, readFlags } from "../home/flags.ts";
import { churn } from "./queen_churn.ts";
import { heartbeats } from "./queen_heartbeats.ts";
import { BLOCKS_PER_WORKER, HIVES, MODELS, SLOTS, WORKERS_PER_HIVE } from "./queen_reports.ts";
import {
  KEYS,
  LONG_EVERY,
  LONG_TOKENS,
  OVERLOAD,
  QUEUE_LIMIT,
  shareOf,
  SimulatedQueen,
} from "./simulated_queen.ts";
import { jain, toldUs } from "./simulation_figures.ts";

const PARTS = ["requests", "churn", "heartbeats"] as const;
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
  only: { type: "text", value: "PART", choices: PARTS, help: "One of its parts alone." },
} as const satisfies FlagTable;

if (import.meta.main) {
  const { flags, problems } = readFlags(Deno.args, FLAGS);
  if (problems.length > 0) {
    console.error(
      [...problems, "Usage: queen_simulation.ts [--requests N] [--seed N] [--only PART]"].join("\n"),
    );
    Deno.exit(2);
  }
  const wants = (part: (typeof PARTS)[number]) => flags.only === undefined || flags.only === part;
  if (wants("requests")) await simulate(flags);
  if (wants("churn")) churn(flags.seed);
  if (wants("heartbeats")) await heartbeats(flags.seed);
}

async function simulate(options: { requests: number; seed: number }): Promise<void> {
  const beganMs = performance.now();
  const queen = new SimulatedQueen(options);
  await queen.run();
  const { counts, took, fair, longestMs } = queen;
  const workers = HIVES * WORKERS_PER_HIVE;
  console.log(
    `${HIVES} hives, ${workers} workers, ${
      workers * SLOTS
    } slots, ${MODELS} loaded models, ${KEYS} keys with shares of 1 and 2:`,
  );
  console.log(
    `  state: ${queen.stateMb.toFixed(1)} MB with ${BLOCKS_PER_WORKER} prompt blocks for each worker`,
  );
  console.log(
    `  ${options.requests} requests, one in ${LONG_EVERY} of ${LONG_TOKENS} tokens, each key for ${OVERLOAD} or ${
      2 * OVERLOAD
    } × its share: ${counts.served} served, ${counts.full} refused (queue of ${QUEUE_LIMIT} full), ` +
      `${queen.waiting} left over; ${
        Math.round(100 * counts.hits / counts.served)
      } % went where their prompt began`,
  );
  console.log(
    `  ${counts.loads} loads begun, ${counts.refusedLoads} of them refused, ${counts.unloadable} requests told so`,
  );
  console.log("  times that the thread computed for:");
  const rows = [
    ["decision", took.decision],
    [`decision, ${LONG_TOKENS} tokens`, took.longDecision],
    ["schema, model and hashes", took.before],
    [`schema, model and hashes, ${LONG_TOKENS} tokens`, took.longBefore],
    ["an answer ends, the next is decided", took.end],
    ["a report is taken", took.report],
    ["a tick", took.tick],
  ] as const;
  for (const [name, values] of rows) console.log(`    ${name}: ${toldUs(values)}`);
  const perShare = Array.from(fair, (tokens, key) => tokens / shareOf(key));
  const mean = perShare.reduce((sum, one) => sum + one, 0) / KEYS;
  const off = Math.max(...perShare.map((one) => Math.abs(one / mean - 1)));
  const keysOf = (share: number) => fair.filter((_, key) => shareOf(key) === share);
  const [ones, twos] = [1, 2].map((share) => keysOf(share).reduce((sum, one) => sum + one, 0) / share);
  console.log(
    `  fairness (tokens while all want more than there is): Jain ${
      jain(keysOf(1)).toFixed(4)
    } within keys of share 1, ` +
      `${jain(keysOf(2)).toFixed(4)} of share 2; these have ${(2 * twos / ones).toFixed(3)} × as much; ` +
      `one key's tokens per share differ from the mean by at most ${(100 * off).toFixed(1)} %`,
  );
  console.log(
    `  longest wait: interactive ${(longestMs.interactive / 1000).toFixed(1)} s, batch ${
      (longestMs.batch / 1000).toFixed(1)
    } s, of ${queen.seconds.toFixed(0)} s`,
  );
  console.log(`  computed in ${((performance.now() - beganMs) / 1000).toFixed(0)} s`);
}
