/**
 * Part of `deno task soak`: seeded answers by way of a queen, whose worker's engine is stopped in the middle of a step;
 * with `--freeze`, all of its machine: the worker and its hive. Each has to be the same as without that. Exit status 1
 * otherwise.
 */
import { join } from "@std/path";
import { type FlagTable, readFlags } from "../../home/flags.ts";
import { type Cluster, startCluster } from "../helpers/cluster.ts";
import { askAndStall, oneWorkerEach, type Place, uncutAnswer } from "../helpers/stalls.ts";

const FLAGS = {
  stalls: { type: "integer", value: "N", min: 1, max: 10_000, default: 10, help: "How many engines stall." },
  seed: { type: "integer", value: "N", min: 0, max: 2 ** 31, default: 1, help: "What makes them the same." },
  freeze: { type: "boolean", help: "Stop worker and hive instead of the engine." },
} as const satisfies FlagTable;

if (import.meta.main) {
  const { flags, problems } = readFlags(Deno.args, FLAGS);
  if (problems.length > 0) {
    console.error([...problems, "Usage: stalled_engines.ts [--stalls N] [--seed N] [--freeze]"].join("\n"));
    Deno.exit(2);
  }
  Deno.exit(await soak(flags));
}

async function soak(
  { stalls, seed, freeze }: { stalls: number; seed: number; freeze: boolean },
): Promise<number> {
  const folder = await Deno.makeTempDir();
  const fileOf = (node: string) => join(folder, node);
  const found: number[] = [];
  const pauses: number[] = [];
  let same = 0;
  try {
    await using cluster = await startCluster({
      nodes: ["mac", "workstation"],
      envOf: (node) => ({ RBEE_TEST_STALL_FILE: fileOf(node) }),
    });
    for (let round = 0; round < stalls; round++) {
      await oneWorkerEach(cluster);
      const uncut = await uncutAnswer(cluster, seed + round);
      let stalledAt = 0;
      let frozen: number[] = [];
      const { at, text, workers, pauseMs } = await askAndStall(cluster, {
        seed: seed + round,
        async stall({ node, workerId }) {
          if (freeze) {
            frozen = [(await cluster.hives[node].client.worker(workerId)).pid, cluster.hives[node].pid];
            for (const pid of frozen) Deno.kill(pid, "SIGSTOP");
          } else {
            await Deno.writeTextFile(fileOf(node), "");
          }
          stalledAt = Date.now();
        },
      });
      if (freeze) { for (const pid of frozen) Deno.kill(pid, "SIGCONT"); }
      else {
        if (workers > 1) found.push(await givenUpAt(cluster, at) - stalledAt);
        await Deno.remove(fileOf(at.node));
        // The whole answer was there already: nothing stood still in its middle.
        if (workers === 1) {
          round--;
          continue;
        }
      }
      if (text === uncut && workers === 2) same++;
      else console.log(`seed ${seed + round}, ${workers} workers:\n  ${uncut}\n  ${text}`);
      pauses.push(pauseMs);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  const seconds = (values: number[]) => values.toSorted((a, b) => a - b).map((ms) => (ms / 1000).toFixed(1));
  console.log(
    `${
      freeze ? "frozen machines" : "stalled engines"
    }: ${same} of ${stalls} answers are the same as without that (seed ${seed}); ` +
      `${freeze ? "" : `found after ${seconds(found).join(" ")} s, `}gone on elsewhere after ${
        seconds(pauses).join(" ")
      } s`,
  );
  return same === stalls ? 0 : 1;
}

/** When the hive gave its worker up, in ms since 1970. Until then it is to stand still. */
async function givenUpAt({ hives }: Cluster, { node, workerId }: Place): Promise<number> {
  const line = await hives[node].logged(
    "a worker given up",
    ({ message, worker_id }) => message === "worker failed" && worker_id === workerId,
  );
  return Date.parse(String(line.time));
}
