/** Machines that a queen is told to leave alone: cordoned, drained, and given work again. */
import { assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { emptyHome, runKeeper } from "../../keeper/testing/keeper_process.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { QueenClient } from "../../protocol/queen_client.ts";
import type { TaskEvent, TaskInput } from "../../protocol/queen_schemas.ts";
import { CLUSTER_KEY, known, LONG_TEXT, spawned, startCluster, startQueen } from "../helpers/cluster.ts";
import { freePort } from "../helpers/free_port.ts";

const DRAIN_TIMEOUT_MS = 60_000;
const MODEL = "builtin:stories";
const NODES = ["gpu", "mac"];
const SHORT: TaskInput = { model: MODEL, prompt: "Once", max_tokens: 5, seed: 1 };
const LONG: TaskInput = { ...SHORT, max_tokens: 300, grammar: LONG_TEXT };

/** Where an answer ran, in order, and how it ended. */
function wayOf(events: readonly TaskEvent[]): string[] {
  return events.flatMap((event) =>
    event.type === "started"
      ? [event.node]
      : event.type === "end" || event.type === "error"
      ? [event.type]
      : []
  );
}

async function ran(client: QueenClient, task: TaskInput): Promise<string[]> {
  return wayOf(await Array.fromAsync((await client.run(task)).events));
}

/** Has something done once the answer has begun; its events. */
async function during(
  client: QueenClient,
  task: TaskInput,
  act: () => Promise<unknown>,
): Promise<TaskEvent[]> {
  const told: TaskEvent[] = [];
  let acting: Promise<unknown> | undefined;
  for await (const event of (await client.run(task)).events) {
    told.push(event);
    if (event.type === "token") acting ??= act();
  }
  await acting;
  return told;
}

Deno.test("a machine that is cordoned gets nothing new, whoever is the queen; one that is drained is left empty; what none can do is refused", async () => {
  const listen = `127.0.0.1:${freePort()}`;
  await using cluster = await startCluster({ nodes: NODES, listen, queenConfig: { replicate_after: 0 } });
  await using home = await emptyHome();
  const keyFile = join(home.path, "queen.key");
  await Deno.writeTextFile(keyFile, `${CLUSTER_KEY}\n`, { mode: 0o600 });
  const { client, url } = cluster.queen;
  const keeper = async (...args: string[]) => {
    const env = { RBEE_QUEEN: url, RBEE_QUEEN_KEY_FILE: keyFile };
    const { code, stdout, stderr } = await runKeeper(["nodes", ...args], { home, env });
    assertEquals(code, 0, stderr);
    return stdout + stderr;
  };
  await spawned(cluster, "gpu", { model_ref: MODEL });
  assertEquals(await ran(client, SHORT), ["gpu", "end"]);

  const cordoned = await during(client, LONG, () => client.onNode("cordonNode", "gpu"));
  assertEquals(wayOf(cordoned), ["gpu", "end"], "what runs goes on");
  assertMatch(await keeper("cordon", "gpu"), /Nothing new goes to gpu/);
  assertEquals(await ran(client, SHORT), ["mac", "end"]);
  const { nodes } = await client.explain({ model: MODEL });
  assertMatch(nodes.find(({ node }) => node === "gpu")!.why, /cordoned/);
  assertMatch(
    await keeper("label", "gpu", "--add", "fast", "--add", "cuda", "--remove", "slow"),
    /cuda, fast/,
  );

  await cluster.queen.kill();
  await using next = await startQueen({ home: cluster.homes.queen, listen });
  await known(next, NODES);
  assertEquals(await ran(next.client, SHORT), ["mac", "end"]);
  const list = await keeper("list", "--queen", url);
  assertMatch(
    list,
    /^NODE +URL +SSH +HIVE +SINCE +VERSION +LOAD +FREE MEMORY +DEVICES +FREE SLOTS +LABELS$/m,
  );
  assertMatch(
    list,
    /^gpu +http\S+ +up, 1 worker, cordoned +just now +\d+\.\d+\.\d+ +\d+\.\d of \d+ +\d+\.\d of \d+\.\d GB +cpu:0 +4\/4 +cuda fast$/m,
  );

  assertMatch(await keeper("uncordon", "gpu"), /Work goes to gpu again/);
  const waited = await during(
    next.client,
    { ...LONG, node: "gpu" },
    () => next.client.drainNode({ node_name: "gpu" }, { timeoutMs: DRAIN_TIMEOUT_MS }),
  );
  assertEquals(wayOf(waited), ["gpu", "end"], "its answers end by themselves");
  assertEquals((await cluster.hives.gpu.client.workers()).workers, []);
  assertMatch(await keeper("drain", "gpu"), /gpu is drained \(up, 0 workers, cordoned\)/);

  const whole = textOf(await Array.fromAsync((await next.client.run(LONG)).events));
  const moved = await during(next.client, LONG, async () => {
    await next.client.onNode("uncordonNode", "gpu");
    await next.client.drainNode({ node_name: "mac", timeout: 0 }, { timeoutMs: DRAIN_TIMEOUT_MS });
  });
  assertEquals(
    [wayOf(moved).at(-1), textOf(moved)],
    ["end", whole],
    "what has no time left goes on elsewhere",
  );
  assertEquals((await cluster.hives.mac.client.workers()).workers, []);
  assertEquals(await failureOf(next.client, { ...SHORT, backend: "cuda" }), "BACKEND_UNAVAILABLE");
  const unknown = await runKeeper(["nodes", "cordon", "nowhere", "--queen", url], {
    home,
    env: { RBEE_QUEEN_KEY_FILE: keyFile },
  });
  assertEquals(unknown.code, 1);
  assertMatch(unknown.stderr, /no node "nowhere"/);
});

/** How a task fails: at once, or where not all machines have reported yet, after a moment. */
async function failureOf(client: QueenClient, task: TaskInput): Promise<string | undefined> {
  try {
    const last = (await Array.fromAsync((await client.run(task)).events)).at(-1);
    return last?.type === "error" ? last.error.code : undefined;
  } catch (error) {
    if (error instanceof RbeeError) return error.code;
    throw error;
  }
}

function textOf(events: readonly TaskEvent[]): string {
  return events.map((event) => event.type === "token" ? event.token : "").join("");
}
