/** `pool health` and `workers list`, as a person and as a program read them. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { HIVE_ROUTES } from "../../protocol/routes.ts";
import { VERSION } from "../../protocol/version.ts";
import { runKeeper, testHome } from "../testing/keeper_process.ts";
import { HIVE_KEY, on, standInHive, standInWorker, startStandIn } from "../testing/stand_in.ts";

const WORKER = {
  worker_id: "w-1",
  url: "http://127.0.0.1:8001",
  model_ref: "builtin:stories",
  backend: "cpu",
  device: 0,
  state: "idle",
  slots_total: 4,
  slots_available: 3,
  pid: 17,
  started_unix: 1,
  last_activity_unix: 2,
  last_health_unix: 3,
};

async function setup() {
  const worker = standInWorker();
  const hive = standInHive(worker, { [on(HIVE_ROUTES.workers)]: () => Response.json({ workers: [WORKER] }) });
  const home = await testHome(hive);
  return {
    hive,
    home,
    async [Symbol.asyncDispose]() {
      for (const each of [home, hive, worker]) await each[Symbol.asyncDispose]();
    },
  };
}

/** A port where nothing listens. */
async function closedAddress(): Promise<string> {
  const closed = startStandIn({}, { apiKey: HIVE_KEY });
  await closed[Symbol.asyncDispose]();
  return closed.address;
}

Deno.test("pool health gives one line, or one document", async () => {
  await using test = await setup();
  const { hive, home } = test;
  assertEquals(await runKeeper(["pool", "health", "--host", "stand-in"], { home }), {
    code: 0,
    stdout: `stand-in: alive, version ${VERSION}, ${hive.url}\n`,
    stderr: "",
  });
  const { stdout } = await runKeeper(["pool", "health", "--host", hive.address, "--json"], { home });
  assertEquals(JSON.parse(stdout), {
    node: hive.address,
    url: hive.url,
    status: "alive",
    version: VERSION,
    api_version: "v1",
  });
});

Deno.test("pool health of a machine that is off fails as every other command does", async () => {
  await using test = await setup();
  const address = await closedAddress();
  const { code, stdout, stderr } = await runKeeper(["pool", "health", "--host", address], {
    home: test.home,
  });
  assertEquals([code, stdout], [1, ""]);
  assertMatch(stderr, /Attempt 3\/3: .+\nError: Cannot connect to .+ after 3 attempts\n/);
});

Deno.test("workers list asks every known node; one that is off is named, and the exit code says so", async () => {
  await using test = await setup();
  const { hive, home } = test;
  const address = await closedAddress();
  await Deno.writeTextFile(
    join(home.path, "config.yaml"),
    JSON.stringify({
      api_key: HIVE_KEY,
      nodes: { "stand-in": { url: hive.url }, off: { url: `http://${address}` } },
      hive: { listen: address },
    }),
  );
  const { code, stdout, stderr } = await runKeeper(["workers", "list"], { home });
  assertEquals(code, 1);
  assertEquals(stdout.split("\n"), [
    "NODE      WORKER  MODEL            BACKEND  STATE  FREE SLOTS  URL",
    "stand-in  w-1     builtin:stories  cpu:0    idle   3/4         http://127.0.0.1:8001",
    "",
  ]);
  assertStringIncludes(stderr, "No hive runs on this machine.\n");
  assertStringIncludes(stderr, `off did not answer: Cannot connect to ${address}`);

  const json = JSON.parse((await runKeeper(["workers", "list", "--json"], { home })).stdout);
  assertEquals(json.workers, [{ node: "stand-in", ...WORKER }]);
  assertEquals(
    json.unreachable.map(({ node, error }: { node: string; error: { code: string } }) => [node, error.code]),
    [["localhost", "NODE_UNREACHABLE"], ["off", "NODE_UNREACHABLE"]],
  );
});

Deno.test("workers list of one node wants that node's answer", async () => {
  await using test = await setup();
  const { home } = test;
  assertStringIncludes((await runKeeper(["workers", "list", "--node", "stand-in"], { home })).stdout, "w-1");
  const { code, stderr } = await runKeeper(["workers", "list", "--node", await closedAddress()], { home });
  assertEquals(code, 1);
  assertMatch(stderr, /Error: Cannot connect to .+ after 3 attempts/);
});
