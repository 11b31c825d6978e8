/** Workers that a queen starts without being asked for them. */
import { assertEquals } from "@std/assert";
import { spawned, startCluster } from "../helpers/cluster.ts";
import { eventually } from "../helpers/eventually.ts";

const MODEL = "builtin:stories";
const LONG = { model: MODEL, prompt: "Once", max_tokens: 100, grammar: "root ::= [a-z ]{600}" };
const CALLERS = 24;
/** The queen waits for hives to report before it loads anything unasked. */
const PATIENCE_MS = 40_000;

Deno.test("a model that is kept loaded has as many workers as are wanted, on as many machines, also after one is lost", async () => {
  await using cluster = await startCluster({
    nodes: ["mac", "workstation"],
    queenConfig: { models: { [MODEL]: { keep_loaded: true, min_replicas: 2 } } },
  });
  const ready = async () => {
    const workers = (await cluster.queen.client.workers()).filter(({ state }) => state === "ready");
    return workers.map(({ node }) => node).toSorted().join() === "mac,workstation" && workers;
  };
  await eventually("two workers", ready, PATIENCE_MS);
  const [{ worker_id, pid, pinned }] = (await cluster.hives.mac.client.workers()).workers;
  assertEquals(pinned, true);
  Deno.kill(pid, "SIGKILL");
  await eventually(
    "another worker on mac",
    async () => (await ready() || []).every((worker) => worker.worker_id !== worker_id) && await ready(),
    PATIENCE_MS,
  );
});

Deno.test("a queue that lasts gets a second worker on another machine", async () => {
  await using cluster = await startCluster({
    nodes: ["mac", "workstation"],
    queenConfig: { replicate_after: 0.1 },
  });
  const { client } = cluster.queen;
  await spawned(cluster, "mac", { model_ref: MODEL, slots: 1 });
  // However fast the machine is: as long as there is no second worker, somebody waits for the first one.
  let enough = false;
  const asking = Array.from({ length: CALLERS }, async () => {
    while (!enough) {
      const { events } = await client.run(LONG);
      assertEquals((await Array.fromAsync(events)).at(-1)?.type, "end");
    }
  });
  try {
    await eventually(
      "a second worker",
      async () =>
        (await client.workers()).some(({ node, state }) => node === "workstation" && state === "ready"),
      PATIENCE_MS,
    );
  } finally {
    enough = true;
    await Promise.all(asking);
  }
});
