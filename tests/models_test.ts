/** The models commands against a real hive: real keeper, sockets and files; hub and workers are ours. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { type Finished, runKeeper, startKeeper, type TestHome } from "../keeper/testing/keeper_process.ts";
import { type RunningHive, startHive } from "./helpers/daemons.ts";
import { type Hub, startHub } from "./helpers/hub.ts";
import { tempHome } from "./helpers/temp_home.ts";
import { STORIES } from "./helpers/test_models.ts";
import { keeperHome } from "./helpers/keeper_home.ts";

const REF = "hf:acme/bee:Q8_0";
const MB = (Deno.statSync(STORIES).size / 1e6).toFixed(1);

interface Bench {
  hub: Hub;
  hive: RunningHive;
  home: TestHome;
  /** Runs `rbee-keeper models ARGS --node mac`. */
  models(...args: string[]): Promise<Finished>;
}

/** A hive that has nothing yet, as the node `mac` of a keeper with a home of its own. */
async function withBench(test: (bench: Bench) => Promise<void>): Promise<void> {
  await using hub = await startHub({
    repos: { "acme/bee": { files: { "bee-Q8_0.gguf": { path: STORIES } } } },
  });
  await using hiveHome = await tempHome({ hfEndpoint: hub.url });
  await using hive = await startHive({ home: hiveHome, worker: {} });
  await using home = await keeperHome({ mac: hive });
  const models = (...args: string[]) => runKeeper(["models", ...args, "--node", "mac"], { home });
  await test({ hub, hive, home, models });
}

/** Other bytes of the same number, as a bad disk would leave them. */
async function damage(path: string): Promise<void> {
  const bytes = await Deno.readFile(path);
  bytes[bytes.length - 1] ^= 1;
  await Deno.writeFile(path, bytes);
}

Deno.test("a model is pulled, listed, verified and removed", () =>
  withBench(async ({ models, hub }) => {
    const none = await models("list");
    assertEquals([none.code, none.stdout, none.stderr], [0, "", "There are no models on mac yet.\n"]);

    const pulled = await models("pull", REF);
    assertEquals(pulled.code, 0, pulled.stderr);
    const path = pulled.stdout.trimEnd();
    assertEquals(await Deno.readFile(path), await Deno.readFile(STORIES));
    assertStringIncludes(pulled.stderr, `${REF} is there now.\n`);
    const again = await models("pull", "--model", REF, "--json");
    assertEquals(JSON.parse(again.stdout), { model_ref: REF, local_path: path, cached: true, node: "mac" });
    assertEquals(hub.requestsFor({ origin: "cdn", method: "GET" }).length > 0, true);

    const listed = await models("list");
    assertEquals(listed.stdout.split("\n"), [
      "REFERENCE         SIZE    LAST USED  IN USE",
      `hf:acme/bee:Q8_0  ${MB} MB  never      no`,
      `1 model, ${MB} MB`,
      "",
    ]);
    assertStringIncludes((await models("list", "--verbose")).stdout, path);
    assertEquals(JSON.parse((await models("list", "--json")).stdout).models[0].local_path, path);

    assertEquals((await models("verify", REF)).stdout, `ok  ${REF}\n`);
    const removed = await models("rm", REF);
    assertEquals([removed.code, removed.stderr], [0, `Removed ${REF} (${MB} MB).\n`]);
    assertEquals(JSON.parse((await models("list", "--json")).stdout).models, []);
  }));

Deno.test("damage is told by path and digest, spoils nothing for other models, and fails the command", () =>
  withBench(async ({ models }) => {
    const path = (await models("pull", REF)).stdout.trimEnd();
    assertMatch((await models("verify", "builtin:stories")).stdout, /^ok {2}builtin:stories: recorded/);
    await damage(path);
    const all = await models("verify");
    assertEquals([all.code, all.stdout], [1, "ok  builtin:stories\n"]);
    assertMatch(all.stderr, /Error: hf:acme\/bee:Q8_0 is not what it was: .+ instead of .+pull it again/);
    assertStringIncludes(all.stderr, path);
    const json = JSON.parse((await models("verify", "--json")).stdout);
    assertEquals(
      json.models.map(({ reference, ok }: { reference: string; ok: boolean }) => [reference, ok]).toSorted(),
      [["builtin:stories", true], [REF, false]],
    );
    assertEquals((await models("verify", REF)).code, 1);
  }));

Deno.test("a model that a worker has is shown in use, and neither removed nor pruned", () =>
  withBench(async ({ models, hive }) => {
    await models("pull", REF);
    const { worker_id } = await hive.client.spawn({ model_ref: REF }, { timeoutMs: 30_000 });
    assertMatch((await models("list")).stdout, /hf:acme\/bee:Q8_0 +\S+ MB +now +yes/);
    const refused = await models("rm", REF);
    assertEquals(refused.code, 1);
    assertMatch(refused.stderr, /Cannot remove hf:acme\/bee:Q8_0: a worker has it loaded[^]+workers list/);
    const kept = await models("prune", "--keep-gb", "0");
    assertEquals([kept.code, kept.stdout], [0, `Nothing to remove: downloaded models take ${MB} MB.\n`]);
    assertStringIncludes(kept.stderr, "more than --keep-gb allows");

    await hive.client.shutdownWorker(worker_id);
    assertMatch((await models("list")).stdout, /hf:acme\/bee:Q8_0 +\S+ MB +just now +no/);
    const dry = await models("prune", "--keep-gb", "0", "--dry-run");
    assertStringIncludes(dry.stdout, `Would remove ${MB} MB of models, would keep 0.0 MB.\n`);
    const pruned = await models("prune", "--keep-gb", "0");
    assertEquals(pruned.stdout.split("\n").slice(0, 2), [
      "REFERENCE         SIZE    LAST USED",
      `hf:acme/bee:Q8_0  ${MB} MB  just now`,
    ]);
    assertEquals(JSON.parse((await models("list", "--json")).stdout).models, []);
  }));

Deno.test("Ctrl+C cancels a pull at the hive, says that what came is kept, and the next pull goes on", () =>
  withBench(async ({ models, hub, home }) => {
    hub.faults.add({ kind: "stall", afterBytes: 500_000 });
    const keeper = startKeeper(["models", "pull", REF, "--node", "mac"], { home });
    await hub.until((at) => at.stalledCount === 1);
    await keeper.shows("stderr", "Downloading model...");
    keeper.signal("SIGINT");
    const { code, stdout, stderr } = await keeper.finished;
    assertEquals([code, stdout], [130, ""]);
    assertStringIncludes(stderr, "Canceled. What was downloaded is kept for the next try.\n");
    await hub.until((at) => at.stalledCount === 0);

    const resumed = await models("pull", REF);
    assertEquals(resumed.code, 0, resumed.stderr);
    assertEquals(await Deno.readFile(resumed.stdout.trimEnd()), await Deno.readFile(STORIES));
  }));

Deno.test("Ctrl+C of one of two who pull the same model does not take it from the other", () =>
  withBench(async ({ hub, home }) => {
    hub.faults.add({ kind: "stall", afterBytes: 500_000 });
    const pull = () => startKeeper(["models", "pull", REF, "--node", "mac"], { home });
    const [leaving, staying] = [pull(), pull()];
    for (const keeper of [leaving, staying]) await keeper.shows("stderr", "Downloading model...");
    leaving.signal("SIGINT");
    const left = await leaving.finished;
    assertEquals(left.code, 130);
    assertStringIncludes(left.stderr, "Canceled here. The download goes on for others who wait for it.\n");
    hub.release();
    const { code, stdout, stderr } = await staying.finished;
    assertEquals(code, 0, stderr);
    assertEquals(await Deno.readFile(stdout.trimEnd()), await Deno.readFile(STORIES));
    assertEquals(hub.requestsFor({ purpose: "content", method: "GET" }).length, 1);
  }));

Deno.test("a model that is not there is named with those that may have been meant", () =>
  withBench(async ({ models }) => {
    await models("pull", REF);
    for (const command of ["rm", "verify"]) {
      for (const given of ["bee", "hf:acme/bee:Q8_1"]) {
        const { code, stdout, stderr } = await models(command, given);
        assertEquals([code, stdout], [1, ""]);
        assertStringIncludes(stderr, `Error: There is no model "${given}" here.\n  Did you mean ${REF}?\n`);
      }
    }
    const nothing = await models("rm", "wasp");
    assertEquals(nothing.code, 1);
    assertStringIncludes(nothing.stderr, `Model reference "wasp" is not valid`);
    assertEquals(
      JSON.parse((await models("verify", "hf:no/such:Q4_0", "--json")).stdout).error.code,
      "MODEL_NOT_FOUND",
    );
  }));

Deno.test("mistakes on the command line are usage errors", () =>
  withBench(async ({ models }) => {
    const cases: [string[], RegExp][] = [
      [["pull"], /REF is required/],
      [["rm"], /REF is required/],
      [["pull", "bee"], /--model: Model reference "bee" is not valid/],
      [["pull", REF, "other"], /Unexpected argument "other"/],
      [["prune"], /--keep-gb is required/],
      [["prune", "--keep-gb", "-1"], /--keep-gb takes a number/],
      [["lst"], /Did you mean "models list"/],
    ];
    for (const [args, problem] of cases) {
      const { code, stderr } = await models(...args);
      assertEquals(code, 2, args.join(" "));
      assertMatch(stderr, problem);
    }
  }));

Deno.test("the local hive is started when none runs", async () => {
  await using home = await tempHome();
  const keeperHome: TestHome = { path: home.rbeeHome, [Symbol.asyncDispose]: () => Promise.resolve() };
  const listed = await runKeeper(["models", "list", "--json"], {
    home: keeperHome,
    env: { ...home.env, RBEE_HIVE_LISTEN: "127.0.0.1:0" },
  });
  const { pid } = JSON.parse(await Deno.readTextFile(join(home.rbeeHome, "hive.json")));
  try {
    assertEquals([listed.code, JSON.parse(listed.stdout).models], [0, []]);
    assertStringIncludes(listed.stderr, "No hive runs on this machine: starting one in the background");
    assert(pid > 0);
  } finally {
    Deno.kill(pid, "SIGKILL");
  }
});
