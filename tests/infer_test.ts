/** The main job with nothing replaced: real keeper, hive, worker, engine, sockets and files; only the hub is ours. */
import { assert, assertEquals, assertMatch, assertNotEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import {
  type KeeperProcess,
  runKeeper,
  startKeeper,
  type TestHome,
} from "../keeper/testing/keeper_process.ts";
import { type RunningHive, startHive } from "./helpers/daemons.ts";
import { eventually } from "./helpers/eventually.ts";
import { cachedLlamaGguf } from "./helpers/gguf_writer.ts";
import { startHub } from "./helpers/hub.ts";
import { isPortFree } from "./helpers/recovery.ts";
import { tempHome } from "./helpers/temp_home.ts";
import { STORIES } from "./helpers/test_models.ts";
import { keeperHome } from "./helpers/keeper_home.ts";

const REPO = "TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF";
const PROMPT = ["--prompt", "write a short story"];

/** So slow that an answer of hundreds of tokens takes seconds: time to do something to it. */
const SLOW_MODEL = {
  layers: 8,
  embd: 512,
  heads: 8,
  ff: 1408,
  vocab: 8000,
  ctx: 4096,
  type: "Q8_0",
} as const;

function isAlive(pid: number): boolean {
  try {
    Deno.kill(pid, "SIGCONT");
    return true;
  } catch {
    return false;
  }
}

async function withSlowAnswer(
  work: (parts: { hive: RunningHive; keeper: KeeperProcess; home: TestHome }) => Promise<void>,
): Promise<void> {
  await using hiveHome = await tempHome();
  const model = await cachedLlamaGguf(hiveHome.path, SLOW_MODEL);
  await using hive = await startHive({ home: hiveHome });
  await using home = await keeperHome({ mac: hive });
  const keeper = startKeeper(
    ["infer", "--node", "mac", "--model", `file:${model}`, "--max-tokens", "400", ...PROMPT],
    { home },
  );
  await keeper.shows("stdout", /\S/);
  await work({ hive, keeper, home });
}

Deno.test("test-001: download with progress, spawn, load, tokens, idle stop, and no second download", async () => {
  await using hub = await startHub({
    repos: {
      [REPO]: {
        files: {
          "README.md": "# TinyLlama",
          "tinyllama-1.1b-chat-v1.0.Q2_K.gguf": { generate: 1000 },
          "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf": { path: STORIES },
        },
      },
    },
  });
  await using hiveHome = await tempHome({ hfEndpoint: hub.url });
  await using hive = await startHive({ home: hiveHome, env: { RBEE_HIVE_IDLE_TIMEOUT: "1" } });
  await using home = await keeperHome({ mac: hive });
  const infer = () =>
    runKeeper(
      [
        "infer",
        "--node",
        "mac",
        "--model",
        `hf:${REPO}`,
        ...PROMPT,
        "--max-tokens",
        "20",
        "--temperature",
        "0.7",
      ],
      { home },
    );

  const first = await infer();
  assertEquals(first.code, 0, first.stderr);
  assert(first.stdout.trim().length > 20, first.stdout);
  assertStringIncludes(first.stderr, "Downloading model...");
  assertStringIncludes(first.stderr, "Loading model to VRAM...");
  assertStringIncludes(first.stderr, "Model ready!");
  const fetched = () =>
    hub.requestsFor({ purpose: "content", path: "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf" }).length;
  assertEquals(fetched(), 1);
  const snapshots = join(hiveHome.hfHome, "hub", `models--${REPO.replace("/", "--")}`, "snapshots");
  const [commit] = await Array.fromAsync(Deno.readDir(snapshots));
  assertEquals(
    await Deno.readFile(join(snapshots, commit.name, "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf")),
    await Deno.readFile(STORIES),
  );

  const [pid] = await eventually(
    "the worker in the log",
    () => hive.workerPids().length > 0 && hive.workerPids(),
  );
  await eventually("the idle worker to be gone", () => !isAlive(pid));
  assertEquals((await hive.client.workers()).workers, []);

  const second = await infer();
  assertEquals(second.code, 0, second.stderr);
  assertStringIncludes(second.stderr, "Model ready!");
  assert(!second.stderr.includes("Downloading"), second.stderr);
  assertEquals(fetched(), 1);
  assertNotEquals(hive.workerPids().at(-1), pid);
});

Deno.test("with nothing running, infer starts a hive that stays, and the next one finds the same worker", async () => {
  await using hiveHome = await tempHome();
  const home = { path: hiveHome.rbeeHome, [Symbol.asyncDispose]: () => Promise.resolve() };
  const env = { ...hiveHome.env, RBEE_HIVE_LISTEN: "127.0.0.1:0", RBEE_HIVE_WORKER_PORTS: "0-0" };
  const infer = () => runKeeper(["infer", ...PROMPT, "--max-tokens", "12"], { home, env });
  const first = await infer();
  const { pid } = JSON.parse(await Deno.readTextFile(join(home.path, "hive.json")));
  try {
    assertEquals(first.code, 0, first.stderr);
    assertStringIncludes(first.stderr, "starting one in the background");
    assert(isAlive(pid));
    const second = await infer();
    assertEquals(second.code, 0, second.stderr);
    assertEquals(second.stderr, "");
    const listed = await runKeeper(["workers", "list", "--json"], { home, env });
    assertEquals(JSON.parse(listed.stdout).workers.length, 1, listed.stdout);
  } finally {
    Deno.kill(pid, "SIGTERM");
    await eventually("the hive to leave", () => !isAlive(pid), 40_000);
  }
});

Deno.test("SIGTERM to the hive leaves no worker process and no port behind", () =>
  withSlowAnswer(async ({ hive, keeper }) => {
    const [{ url, pid }] = (await hive.client.workers()).workers;
    assertEquals((await hive.stop()).code, 0);
    assert(!isAlive(pid));
    assert(await isPortFree(url));
    assert(await isPortFree(hive.url));
    await keeper.finished;
  }));

Deno.test("SIGKILL of a worker in mid-answer keeps what arrived on screen and in a file, and says so", () =>
  withSlowAnswer(async ({ hive, keeper, home }) => {
    const [{ pid }] = (await hive.client.workers()).workers;
    Deno.kill(pid, "SIGKILL");
    const { code, stdout, stderr } = await keeper.finished;
    assertEquals(code, 1);
    assert(stdout.length > 0);
    assertMatch(stderr, /Tokens generated: \d+ \/ 400/);
    const path = /\S*rbee-partial-\S*\.txt/.exec(stderr)?.[0];
    assert(path !== undefined, stderr);
    assertEquals(stdout.trimEnd(), (await Deno.readTextFile(path)).trimEnd());
    assertEquals((await Deno.stat(path)).mode! & 0o777, 0o600);
    assert(path.startsWith(home.path));
    await eventually(
      "the hive to drop the worker",
      async () => (await hive.client.workers()).workers.length === 0,
    );
  }));

Deno.test("Ctrl+C cancels the answer, and the worker is free again", () =>
  withSlowAnswer(async ({ hive, keeper }) => {
    keeper.signal("SIGINT");
    const { code, stderr } = await keeper.finished;
    assertEquals(code, 130);
    assertStringIncludes(stderr, "Canceled.");
    await eventually(
      "the worker to be idle",
      async () => (await hive.client.workers()).workers[0]?.state === "idle",
    );
  }));
