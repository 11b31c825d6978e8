/** The edge cases of SPEC §8, one scenario each. */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { HIVE_KEY, on, standInHive, standInWorker } from "../../keeper/testing/stand_in.ts";
import { HIVE_ROUTES } from "../../protocol/routes.ts";
import { VERSION } from "../../protocol/version.ts";
import { eventually } from "../helpers/eventually.ts";
import { given, INFER, LOADING, masked, saw, STARTING, STORY } from "./scenario.ts";
import { freePort } from "../helpers/free_port.ts";

Deno.test("EC1: given a machine that is off, infer tries three times and says what to check", () =>
  given({}, async ({ type, knowMac }) => {
    await knowMac({ url: `http://127.0.0.1:${freePort()}` });
    saw(await type(...INFER), {
      code: 1,
      stderr: [
        "Attempt 1/3: Cannot connect to HOST:PORT: Connection refused (os error N); next in N ms",
        "Attempt 2/3: Cannot connect to HOST:PORT: Connection refused (os error N); next in N ms",
        "Attempt 3/3: Cannot connect to HOST:PORT: Connection refused (os error N)",
        "Error: Cannot connect to HOST:PORT after 3 attempts",
        "  Check that a hive runs there (on that machine: rbee-hive daemon --listen 0.0.0.0:PORT),",
        "  that no firewall is in between, and that the address is right (nodes.mac.url in TMP/config.yaml).",
      ],
    });
  }));

Deno.test("EC2: given a hub whose downloads break off, infer shows each retry and the last error", () =>
  given({}, async ({ hub, type }) => {
    hub.faults.add({ kind: "reset", afterBytes: 10 }, { times: 1000 });
    saw(await type(...INFER, "--model", "hf:acme/bee"), {
      code: 1,
      stderr: [
        "Downloading model...",
        "The download broke off: error reading a body from connection. Retry 2/6 in N ms.",
        "The download broke off: error reading a body from connection. Retry 3/6 in N ms.",
        "The download broke off: error reading a body from connection. Retry 4/6 in N ms.",
        "The download broke off: error reading a body from connection. Retry 5/6 in N ms.",
        "The download broke off: error reading a body from connection. Retry 6/6 in N ms.",
        "Error: Cannot fetch bee-Q4_K_M.gguf of acme/bee from HOST:PORT: error reading a body from connection. Check the connection.",
      ],
    });
  }));

Deno.test("EC2: given a hub that is down, infer shows each retry, the first as well", async () => {
  await given({ hive: { HF_ENDPOINT: `http://127.0.0.1:${freePort()}` } }, async ({ type }) => {
    saw(await type(...INFER, "--model", "hf:acme/bee"), {
      code: 1,
      stderr: [
        ...[2, 3, 4, 5, 6].map((attempt) =>
          `The download broke off: client error (Connect): tcp connect error: Connection refused (os error N). Retry ${attempt}/6 in N ms.`
        ),
        "Error: Cannot fetch acme/bee from HOST:PORT: client error (Connect): tcp connect error: Connection refused (os error N). Check the connection.",
      ],
    });
  });
});

Deno.test("EC3: given too little memory, infer shows what is required and available, and what would fit", () =>
  given({ hive: { RBEE_HIVE_RESERVE_MB: "1000000" } }, async ({ type }) => {
    saw(await type(...INFER), {
      code: 1,
      stderr: [
        "Error: builtin:stories with 4 slots of 512 tokens needs N MB and N MB are free on cpu device 0; N MB are kept for other programs. Lower hive.reserve_mb by N MB, and it fits.",
        "  Required: N MB, available: N MB",
      ],
    });
  }));

Deno.test("EC4: given a worker that dies in mid-answer, what came stays on screen and in a private file", () =>
  given({ worker: { mode: "dies-mid-answer" } }, async ({ hive, home, type }) => {
    const seen = await type(...INFER);
    saw(seen, {
      code: 1,
      stdout: "Once upon a time there \n",
      stderr: [
        STARTING,
        ...LOADING,
        "Error: The worker died or the connection to it was lost in the middle of its answer",
        "  Partial answer saved to TMP/rbee-partial-ID.txt",
        "  Tokens generated: 5 / 20",
        "  Run the same command again: a new worker will be started.",
      ],
    });
    const [path] = /\/\S+rbee-partial-\S+\.txt/.exec(seen.stderr)!;
    assertEquals([await Deno.readTextFile(path), (await Deno.stat(path)).mode! & 0o777], [
      "Once upon a time there ",
      0o600,
    ]);
    assert(path.startsWith(home.path));
    assertEquals((await hive.client.workers()).workers, []);
  }));

Deno.test("EC5: given an answer that is coming, Ctrl+C cancels it at the worker", () =>
  given({ worker: { tokenMs: 50 } }, async ({ hive, start }) => {
    const infer = start(...INFER);
    await infer.shows("stdout", "Once upon");
    infer.signal("SIGINT");
    const { code, stderr } = await infer.finished;
    assertEquals([code, masked(stderr).split("\n")], [130, [STARTING, ...LOADING, "Canceled.", ""]]);
    await eventually("a free worker", async () => (await hive.client.workers()).workers[0].state === "idle");
  }));

Deno.test("EC6: given a worker whose slots are all busy, infer waits, says so, and gives up with advice", () =>
  given({ worker: { tokenMs: 500 } }, async ({ start, type }) => {
    const first = start(...INFER, "--slots", "1");
    await first.shows("stdout", "Once");
    saw(await type(...INFER, "--slots", "1", "--retry", "2"), {
      code: 1,
      stderr: [
        "The worker's only slot is busy. Trying again in 1 s (1/2).",
        "The worker's only slot is busy. Trying again in 2 s (2/2).",
        "Error: The worker's only slot is busy, after 3 tries in 3 s",
        "  Try again later or with a larger --retry, use another --node, or start a larger worker with more --slots.",
      ],
    });
    first.signal("SIGINT");
    await first.finished;
  }));

Deno.test("EC7: given a load that never ends, infer says where it stuck and where the log is", () =>
  given({ worker: { mode: "stuck-load" }, hive: { RBEE_HIVE_LOAD_TIMEOUT: "2" } }, async ({ type }) => {
    saw(await type(...INFER), {
      code: 1,
      stderr: [
        STARTING,
        "Loading model to VRAM...",
        "Error: builtin:stories was not loaded within 2 s: it stuck at layer 4 of 8. The log is TMP/rbee/logs/worker-WORKER.log.",
        "  Use a smaller model or quantisation, or raise hive.load_timeout in the node's config.yaml.",
      ],
    });
  }));

Deno.test("EC8: given a hive of another version, infer names both and what to upgrade", () =>
  given({}, async ({ type, knowMac, home }) => {
    await using worker = standInWorker();
    await using older = standInHive(worker, {
      [on(HIVE_ROUTES.v1Health)]: () =>
        Response.json({ status: "alive", version: "0.0.9", api_version: "v1" }),
    });
    const path = join(home.path, "older.key");
    await Deno.writeTextFile(path, `${HIVE_KEY}\n`, { mode: 0o600 });
    await knowMac({ url: older.url, api_key_file: path });
    saw(await type(...INFER), {
      code: 1,
      stderr: [
        `Error: The versions differ: this keeper is ${VERSION}, the hive on mac is 0.0.9`,
        `  Upgrade rbee on mac to ${VERSION} and restart its hive there: rbee-hive daemon`,
      ],
    });
  }));

Deno.test("EC9: given a wrong key, infer names the machine, the configuration and where the key is from", () =>
  given({}, async ({ type, knowMac, home }) => {
    const path = join(home.path, "wrong.key");
    await Deno.writeTextFile(path, "not-the-key-at-all\n", { mode: 0o600 });
    await knowMac({ api_key_file: path });
    const seen = await type(...INFER);
    saw(seen, {
      code: 1,
      stderr: [
        "Error: Authentication failed",
        "  Node: mac (http://HOST:PORT)",
        "  Config: TMP/config.yaml",
        "  Key: TMP/wrong.key",
        "  Put its key into a file (mode 0600) and name it as nodes.mac.api_key_file in the config.",
      ],
    });
    assert(!seen.stderr.includes("not-the-key"));
  }));

Deno.test("EC10: given a worker that left because it was idle, the next infer starts another and downloads nothing", () =>
  given({ hive: { RBEE_HIVE_IDLE_TIMEOUT: "1" } }, async ({ hive, hub, type }) => {
    const ask = () => type(...INFER, "--model", "hf:acme/bee");
    assertEquals((await ask()).code, 0);
    await eventually("no worker", async () => (await hive.client.workers()).workers.length === 0);
    const requests = hub.requests.length;
    saw(await ask(), {
      code: 0,
      stdout: `${STORY}\n`,
      stderr: [STARTING, ...LOADING],
    });
    assertEquals(hub.requests.length, requests);
  }));
