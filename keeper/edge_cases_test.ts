/** The edge cases of SPEC §8 as a person meets them: the real keeper against stand-ins that misbehave. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { HIVE_ROUTES, WORKER_ROUTES } from "../protocol/routes.ts";
import { VERSION } from "../protocol/version.ts";
import { openRegistry } from "./registry.ts";
import { runKeeper, testHome } from "./testing/keeper_process.ts";
import {
  cutAnswer,
  events,
  failure,
  HIVE_KEY,
  on,
  sendTokens,
  standInHive,
  standInWorker,
  startStandIn,
} from "./testing/stand_in.ts";

const INFER = ["infer", "--node", "stand-in", "--prompt", "x", "--max-tokens", "20"];

/** An answer that begins and never ends. */
function endless(): Response {
  return events((writer) => sendTokens(writer, ["Once", " upon"]));
}

function busy(): Response {
  return failure("ALL_SLOTS_BUSY", "busy", { slots_total: 4, slots_busy: 4 });
}

Deno.test("EC1: an unreachable node is tried three times, each told, then named with advice", async () => {
  const gone = startStandIn({}, { apiKey: HIVE_KEY });
  await using home = await testHome(gone);
  await gone[Symbol.asyncDispose]();
  const { code, stdout, stderr } = await runKeeper(INFER, { home });
  assertEquals([code, stdout], [1, ""]);
  const lines = stderr.split("\n");
  const refused = `Cannot connect to ${gone.address}: `;
  assertEquals(
    lines[0].startsWith(`Attempt 1/3: ${refused}`) && lines[0].endsWith("; next in 200 ms"),
    true,
    lines[0],
  );
  assertEquals(
    lines[1].startsWith(`Attempt 2/3: ${refused}`) && lines[1].endsWith("; next in 400 ms"),
    true,
    lines[1],
  );
  assertEquals(lines[2].startsWith(`Attempt 3/3: ${refused}`) && !lines[2].includes("next"), true, lines[2]);
  assertEquals(lines[3], `Error: Cannot connect to ${gone.address} after 3 attempts`);
  assertMatch(lines[4], /^ {2}Check that a hive runs there \(on that machine: rbee-hive daemon/);
});

Deno.test("EC2: a download that fails for good shows every retry and the last error", async () => {
  await using worker = standInWorker();
  await using hive = standInHive(worker, {
    [on(HIVE_ROUTES.download)]: () => Response.json({ download_id: "d-1" }, { status: 202 }),
    [on(HIVE_ROUTES.downloadProgress)]: () =>
      events((writer) => {
        for (const [attempt, delay_ms] of [[1, 100], [2, 200]]) {
          writer.send({ stage: "retrying", attempt, max_attempts: 6, delay_ms, reason: "connection reset" });
        }
        writer.send({
          stage: "error",
          error: { code: "DOWNLOAD_FAILED", message: "Gave up after 6 attempts." },
        });
        writer.end();
      }),
  });
  await using home = await testHome(hive);
  const { code, stderr } = await runKeeper(INFER, { home });
  assertEquals([code, stderr], [
    1,
    "The download broke off: connection reset. Retry 1/6 in 100 ms.\n" +
    "The download broke off: connection reset. Retry 2/6 in 200 ms.\n" +
    "Error: Gave up after 6 attempts.\n",
  ]);
  assertEquals(hive.count(HIVE_ROUTES.spawn), 0);
});

Deno.test("EC3: too little memory is shown as required and available, with the hive's suggestion", async () => {
  await using worker = standInWorker();
  await using hive = standInHive(worker, {
    [on(HIVE_ROUTES.spawn)]: () =>
      failure(
        "INSUFFICIENT_RAM",
        "hf:a/b needs 9000 MB. With --slots 1 --ctx-size 512 it needs 3000 MB and fits.",
        {
          required_mb: 9000,
          available_mb: 4000,
        },
      ),
  });
  await using home = await testHome(hive);
  const { code, stderr } = await runKeeper(INFER, { home });
  assertEquals([code, stderr], [
    1,
    "Error: hf:a/b needs 9000 MB. With --slots 1 --ctx-size 512 it needs 3000 MB and fits.\n" +
    "  Required: 9000 MB, available: 4000 MB\n",
  ]);
});

Deno.test("EC4: a worker that dies in mid-answer leaves the text on screen and in a private file", async () => {
  await using worker = standInWorker({
    [on(WORKER_ROUTES.inference)]: () => cutAnswer(["Once", " upon", " a"]),
  });
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const { code, stdout, stderr } = await runKeeper([...INFER, "--quiet"], { home });
  assertEquals([code, stdout], [1, "Once upon a\n"]);
  const lines = stderr.split("\n");
  assertEquals(
    lines[0],
    "Error: The worker died or the connection to it was lost in the middle of its answer",
  );
  const path = lines[1].match(/^ {2}Partial answer saved to (.+\/rbee-partial-[0-9a-f-]{36}\.txt)$/)?.[1];
  assert(path !== undefined, stderr);
  assertEquals(lines[2], "  Tokens generated: 3 / 20");
  assertEquals(await Deno.readTextFile(path), "Once upon a");
  assertEquals(((await Deno.stat(path)).mode ?? 0) & 0o777, 0o600);
  using registry = await openRegistry(home.path);
  assertEquals(registry.list(), []);
});

Deno.test("EC4: an error event of the worker is shown as it is, with what had arrived", async () => {
  await using worker = standInWorker({
    [on(WORKER_ROUTES.inference)]: () =>
      events((writer) => {
        sendTokens(writer, ["Once"]);
        writer.send({
          error: { code: "VRAM_EXHAUSTED", message: "No memory is left.", correlation_id: "c" },
        });
        writer.end();
      }),
  });
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const { code, stderr } = await runKeeper([...INFER, "--quiet"], { home });
  assertEquals(code, 1);
  assertMatch(
    stderr,
    /^Error: No memory is left\.\n {2}Partial answer saved to .+\n {2}Tokens generated: 1 \/ 20\n$/,
  );
  assertEquals(worker.count(WORKER_ROUTES.cancel), 0);
});

Deno.test("EC6: a busy worker is asked again after a pause, and that is told", async () => {
  const at: number[] = [];
  await using worker = standInWorker();
  const answer = worker.answers[on(WORKER_ROUTES.inference)];
  worker.answers[on(WORKER_ROUTES.inference)] = (call) => {
    at.push(performance.now());
    return at.length === 1 ? busy() : answer(call);
  };
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const { code, stdout, stderr } = await runKeeper(INFER, { home });
  assertEquals([code, stdout], [0, "Once upon a time\n"]);
  assertEquals(stderr.split("\n").slice(3), [
    "All 4 slots of the worker are busy. Trying again in 1 s (1/3).",
    "",
  ]);
  assert(at[1] - at[0] >= 950);
});

Deno.test("EC6: a worker that stays busy is an error with advice", async () => {
  await using worker = standInWorker({ [on(WORKER_ROUTES.inference)]: busy });
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const { code, stdout, stderr } = await runKeeper([...INFER, "--quiet", "--retry", "0"], { home });
  assertEquals([code, stdout], [1, ""]);
  assertEquals(stderr.split("\n"), [
    "Error: All 4 slots of the worker are busy, after 1 try in 0 s",
    "  Try again later or with a larger --retry, use another --node, or start a larger worker with more --slots.",
    "",
  ]);
});

Deno.test("EC7: a load that takes too long comes with the layer it stuck at and the log", async () => {
  const error = {
    code: "LOADING_TIMEOUT",
    message: "hf:a/b was not loaded within 300 s: it stuck at layer 12 of 32. The log is /logs/w.log.",
  };
  await using worker = standInWorker({
    [on(WORKER_ROUTES.ready)]: () => Response.json({ ready: false, state: "failed", error }),
  });
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const { code, stderr } = await runKeeper([...INFER, "--quiet"], { home });
  assertEquals([code, stderr], [
    1,
    `Error: ${error.message}\n` +
    "  Use a smaller model or quantisation, or raise hive.load_timeout in the node's config.yaml.\n",
  ]);
  using registry = await openRegistry(home.path);
  assertEquals(registry.list(), []);
});

Deno.test("a worker that ends while loading is told by its hive", async () => {
  await using worker = standInWorker({
    [on(WORKER_ROUTES.ready)]: () => new Response(null, { status: 500 }),
  });
  await using hive = standInHive(worker);
  const gone = standInWorker();
  await gone[Symbol.asyncDispose]();
  hive.answers[on(HIVE_ROUTES.spawn)] = () =>
    Response.json({
      ...{ worker_id: "w-9", url: gone.url, state: "loading", api_key: "rbee-test-key" },
      ...{ backend: "cpu", device: 0, reused: false },
    }, { status: 202 });
  hive.answers[on(HIVE_ROUTES.worker)] = () => failure("WORKER_NOT_FOUND", "There is no worker w-9.");
  await using home = await testHome(hive);
  const { code, stderr } = await runKeeper([...INFER, "--quiet"], { home });
  assertEquals([code, stderr.split("\n")[0]], [1, "Error: Worker w-9 ended while it was loading its model"]);
});

Deno.test("EC8: a hive of another version is not used; both versions and the cure are named", async () => {
  await using worker = standInWorker();
  await using hive = standInHive(worker, {
    [on(HIVE_ROUTES.v1Health)]: () =>
      Response.json({ status: "alive", version: "99.0.0", api_version: "v1" }),
  });
  await using home = await testHome(hive);
  const { code, stderr } = await runKeeper(INFER, { home });
  assertEquals([code, stderr], [
    1,
    `Error: The versions differ: this keeper is ${VERSION}, the hive on stand-in is 99.0.0\n` +
    "  Upgrade this keeper to 99.0.0: update this installation of rbee and run the command again.\n",
  ]);
  assertEquals(hive.count(HIVE_ROUTES.spawn), 0);
});

Deno.test("EC9: a wrong key names node, configuration and the key's origin, and shows no key", async () => {
  await using worker = standInWorker();
  await using hive = standInHive(worker);
  await using home = await testHome(hive, { apiKey: "rbee-the-wrong-one" });
  const { code, stderr } = await runKeeper(INFER, { home });
  assertEquals([code, stderr], [
    1,
    "Error: Authentication failed\n" +
    `  Node: stand-in (${hive.url})\n` +
    `  Config: ${join(home.path, "config.yaml")}\n` +
    "  Key: api_key of the configuration\n" +
    "  Put its key into a file (mode 0600) and name it as nodes.stand-in.api_key_file in the config.\n",
  ]);
});

Deno.test("--timeout ends the answer at the worker too, and keeps what came", async () => {
  await using worker = standInWorker({ [on(WORKER_ROUTES.inference)]: endless });
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const { code, stdout, stderr } = await runKeeper([...INFER, "--quiet", "--timeout", "1"], { home });
  assertEquals([code, stdout], [1, "Once upon\n"]);
  assertMatch(
    stderr,
    /^Error: Not done within --timeout 1 s\n {2}Partial answer saved to .+\n {2}Tokens generated: 2 \/ 20\n$/,
  );
  assertEquals(worker.count(WORKER_ROUTES.cancel), 1);
});

Deno.test("a node that is not known is named with those that are", async () => {
  await using worker = standInWorker();
  await using hive = standInHive(worker);
  await using home = await testHome(hive);
  const { code, stderr } = await runKeeper(["infer", "--node", "stand-on", "--prompt", "x"], { home });
  assertEquals([code, stderr], [
    1,
    'Error: There is no node "stand-on". Did you mean stand-in?\n' +
    `  Known nodes: localhost, stand-in (in ${join(home.path, "config.yaml")}).\n` +
    "  Add it: rbee-keeper nodes add NAME --ssh USER@HOST, or --url http://HOST:9200. Or give HOST:PORT.\n",
  ]);
});
