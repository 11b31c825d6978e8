/** Machines looked after by way of their queen: by the keeper of who has a key of the queen's and none of a hive's. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import { join } from "@std/path";
import { emptyHome, runKeeper, startKeeper } from "../../keeper/testing/keeper_process.ts";
import { CLUSTER_KEY, startCluster } from "../helpers/cluster.ts";
import { eventually } from "../helpers/eventually.ts";
import { FLEET_KEY, type FleetQueen, fleetQueen } from "../helpers/fake_fleet.ts";
import { startHub } from "../helpers/hub.ts";
import { tempHome } from "../helpers/temp_home.ts";
import { STORIES } from "../helpers/test_models.ts";

const OPERATOR = "key-of-an-operator";
const HIVES_KEY = "key-of-the-hives-alone";
const KEYS = [
  { name: "oscar", hash: createHash("sha256").update(OPERATOR).digest("hex"), rights: "operator" },
  { name: "ada", hash: createHash("sha256").update("key-of-a-client").digest("hex") },
];
const REPO = "acme/stories";
const REF = `hf:${REPO}:stories.gguf`;

/** Two machines whose hives have a key that nobody else has, a hub, and the keeper of an operator. */
async function startBed(hubOptions: { bytesPerSecond?: number } = {}) {
  const all = new AsyncDisposableStack();
  try {
    const hub = all.use(
      await startHub({ repos: { [REPO]: { files: { "stories.gguf": { path: STORIES } } } }, ...hubOptions }),
    );
    const keys = all.use(await emptyHome());
    const queenKey = join(keys.path, "queen.key");
    await Deno.writeTextFile(queenKey, `${CLUSTER_KEY}\n`, { mode: 0o600 });
    const cluster = all.use(
      await startCluster({
        nodes: ["mac", "gpu"],
        queenConfig: { keys: KEYS },
        hive: {
          env: { RBEE_API_KEY: HIVES_KEY, RBEE_HIVE_QUEEN_KEY_FILE: queenKey, HF_ENDPOINT: hub.url },
        },
      }),
    );
    const home = all.use(await emptyHome());
    const keyFile = join(home.path, "operator.key");
    await Deno.writeTextFile(keyFile, `${OPERATOR}\n`, { mode: 0o600 });
    const env = { RBEE_QUEEN_KEY_FILE: keyFile };
    const { queen, hives } = cluster;
    const args = (command: string) => [...command.split(" "), "--queen", queen.url];
    const keeper = (command: string) => runKeeper(args(command), { home, env });
    /** One that succeeds. */
    const does = async (command: string) => {
      const done = await keeper(command);
      assertEquals(done.code, 0, `${command}: ${done.stderr}`);
      return done;
    };
    const started = (command: string) => startKeeper(args(command), { home, env });
    const owned = all.move();
    return {
      ...{ queen, hives, hub, keeper, does, started },
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  } catch (error) {
    await all.disposeAsync();
    throw error;
  }
}

Deno.test("models, workers and logs of all machines are an operator's by way of the queen", async () => {
  await using bed = await startBed();
  const { queen, hives, keeper, does } = bed;
  assertMatch((await does("pool health --host mac")).stdout, /^mac: alive, version/);
  assertMatch((await does("pool status --host gpu")).stdout, /^gpu: .*\ncpu 0: /);

  const pulled = JSON.parse((await does(`models pull ${REF} --node gpu --json`)).stdout);
  assertEquals([pulled.node, pulled.cached], ["gpu", false]);
  await eventually(
    "the queen to know",
    async () => (await queen.client.models({ model_ref: REF })).length === 1,
  );
  assertMatch((await does("models list")).stdout, new RegExp(`${REF} +[\\d.]+ MB +gpu`));
  assertMatch((await does("models list --node gpu")).stdout, new RegExp(REF));
  assertEquals((await does("models list --node mac --json")).stdout.includes(REF), false);
  const again = await does(`models pull ${REF}`);
  assertMatch(again.stderr, /would have it on gpu/);
  assertMatch((await does(`models verify ${REF}`)).stdout, /^ok {2}hf:/);

  const id = (await does("pool worker spawn builtin:stories --host mac")).stdout.trim();
  assertEquals((await hives.mac.client.workers()).workers.map(({ worker_id }) => worker_id), [id]);
  const told = await fetch(`${queen.url}/v2/nodes/mac/workers/spawn`, {
    method: "POST",
    headers: { Authorization: `Bearer ${OPERATOR}` },
    body: JSON.stringify({ model_ref: "builtin:stories" }),
  });
  const { worker_id, reused, api_key } = await told.json();
  assertEquals([worker_id, reused, api_key], [id, true, undefined]);
  await eventually("the queen to know the worker", async () => (await queen.client.workers()).length === 1);
  assertMatch((await does("models list")).stdout, /builtin:stories .* mac( |\n)/);
  assertMatch((await does("pool worker list --host mac")).stdout, new RegExp(id));
  assertMatch((await does(`logs --worker ${id}`)).stdout, new RegExp(`worker_id=${id}|${id} `));
  assertMatch((await does("logs --node gpu --tail 5")).stdout, / hive INFO /);

  const unclear = await keeper("logs");
  assertEquals(unclear.code, 1);
  assertMatch(unclear.stderr, /Say which of the queen's machines is meant\.\n.*--node with one of: gpu, mac/);
  assertMatch((await does(`workers shutdown ${id.slice(0, 6)}`)).stderr, /on mac is stopped/);
  assertEquals((await hives.mac.client.workers()).workers, []);

  assertMatch((await does(`models rm ${REF}`)).stderr, /Removed hf:/);
  assertEquals(
    (await hives.gpu.client.models()).models.map(({ reference }) => reference).includes(REF),
    false,
  );
  assertMatch((await does("models prune --keep-gb 0 --node gpu")).stdout, /Nothing to remove/);
  const unknown = await keeper("pool status --host tv");
  assertMatch(unknown.stderr, /no node "tv"/);
  await hives.gpu.kill();
  const silent = await keeper("pool health --host gpu");
  assertEquals(silent.code, 1);
  assertMatch(silent.stderr, /The hive of gpu does not answer the queen/);
});

Deno.test("a download by way of the queen is seen as it goes, and Ctrl+C ends it where it runs", async () => {
  await using bed = await startBed({ bytesPerSecond: 10_000 });
  const pull = bed.started(`models pull ${REF}`);
  await pull.shows("stderr", /would have it on (mac|gpu)\.\nDownloading model\.\.\./);
  pull.signal("SIGINT");
  const { code, stderr } = await pull.finished;
  assertEquals(code, 130, stderr);
  assertMatch(stderr, /Canceled\. What was downloaded is kept/);
  await eventually(
    "the transfer to end",
    () => bed.hub.requestsFor({ purpose: "content" }).every(({ ended }) => ended),
  );
  const follow = bed.started("logs --node mac --follow");
  await follow.shows("stdout", / hive INFO /);
  follow.signal("SIGINT");
  assertEquals((await follow.finished).code, 130);
});

/** A queen in this process, and a hive that is told how to answer. */
async function withHive(
  answer: (request: Request) => Response,
  run: (call: (path: string, key?: string) => Promise<Response>, queen: FleetQueen) => Promise<void>,
): Promise<void> {
  await using home = await tempHome();
  await using queen = await fleetQueen(home, { keys: KEYS });
  await using hive = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, answer);
  const report = await queen.call("/v2/hives/heartbeat", {
    ...{ node_name: "mac", instance: "i", hive_url: `http://127.0.0.1:${hive.addr.port}`, version: "0" },
    ...{ api_key: HIVES_KEY, memory: { total_mb: 0, free_mb: 0, reserve_mb: 0 } },
    ...{ devices: [], models: [], workers: [] },
  });
  assert(report.ok, await report.text());
  const call = (path: string, key = OPERATOR) =>
    queen.call(path, undefined, { Authorization: `Bearer ${key}` });
  await run(call, queen);
}

Deno.test("a stream is passed on as it comes, with the hive's key, and ends there with its reader, or with the queen", async () => {
  let left = Promise.withResolvers<void>();
  let seen: Request | undefined;
  await withHive((request) => {
    seen = request;
    const events = new ReadableStream({
      start: (controller) => controller.enqueue(new TextEncoder().encode('data: {"message":"one"}\n\n')),
      cancel: () => left.resolve(),
    });
    return new Response(events, { headers: { "Content-Type": "text/event-stream" } });
  }, async (call, queen) => {
    const response = await call("/v2/nodes/mac/logs?follow=true&tail=1");
    assertEquals(response.headers.get("Content-Type"), "text/event-stream");
    const reader = response.body!.getReader();
    assertEquals(new TextDecoder().decode((await reader.read()).value), 'data: {"message":"one"}\n\n');
    const { pathname, search } = new URL(seen!.url);
    assertEquals([pathname, search], ["/v1/logs", "?follow=true&tail=1"]);
    assertEquals(seen!.headers.get("Authorization"), `Bearer ${HIVES_KEY}`);
    assertEquals(seen!.headers.get("X-Correlation-Id"), response.headers.get("X-Correlation-Id"));
    await reader.cancel();
    await left.promise;

    left = Promise.withResolvers();
    const endless = await call("/v2/nodes/mac/logs?follow");
    await queen[Symbol.asyncDispose]();
    await left.promise;
    await endless.text().catch(() => {});
  });
});

Deno.test("what a hive refuses is passed on, but for the queen's own key, and only operators get so far", () =>
  withHive((request) => {
    const isWorker = new URL(request.url).pathname.startsWith("/v1/workers/");
    const code = isWorker ? "WORKER_NOT_FOUND" : "INVALID_API_KEY";
    return Response.json({ error: { code, message: "No.", details: {}, correlation_id: "c" } }, {
      status: isWorker ? 404 : 401,
    });
  }, async (call) => {
    const codeOf = async (path: string, key?: string) => {
      const response = await call(path, key);
      return [response.status, (await response.json()).error.code];
    };
    assertEquals(await codeOf("/v2/nodes/mac/workers/w"), [404, "WORKER_NOT_FOUND"]);
    assertEquals(await codeOf("/v2/nodes/mac/models"), [503, "NODE_UNREACHABLE"]);
    assertEquals(await codeOf("/v2/nodes/tv/models"), [404, "NODE_NOT_FOUND"]);
    assertEquals(await codeOf("/v2/nodes/mac/models?x=1"), [400, "INVALID_REQUEST"]);
    // What a hive has for hives alone is nobody's here.
    for (const path of ["models/blobs/0", "events"]) {
      assertEquals(await codeOf(`/v2/nodes/mac/${path}`, FLEET_KEY), [404, "NOT_FOUND"]);
    }
    for (const path of ["/v2/nodes/mac/models", "/v2/nodes/mac/logs", "/v2/models"]) {
      assertEquals(await codeOf(path, "key-of-a-client"), [403, "FORBIDDEN"]);
    }
  }));
