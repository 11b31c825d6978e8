import { assert, assertEquals } from "@std/assert";
import { CLUSTER_KEY, startQueen } from "./helpers/cluster.ts";
import { type Daemon, startHive } from "./helpers/daemons.ts";
import { flood, withDescriptors } from "./helpers/many_connections.ts";
import { tempHome } from "./helpers/temp_home.ts";
import { startWorker } from "./helpers/worker_process.ts";

/** Fewer descriptors than connections. */
const DESCRIPTORS = 200;
const CONNECTIONS = 600;

async function answersThroughout(daemon: Daemon & { url: string }, key: string): Promise<void> {
  const ask = async () => {
    const response = await fetch(`${daemon.url}/v1/health`, {
      headers: { Authorization: `Bearer ${key}`, Connection: "close" },
    });
    await response.body?.cancel();
    return response.status;
  };
  {
    using held = await flood(daemon.url, CONNECTIONS);
    assert(held.opened > DESCRIPTORS, `${held.opened} connections were opened`);
    assertEquals(await ask(), 200, "while they are held");
  }
  assertEquals(await ask(), 200, "once they are gone");
  await daemon.logged("the limit", ({ message }) => message === "connections are at their limit");
  assertEquals((await daemon.stop()).code, 0);
}

Deno.test("a hive goes on answering when there are more connections than descriptors", async () => {
  await using home = await tempHome();
  await using hive = await startHive({ home, within: withDescriptors(DESCRIPTORS) });
  await answersThroughout(hive, hive.key);
});

Deno.test("a queen goes on answering when there are more connections than descriptors", async () => {
  await using home = await tempHome();
  await using queen = await startQueen({ home, within: withDescriptors(DESCRIPTORS) });
  await answersThroughout(queen, CLUSTER_KEY);
});

Deno.test("a queen holds as many connections as it has descriptors for", async () => {
  await using home = await tempHome();
  await using queen = await startQueen({ home, within: withDescriptors(4 * CONNECTIONS) });
  using held = await flood(queen.url, CONNECTIONS);
  assertEquals(held.opened, CONNECTIONS);
  const answer = await fetch(`${queen.url}/v1/health`, {
    headers: { Authorization: `Bearer ${CLUSTER_KEY}` },
  });
  await answer.body?.cancel();
  assertEquals(answer.status, 200);
  assertEquals(queen.logLines().filter(({ message }) => message === "connections are at their limit"), []);
});

Deno.test("a worker goes on answering when there are more connections than descriptors", async () => {
  await using worker = await startWorker({ within: withDescriptors(DESCRIPTORS) });
  await answersThroughout(worker, worker.key);
});
