/** A worker that stands still in the middle of an answer: its hive ends it, and the answer goes on elsewhere. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import type { TaskEvent } from "../../protocol/queen_schemas.ts";
import { type Cluster, spawned, startCluster } from "../helpers/cluster.ts";
import { eventually } from "../helpers/eventually.ts";

const MODEL = "builtin:stories";
const NODES = ["mac", "workstation"];
const ASK = { model: MODEL, prompt: "Once upon a time", max_tokens: 400, seed: 11, temperature: 0.9 };

function textOf(events: readonly TaskEvent[]): string {
  return events.map((event) => event.type === "token" ? event.token : "").join("");
}

/** Asks, stalls the worker that has the answer at its first token, and tells which node that was and what was said. */
async function askAndStall(
  { queen }: Cluster,
  stall: (at: { node: string; workerId: string }) => Promise<void>,
): Promise<{ node: string; workerId: string; told: TaskEvent[] }> {
  const told: TaskEvent[] = [];
  let first: { node: string; workerId: string } | undefined;
  let isStalled = false;
  for await (const event of (await queen.client.run(ASK)).events) {
    told.push(event);
    if (event.type === "started") first ??= { node: event.node, workerId: event.worker_id };
    if (event.type !== "token" || isStalled) continue;
    isStalled = true;
    await stall(first!);
  }
  return { ...first!, told };
}

/** One worker on each machine, and what they say when nothing happens to them. */
async function ready(cluster: Cluster): Promise<string> {
  for (const node of NODES) await spawned(cluster, node, { model_ref: MODEL });
  return textOf(await Array.fromAsync((await cluster.queen.client.run(ASK)).events));
}

async function failedWorker({ hives }: Cluster, at: { node: string; workerId: string }) {
  return await eventually("the failed worker on the list", async () => {
    const { state, error } = await hives[at.node].client.worker(at.workerId);
    return state === "failed" ? error : undefined;
  });
}

Deno.test("an engine that is stopped in the middle of a step costs its worker, and not the seeded answer", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const fileOf = (node: string) => join(folder, node);
    await using cluster = await startCluster({
      nodes: NODES,
      envOf: (node) => ({ RBEE_TEST_STALL_FILE: fileOf(node) }),
    });
    const uncut = await ready(cluster);
    const answer = await askAndStall(cluster, ({ node }) => Deno.writeTextFile(fileOf(node), ""));
    assertEquals(textOf(answer.told), uncut);
    assertEquals(answer.told.filter(({ type }) => type === "started").length, 2);
    const error = await failedWorker(cluster, answer);
    assertEquals(error?.code, "WORKER_CRASHED");
    assertStringIncludes(error!.message, "its engine has been in one step for");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a worker whose threads all stand still costs itself, and not the seeded answer", async () => {
  await using cluster = await startCluster({ nodes: NODES });
  const uncut = await ready(cluster);
  const answer = await askAndStall(cluster, async ({ node, workerId }) => {
    const { workers } = await cluster.hives[node].client.workers();
    Deno.kill(workers.find(({ worker_id }) => worker_id === workerId)!.pid, "SIGSTOP");
  });
  assertEquals(textOf(answer.told), uncut);
  assertEquals(answer.told.filter(({ type }) => type === "started").length, 2);
  assertStringIncludes((await failedWorker(cluster, answer))!.message, "stopped answering");
});
