/** The keeper by way of a queen. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { emptyHome, runKeeper, startKeeper } from "../../keeper/testing/keeper_process.ts";
import { CLUSTER_KEY, killBusyWorkers, startCluster } from "../helpers/cluster.ts";
import { eventually } from "../helpers/eventually.ts";

async function homeFor(queen: { url: string }) {
  const home = await emptyHome();
  const keyFile = join(home.path, "queen.key");
  await Deno.writeTextFile(keyFile, `${CLUSTER_KEY}\n`, { mode: 0o600 });
  await Deno.writeTextFile(
    join(home.path, "config.yaml"),
    JSON.stringify({ keeper: { queen: queen.url, queen_key_file: keyFile } }),
  );
  return home;
}

const ASK = ["infer", "--prompt", "write a short story", "--seed", "4"];

Deno.test("infer goes through the queen that is configured, on any machine or on one, with the same screens", async () => {
  await using cluster = await startCluster({ nodes: ["mac", "workstation"] });
  await using home = await homeFor(cluster.queen);
  const first = await runKeeper([...ASK, "--max-tokens", "20", "--node", "workstation"], { home });
  assertEquals(first.code, 0, first.stderr);
  assert(first.stdout.trim().length > 0);
  assertMatch(first.stderr, /Loading model to VRAM/);
  assertMatch(first.stderr, /Model ready!/);
  const [worker] = await cluster.queen.client.workers();
  assertEquals(worker.node, "workstation");
  const again = await runKeeper([...ASK, "--max-tokens", "20", "--json"], { home });
  assertEquals(again.code, 0, again.stderr);
  const lines = again.stdout.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(lines.at(-1).done, true);
  assertEquals(lines.slice(0, -1).map(({ token }) => token).join("").trim(), first.stdout.trim());
  const list = await runKeeper(["workers", "list"], { home });
  assertMatch(
    list.stdout,
    new RegExp(`workstation +${worker.worker_id} +builtin:stories .* 4/4 `),
    list.stderr,
  );
  const { workers } = JSON.parse((await runKeeper(["workers", "list", "--json"], { home })).stdout);
  assertEquals(workers.map(({ node }: { node: string }) => node), ["workstation"]);
  const wrong = await runKeeper([...ASK, "--node", "nowhere"], { home });
  assertEquals(wrong.code, 1);
  assertMatch(wrong.stderr, /no node nowhere in this cluster/);
  const useless = await runKeeper([...ASK, "--slots", "2"], { home });
  assertEquals(useless.code, 2);
  assertMatch(useless.stderr, /--slots is about one worker/);
});

Deno.test("Ctrl+C ends the task at the queen, and a worker that dies is not to be seen", async () => {
  await using cluster = await startCluster({ nodes: ["mac"] });
  await using home = await homeFor(cluster.queen);
  const long = [...ASK, "--max-tokens", "400", "--raw"];
  const whole = await runKeeper(long, { home });
  assertEquals(whole.code, 0, whole.stderr);
  const cut = startKeeper(long, { home });
  await eventually("a worker that is killed", async () => await killBusyWorkers(cluster) > 0);
  const survived = await cut.finished;
  assertEquals([survived.code, survived.stdout], [0, whole.stdout], survived.stderr);
  const stopped = startKeeper(long, { home });
  await eventually(
    "an answer",
    async () => (await cluster.queen.client.workers()).some(({ slots_busy }) => slots_busy > 0),
  );
  stopped.signal("SIGINT");
  const { code, stderr } = await stopped.finished;
  assertEquals(code, 130);
  assertMatch(stderr, /Canceled\./);
  await eventually(
    "free slots",
    async () => (await cluster.queen.client.workers()).every(({ slots_busy }) => slots_busy === 0),
  );
});
