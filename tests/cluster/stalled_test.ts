/** A worker that stands still in the middle of an answer: its hive ends it, and the answer goes on elsewhere. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { type Cluster, startCluster } from "../helpers/cluster.ts";
import { eventually } from "../helpers/eventually.ts";
import { askAndStall, oneWorkerEach, type Place, uncutAnswer } from "../helpers/stalls.ts";

const NODES = ["mac", "workstation"];
const SEED = 11;

/** Why a worker is on its hive's list as failed. */
async function failureOf({ hives }: Cluster, { node, workerId }: Place) {
  return await eventually("the failed worker on the list", async () => {
    const { state, error } = await hives[node].client.worker(workerId);
    return state === "failed" ? error : undefined;
  });
}

async function stalls(cluster: Cluster, options: { stall: (at: Place) => Promise<void>; why: string }) {
  await oneWorkerEach(cluster);
  const uncut = await uncutAnswer(cluster, SEED);
  const { at, workers, text } = await askAndStall(cluster, { seed: SEED, stall: options.stall });
  assertEquals([text, workers], [uncut, 2]);
  const error = await failureOf(cluster, at);
  assertEquals(error?.code, "WORKER_CRASHED");
  assertStringIncludes(error!.message, options.why);
}

Deno.test("an engine that is stopped in the middle of a step costs its worker, and not the seeded answer", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const fileOf = (node: string) => join(folder, node);
    const envOf = (node: string) => ({ RBEE_TEST_STALL_FILE: fileOf(node) });
    await using cluster = await startCluster({ nodes: NODES, envOf });
    await stalls(cluster, {
      stall: ({ node }) => Deno.writeTextFile(fileOf(node), ""),
      why: "its engine has been in one step for",
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a worker whose threads all stand still costs itself, and not the seeded answer", async () => {
  await using cluster = await startCluster({ nodes: NODES });
  await stalls(cluster, {
    async stall({ node, workerId }) {
      const { pid } = await cluster.hives[node].client.worker(workerId);
      Deno.kill(pid, "SIGSTOP");
    },
    why: "it stopped answering health checks",
  });
});
