/** Machines that come and go for a day: what a queen keeps of them. */
import { encodeBlocks } from "../protocol/prefix_blocks.ts";
import { Heartbeat } from "../protocol/queen_schemas.ts";
import { Cluster } from "../queen/cluster/cluster.ts";
import { Prefixes, promptTextOf } from "../queen/cluster/prefixes.ts";
import { Random } from "../tests/soak/random.ts";
import { memoryMb } from "./simulation_figures.ts";
import { HIVES, reportOf } from "./queen_reports.ts";

const HOURS = 24;
const AT_A_TIME = 25;
const PROMPT_BLOCKS = 64;

/** Every ten seconds one leaves for good, and another one comes; all report, and each reads a prompt of its own. */
export function churn(seed: number): void {
  const random = new Random(seed, 2);
  const before = memoryMb();
  const cluster = new Cluster(0);
  const prefixes = new Prefixes();
  const figures: string[] = [];
  let nowMs = 0;
  let made = 0;
  let prompts = 0;
  const there = Array.from({ length: AT_A_TIME }, () => machine(made++, random));
  for (let hour = 0; hour <= HOURS; hour++) {
    if (hour % 4 === 0) {
      const known = [...cluster.nodes()].length;
      figures.push(`${(memoryMb() - before).toFixed(1)} MB after ${hour} h (${known} known)`);
    }
    for (const endMs = nowMs + 3_600_000; nowMs < endMs; nowMs += 1_000) {
      if (nowMs % 10_000 === 0) {
        there[random.integer(0, AT_A_TIME - 1)] = machine(made++, random);
        for (const [i, report] of there.entries()) {
          cluster.report(report, nowMs);
          const [first, ...others] = report.workers;
          const blocks = Float64Array.from({ length: PROMPT_BLOCKS }, (_, i) => PROMPT_BLOCKS * prompts + i);
          const text = promptTextOf(first.model_ref, { request: { prompt: `${prompts++}` }, scope: "key" });
          prefixes.learn(text, blocks);
          cluster.read(cluster.worker(first.worker_id)!, blocks);
          // The next report tells what has changed since.
          there[i] = {
            ...report,
            ...{ devices: undefined, models: undefined },
            workers: [
              { ...first, blocks: encodeBlocks(blocks) },
              ...others.map((worker) => ({ ...worker, blocks: undefined })),
            ],
          };
        }
      }
      cluster.tick(nowMs);
    }
  }
  console.log(
    `${made} machines in ${HOURS} hours, ${AT_A_TIME} at a time, ${prompts} prompts: ${figures.join(", ")}`,
  );
}

/** A machine like no other, with a model of its own. */
function machine(number: number, random: Random): Heartbeat {
  const report = reportOf(number % HIVES, random);
  return Heartbeat.parse({
    ...{ ...report, node_name: `machine-${number}`, instance: `i-${number}` },
    models: [{ model_ref: `model-of-${number}`, size_bytes: 1e9 }],
    workers: report.workers.map((worker) => ({ ...worker, worker_id: `${worker.worker_id}-${number}` })),
  });
}
