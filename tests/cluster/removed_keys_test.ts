/** What becomes of the requests of a key that is removed, or gets a new secret. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import { join } from "@std/path";
import { emptyHome, runKeeper } from "../../keeper/testing/keeper_process.ts";
import { QueenClient } from "../../protocol/queen_client.ts";
import { CLUSTER_KEY, spawned, startCluster } from "../helpers/cluster.ts";
import { eventually } from "../helpers/eventually.ts";
import {
  FakeFleet,
  FLEET_KEY,
  FLEET_MODEL as model,
  FLEET_TOKENS,
  type FleetQueen,
  fleetQueen,
} from "../helpers/fake_fleet.ts";
import { type LlamaShape, writeLlamaGguf } from "../helpers/gguf_writer.ts";
import { tempHome } from "../helpers/temp_home.ts";

const bearer = (key: string) => ({ Authorization: `Bearer ${key}` });
const hash = (key: string) => createHash("sha256").update(key).digest("hex");
const GATED = { model, prompt: "gated", max_tokens: FLEET_TOKENS };

/** Has a queen do something to a key, as its owner. */
async function asOwner(queen: FleetQueen, method: string, path: string): Promise<Response> {
  return await queen.queen.app(
    new Request(`http://queen${path}`, { method, headers: bearer(FLEET_KEY) }),
  );
}

const code = async (response: Response) =>
  response.ok ? "done" : `${response.status} ${(await response.json()).error.code}`;

/** A task, and requests that are answered whole and as a stream; tells how each ends. */
async function sendAll(queen: FleetQueen, key: string) {
  const call = (path: string, body: unknown) => queen.call(path, body, bearer(key));
  const { job_id: task } = await (await call("/v2/tasks", GATED)).json();
  const endOf = async (response: Response) => /"code":"(\w+)"/.exec(await response.text())?.[1] ?? "done";
  const ends = [
    call("/v1/completions", GATED).then(code),
    call("/v1/completions", { ...GATED, stream: true }).then(endOf),
  ];
  return {
    task,
    ends,
    followed: queen.call(`/v2/tasks/${task}/events`, undefined, bearer(key)).then(endOf),
  };
}

Deno.test("a removed key's requests end, those that wait too; those of one with a new secret go on", async () => {
  await using home = await tempHome();
  await using queen = await fleetQueen(home, { job_timeout: 20 });
  await using fleet = new FakeFleet(queen, { slots: 7 });
  await fleet.start(1);
  const made = async (name: string) => (await (await queen.call("/v2/keys", { name })).json()).key;
  const [eve, bob] = [await made("eve"), await made("bob")];
  const [eves, bobs] = [await sendAll(queen, eve), await sendAll(queen, bob)];
  // It comes to no end by itself, nor is it relayed.
  const embeds = queen.call("/v1/embeddings", { model, input: "hangs" }, bearer(eve)).then(code);
  await eventually("all slots to be taken", () => fleet.seen.length === 7);
  const waiting = [eve, bob].map((key) => queen.call("/v1/completions", GATED, bearer(key)));
  await eventually("two to wait", () => queen.queen.parts.scheduler.waiting === 2);

  const rotated = await (await asOwner(queen, "POST", "/v2/keys/bob/rotate")).json();
  assertEquals((await asOwner(queen, "DELETE", "/v2/keys/eve")).status, 204);
  const gone = "INVALID_API_KEY";
  assertEquals(await Promise.all(eves.ends), [`401 ${gone}`, gone]);
  assertEquals([await embeds, await eves.followed], [`401 ${gone}`, gone]);
  const refused = await waiting[0];
  assertEquals(refused.status, 401);
  assertMatch(
    (await refused.json()).error.message,
    /The key eve was removed, and its requests ended with it/,
  );
  const info = await (await queen.call(`/v2/tasks/${eves.task}`)).json();
  assertEquals([info.status, info.error.code], ["canceled", gone]);
  const { scheduler } = queen.queen.parts;
  await eventually("bob's last one to have a slot", () => scheduler.waiting === 0);

  fleet.openGate();
  assertEquals(await Promise.all(bobs.ends), ["done", "done"]);
  assertEquals([(await waiting[1]).status, await bobs.followed], [200, "done"]);
  const task = await queen.call(`/v2/tasks/${bobs.task}`, undefined, bearer(rotated.key));
  assertEquals((await task.json()).status, "done");
});

Deno.test("a task is not gone on with when its key was removed while no queen ran", async () => {
  await using home = await tempHome();
  const keys = [{ name: "ada", hash: hash("key-of-ada") }, { name: "bob", hash: hash("key-of-bob") }];
  const queen = await fleetQueen(home, { keys });
  await using fleet = new FakeFleet(queen, { slots: 8 });
  await fleet.start(1);
  const submit = async (key: string) =>
    (await (await queen.call("/v2/tasks", GATED, bearer(key))).json()).job_id;
  const [adas, bobs] = [await submit("key-of-ada"), await submit("key-of-bob")];
  await eventually("both to run", () => fleet.seen.length === 2);
  await queen[Symbol.asyncDispose]();
  await using successor = await fleetQueen(home, { keys: keys.slice(1) });
  fleet.queen = successor;
  await fleet.report();
  fleet.openGate();
  const info = async (id: string) => await (await successor.call(`/v2/tasks/${id}`)).json();
  await eventually("bob's task to be done", async () => (await info(bobs)).status === "done");
  const { status, error } = await info(adas);
  assertEquals([status, error.code], ["canceled", "INVALID_API_KEY"]);
});

/** Takes seconds to read a long prompt. */
const CHAIN: LlamaShape = {
  ...{ layers: 8, embd: 512, heads: 8, ff: 2_048, type: "Q8_0", vocab: 6_000, ctx: 4_096, chain: true },
};

Deno.test("by keeper and real daemons: keys remove ends what a worker computes, and says so to who reads", async () => {
  await using files = await tempHome();
  const path = `${files.path}/chain.gguf`;
  await writeLlamaGguf(path, CHAIN);
  const ref = `file:${path}`;
  await using cluster = await startCluster({ nodes: ["mac"], queenConfig: { job_timeout: 20 } });
  await spawned(cluster, "mac", { model_ref: ref, slots: 2, ctx_size: CHAIN.ctx });
  const { key } = await cluster.queen.client.addKey({ name: "eve" });
  const eve = new QueenClient({ baseUrl: cluster.queen.url, apiKey: key });
  const { job_id: id } = await eve.submit({ model: ref, prompt: "a".repeat(3_500), max_tokens: 500 });
  const { events } = await eve.taskEvents(id);
  for await (const event of events) {
    if (event.type === "started") break;
  }
  const followed = await eve.taskEvents(id);
  await using home = await emptyHome();
  const keyFile = join(files.path, "owner.key");
  await Deno.writeTextFile(keyFile, `${CLUSTER_KEY}\n`, { mode: 0o600 });
  const removed = await runKeeper(["keys", "remove", "eve"], {
    ...{ home, env: { RBEE_QUEEN: cluster.queen.url, RBEE_QUEEN_KEY_FILE: keyFile } },
  });
  assertEquals(removed.code, 0, removed.stderr);
  const last = (await Array.fromAsync(followed.events)).at(-1);
  assert(last?.type === "error", JSON.stringify(last));
  assertEquals(last.error.code, "INVALID_API_KEY");
  await eventually("the slot to be free", async () => {
    const [worker] = (await cluster.hives.mac.client.workers()).workers;
    return worker.slots_available === worker.slots_total;
  });
});
