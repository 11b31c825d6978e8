/** The commands beside `infer`, from the command line to a real hive. Workers are fake: what they generate is not the point. */
import { assert, assertEquals, assertMatch, assertNotEquals, assertStringIncludes } from "@std/assert";
import { localKeyPath } from "../home/keys.ts";
import { type Finished, runKeeper, startKeeper, type TestHome } from "../keeper/testing/keeper_process.ts";
import { VERSION } from "../protocol/version.ts";
import { fakeWorkerEnv, type RunningHive, startHive } from "./helpers/daemons.ts";
import { eventually } from "./helpers/eventually.ts";
import { startHub } from "./helpers/hub.ts";
import { tempHome } from "./helpers/temp_home.ts";
import { STORIES } from "./helpers/test_models.ts";
import { keeperHome } from "./helpers/keeper_home.ts";

const FAKE = { mode: "normal" } as const;

/** A hive, and a keeper's own home in which that is the node `mac`. */
async function machine() {
  const hub = await startHub({ repos: { "acme/bee": { files: { "bee-Q4_K_M.gguf": { path: STORIES } } } } });
  const hiveHome = await tempHome({ hfEndpoint: hub.url });
  const hive = await startHive({ home: hiveHome, worker: FAKE });
  const home = await keeperHome({ mac: hive }, { node: "mac" });
  return {
    ...{ hive, home },
    keeper: (...args: string[]) => runKeeper(args, { home }),
    async [Symbol.asyncDispose]() {
      for (const each of [home, hive, hiveHome, hub]) await each[Symbol.asyncDispose]();
    },
  };
}

function succeeded({ code, stdout, stderr }: Finished): string {
  assertEquals(code, 0, stderr);
  return stdout;
}

async function workerIds(hive: RunningHive): Promise<string[]> {
  return (await hive.client.workers()).workers.map(({ worker_id }) => worker_id);
}

Deno.test("a worker is spawned ahead, listed, looked at, used, and stopped by the beginning of its id", async () => {
  await using at = await machine();
  const { hive, keeper } = at;
  const id = succeeded(await keeper("pool", "worker", "spawn", "--host", "mac", "--slots", "2", "--pin"))
    .trim();
  assertEquals(await workerIds(hive), [id]);
  for (const list of [["pool", "worker", "list", "--host", "mac"], ["workers", "list", "--node", "mac"]]) {
    assertMatch(succeeded(await keeper(...list)), new RegExp(`${id} +builtin:stories +cpu:0 +idle +2/2`));
  }
  assertMatch(
    succeeded(await keeper("workers", "health")),
    new RegExp(`mac +${id} +builtin:stories +idle +just now`),
  );
  const status = succeeded(await keeper("pool", "status", "--host", "mac"));
  for (const part of [hive.url, "memory:", "disk:", "cores:", id]) assertStringIncludes(status, part);
  // It is in the keeper's registry: nothing is started for the question.
  const answer = await keeper("infer", "--prompt", "x", "--slots", "2", "--pin");
  assertEquals([answer.code, answer.stderr], [0, ""]);
  const stopped = await keeper("workers", "shutdown", id.slice(0, 4), "--json");
  assertEquals(JSON.parse(succeeded(stopped)), {
    node: "mac",
    worker_id: id,
    model_ref: "builtin:stories",
    stopped: true,
  });
  assertEquals(await workerIds(hive), []);
});

Deno.test("a worker that is not there is not stopped, and those there are get named", async () => {
  await using at = await machine();
  const { keeper } = at;
  const none = await keeper("pool", "worker", "stop", "zzz", "--host", "mac");
  assertEquals([none.code, none.stderr], [
    1,
    `Error: No worker's id begins with "zzz".\n  No workers run.\n`,
  ]);
  const ids = [];
  for (const slots of ["1", "2"]) {
    ids.push(succeeded(await keeper("pool", "worker", "spawn", "--host", "mac", "--slots", slots)).trim());
  }
  const wrong = await keeper("workers", "shutdown", "--id", "zzz", "--node", "mac");
  for (const id of ids) assertStringIncludes(wrong.stderr, id);
  const both = await keeper("workers", "shutdown", "--id", "", "--node", "mac");
  assertStringIncludes(both.stderr, `More than one worker's id begins with ""`);
  assertEquals((await workerIds(at.hive)).sort(), ids.sort());
});

Deno.test("a machine's models are downloaded, listed and removed under both names of the commands", async () => {
  await using at = await machine();
  const { keeper } = at;
  const path = succeeded(await keeper("pool", "models", "download", "hf:acme/bee", "--host", "mac")).trim();
  assertStringIncludes(path, "bee-Q4_K_M.gguf");
  assertStringIncludes(succeeded(await keeper("pool", "models", "list", "--host", "mac")), "hf:acme/bee");
  assertStringIncludes(succeeded(await keeper("models", "list")), "hf:acme/bee");
  succeeded(await keeper("pool", "models", "remove", "hf:acme/bee", "--host", "mac"));
  assert(!succeeded(await keeper("models", "list")).includes("hf:acme/bee"));
});

Deno.test("logs show hive and workers, narrowed as asked, and follow until Ctrl+C", async () => {
  await using at = await machine();
  const { keeper, home } = at;
  const id = succeeded(await keeper("pool", "worker", "spawn", "--host", "mac")).trim();
  const all = succeeded(await keeper("logs"));
  assertMatch(
    all,
    new RegExp(
      `^\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d\\.\\d{3} hive INFO worker started worker_id=${id} pid=\\d+`,
      "m",
    ),
  );
  assertMatch(all, new RegExp(`${id} - fake worker in mode normal`));
  const own = succeeded(await keeper("logs", "--worker", id, "--json")).trim().split("\n").map((line) =>
    JSON.parse(line)
  );
  assert(own.every(({ worker_id }) => worker_id === id));
  assertEquals(succeeded(await keeper("logs", "--tail", "1")).trim().split("\n").length, 1);
  assertEquals(succeeded(await keeper("logs", "--since", "2999-01-01T00:00:00Z")), "");
  const wrong = await keeper("logs", "--since", "yesterday", "--tail", "x");
  assertEquals(wrong.code, 2);
  assertStringIncludes(wrong.stderr, "--since takes a span like 10m");
  assertStringIncludes(wrong.stderr, "--tail takes a whole number");
  assertEquals((await keeper("logs", "--worker", "nobody")).code, 1);

  const following = startKeeper(["logs", "--follow", "--tail", "1"], { home });
  await following.shows("stdout", /\n/);
  await at.hive.client.shutdownWorker(id);
  await following.shows("stdout", "worker left");
  following.signal("SIGINT");
  assertEquals((await following.finished).code, 130);
});

Deno.test("this machine's hive is started, shown and stopped by hand, however often that is said", async () => {
  await using temp = await tempHome();
  const home: TestHome = { path: temp.rbeeHome, [Symbol.asyncDispose]: () => Promise.resolve() };
  const env = {
    ...temp.env,
    ...fakeWorkerEnv(FAKE),
    RBEE_HIVE_LISTEN: "127.0.0.1:0",
    RBEE_HIVE_WORKER_PORTS: "0-0",
  };
  const keeper = (...args: string[]) => runKeeper(args, { home, env });
  const off = await keeper("daemon", "status", "--json");
  assertEquals([off.code, JSON.parse(off.stdout)], [1, { running: false }]);
  assertEquals((await keeper("daemon", "stop")).stderr, "No hive runs on this machine.\n");
  const started = await keeper("daemon", "start");
  assertEquals(started.code, 0, started.stderr);
  try {
    assertMatch(
      (await keeper("daemon", "start")).stderr,
      /^The hive runs already, at http:\/\/127\.0\.0\.1:\d+ \(pid \d+\)\.\n$/,
    );
    const id = succeeded(await keeper("pool", "worker", "spawn", "--host", "localhost")).trim();
    const on = await keeper("daemon", "status", "--json");
    const { running, pid, version, workers } = JSON.parse(succeeded(on));
    assertEquals([running, version, workers[0].worker_id], [true, VERSION, id]);
    const stopped = await keeper("daemon", "stop");
    assertEquals(stopped.stderr, "Stopping the hive and its worker ...\nThe hive is stopped.\n");
    for (const process of [pid, workers[0].pid]) {
      await eventually(`the end of ${process}`, () => {
        try {
          Deno.kill(process, "SIGCONT");
          return false;
        } catch {
          return true;
        }
      });
    }
  } finally {
    await keeper("daemon", "stop");
  }
});

Deno.test("a hive whose key was changed while it ran can be told apart, restarted and stopped", async () => {
  await using temp = await tempHome();
  const home: TestHome = { path: temp.rbeeHome, [Symbol.asyncDispose]: () => Promise.resolve() };
  const env = {
    ...temp.env,
    ...fakeWorkerEnv(FAKE),
    RBEE_HIVE_LISTEN: "127.0.0.1:0",
    RBEE_HIVE_WORKER_PORTS: "0-0",
  };
  const keeper = (...args: string[]) => runKeeper(args, { home, env });
  const changeKey = (key: string) => Deno.writeTextFile(localKeyPath(temp.rbeeHome), key);
  const pid = async () => JSON.parse(succeeded(await keeper("daemon", "status", "--json"))).pid;
  succeeded(await keeper("daemon", "start"));
  try {
    const before = await pid();
    await changeKey("a-key-of-later-0123456789");
    const hint = /Its key was changed while it ran: rbee-keeper daemon restart makes it use the new one\./;
    assertMatch(succeeded(await keeper("daemon", "status")), hint);
    assertMatch((await keeper("daemon", "start")).stderr, hint);
    const refused = await keeper("workers", "list");
    assertEquals(refused.code, 1);
    assertStringIncludes(refused.stderr, "rbee-keeper daemon restart");
    succeeded(await keeper("daemon", "restart"));
    assertEquals((await keeper("workers", "list")).code, 0);
    assertNotEquals(await pid(), before);
    await changeKey("a-key-of-still-later-0123456789");
    assertEquals(
      (await keeper("daemon", "stop")).stderr,
      "Stopping the hive and its workers ...\nThe hive is stopped.\n",
    );
  } finally {
    await keeper("daemon", "stop");
  }
});

Deno.test("a shell's completions and the manual page go to stdout", async () => {
  await using temp = await tempHome();
  const home: TestHome = { path: temp.rbeeHome, [Symbol.asyncDispose]: () => Promise.resolve() };
  assertStringIncludes(
    succeeded(await runKeeper(["completions", "bash"], { home })),
    "complete -F _rbee_keeper rbee-keeper",
  );
  assertStringIncludes(succeeded(await runKeeper(["man"], { home })), ".TH RBEE\\-KEEPER".replace("\\", ""));
  const wrong = await runKeeper(["completions", "tcsh"], { home });
  assertEquals(wrong.code, 2);
  assertStringIncludes(wrong.stderr, "--shell takes one of bash, zsh, fish");
});
