/** What each kind of key may do to a queen, and keys that are made while it runs. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import { join } from "@std/path";
import { emptyHome, runKeeper } from "../../keeper/testing/keeper_process.ts";
import { CLUSTER_KEY, known, startQueen } from "../helpers/cluster.ts";
import { startHive } from "../helpers/daemons.ts";
import { eventually } from "../helpers/eventually.ts";
import { FakeFleet, FLEET_MODEL as model, type FleetQueen, fleetQueen } from "../helpers/fake_fleet.ts";
import { tempHome } from "../helpers/temp_home.ts";

const hash = (key: string) => createHash("sha256").update(key).digest("hex");
const bearer = (key: string) => ({ Authorization: `Bearer ${key}` });

const KEYS = [
  { name: "ada", hash: hash("key-of-a-client") },
  { name: "oscar", hash: hash("key-of-an-operator"), rights: "operator" },
  { name: "hive-mac", hash: hash("key-of-a-hive"), rights: "hive", node: "mac" },
  { name: "vera", hash: hash("key-of-an-owner"), rights: ["owner"] },
  // What older versions took for the owner.
  { name: "owner", hash: hash("key-named-owner") },
];

const report = (node: string) => ({
  ...{ node_name: node, instance: "i", hive_url: "http://127.0.0.1:9", api_key: "k", version: "0" },
  ...{ memory: { total_mb: 0, free_mb: 0, reserve_mb: 0 }, devices: [], models: [], workers: [] },
});

async function withQueen(run: (queen: FleetQueen) => Promise<void>): Promise<void> {
  await using home = await tempHome();
  await using queen = await fleetQueen(home, { keys: KEYS });
  await using fleet = new FakeFleet(queen);
  await fleet.start(1);
  await run(queen);
}

/** What the kinds of keys are answered: `+` for what they may do. */
const MAY: [path: string, body: unknown, client: string, operator: string, hive: string, owner: string][] = [
  ["/v1/health", undefined, "+", "+", "+", "+"],
  ["/v1/models", undefined, "+", "+", "-", "+"],
  ["/v1/completions", { model, prompt: "a" }, "+", "-", "-", "+"],
  ["/v2/tasks", { model, prompt: "a" }, "+", "-", "-", "+"],
  [`/v2/explain?model=${model}`, undefined, "+", "+", "-", "+"],
  ["/v2/workers", undefined, "-", "+", "-", "+"],
  ["/v2/requests", undefined, "+", "+", "-", "+"],
  ["/v2/models", undefined, "-", "+", "-", "+"],
  ["/v2/registry/beehives/list", undefined, "-", "+", "-", "+"],
  ["/metrics", undefined, "-", "+", "-", "+"],
  ["/v2/hives/heartbeat", report("mac"), "-", "-", "+", "+"],
  ["/v2/keys", undefined, "-", "-", "-", "+"],
  ["/v2/usage", undefined, "-", "-", "-", "+"],
  ["/openapi.json", undefined, "-", "-", "-", "+"],
];

Deno.test("each right opens its routes and no others, whatever a key is called", () =>
  withQueen(async (queen) => {
    const secrets = ["key-of-a-client", "key-of-an-operator", "key-of-a-hive", "key-of-an-owner"];
    for (const [path, body, ...expected] of MAY) {
      const seen = await Promise.all(secrets.map(async (secret) => {
        const response = await queen.call(path, body, bearer(secret));
        await response.body?.cancel();
        assert(response.ok || response.status === 403, `${path} with ${secret}: ${response.status}`);
        return response.ok ? "+" : "-";
      }));
      assertEquals(seen.join(""), expected.join(""), path);
      const named = await queen.call(path, body, bearer("key-named-owner"));
      await named.body?.cancel();
      assertEquals(named.ok ? "+" : "-", expected[0], `${path} with the key that is named owner`);
    }
  }));

Deno.test("a key that lacks a right is told which one, and nothing else; one that nobody has is a wrong key", () =>
  withQueen(async (queen) => {
    const response = await queen.call("/v2/workers", undefined, bearer("key-of-a-client"));
    const { error: { correlation_id: _, ...error } } = await response.json();
    assertEquals([response.status, response.headers.get("WWW-Authenticate")], [403, null]);
    assertEquals(error, {
      code: "FORBIDDEN",
      message: "This route takes a key with the right operator, which this key lacks.",
      details: { needed: ["owner", "operator"] },
    });
    const chat = await queen.call("/v1/completions", { model, prompt: "a" }, bearer("key-of-an-operator"));
    assertEquals([chat.status, (await chat.json()).error.type], [403, "permission_error"]);
    const wrong = await queen.call("/v2/workers", undefined, bearer("key-of-nobody"));
    assertEquals([wrong.status, (await wrong.json()).error.code], [401, "INVALID_API_KEY"]);
  }));

Deno.test("a hive's key reports its own machine and no other, and the owner's any, with a word of warning", () =>
  withQueen(async (queen) => {
    const other = await queen.call("/v2/hives/heartbeat", report("gpu"), bearer("key-of-a-hive"));
    assertEquals(other.status, 403);
    const { error } = await other.json();
    assertMatch(error.message, /may not report gpu.*keys add hive-gpu/);
    assertEquals([error.code, /\bmac\b/.test(error.message)], ["FORBIDDEN", false]);
    assertEquals(
      (await queen.call("/v2/hives/heartbeat", report("mac"), bearer("key-of-a-hive"))).status,
      200,
    );
    for (let i = 0; i < 3; i++) {
      assertEquals((await queen.call("/v2/hives/heartbeat", report("tv"))).status, 200);
    }
    const warned = queen.log.filter(({ message }) => /reports with the owner's key/.test(message));
    // The other one is the fleet's.
    assertEquals(warned.map(({ node }) => node), ["n", "tv"]);
  }));

Deno.test("tasks of the owner are none of a key's that is named so, and the other way round", () =>
  withQueen(async (queen) => {
    const submit = async (headers?: Record<string, string>) =>
      (await (await queen.call("/v2/tasks", { model, prompt: "a" }, headers)).json()).job_id;
    const [owners, named] = [await submit(), await submit(bearer("key-named-owner"))];
    const look = async (id: string, key?: string) =>
      (await queen.call(`/v2/tasks/${id}`, undefined, key === undefined ? {} : bearer(key))).status;
    assertEquals([await look(owners, "key-named-owner"), await look(named, "key-named-owner")], [404, 200]);
    assertEquals([await look(owners), await look(named)], [200, 200]);
    assert(queen.log.some(({ message, level }) => level === "warn" && /named owner/.test(message)));
  }));

Deno.test("keys are made, told once, given a new secret and removed, by the owner and over restarts", async () => {
  await using home = await tempHome();
  const queen = await fleetQueen(home, { keys: KEYS });
  const made = await queen.call("/v2/keys", { name: "bob", tokens_per_day: 100 });
  assertEquals([made.status, made.headers.get("Cache-Control")], [201, "no-store"]);
  const { key } = await made.json();
  assertEquals((await queen.call("/v1/models", undefined, bearer(key))).status, 200);
  const listed = await (await queen.call("/v2/keys")).text();
  assertEquals([listed.includes(key), listed.includes('"name":"bob"')], [false, true]);
  const wrong = await queen.call("/v2/keys", { name: "b b", rights: "hive" });
  const fields = (await wrong.json()).error.details.errors.map(({ field }: { field: string }) => field);
  assertEquals([wrong.status, fields.sort()], [400, ["name", "node"]]);
  assertEquals((await queen.call("/v2/keys", { name: "ada" })).status, 400);
  await queen[Symbol.asyncDispose]();

  await using successor = await fleetQueen(home, { keys: KEYS });
  assertEquals((await successor.call("/v1/models", undefined, bearer(key))).status, 200);
  const send = (method: string, path: string) =>
    successor.queen.app(new Request(`http://queen${path}`, { method, headers: bearer("key-of-the-queen") }));
  const rotated = await (await send("POST", "/v2/keys/bob/rotate")).json();
  assertEquals((await successor.call("/v1/models", undefined, bearer(key))).status, 401);
  assertEquals((await successor.call("/v1/models", undefined, bearer(rotated.key))).status, 200);
  assertEquals((await send("DELETE", "/v2/keys/bob")).status, 204);
  assertEquals((await successor.call("/v1/models", undefined, bearer(rotated.key))).status, 401);
  assertEquals(
    [(await send("DELETE", "/v2/keys/bob")).status, (await send("DELETE", "/v2/keys/ada")).status],
    [404, 400],
  );
  const logged = JSON.stringify([queen.log, successor.log]);
  assertEquals([logged.includes(key), logged.includes(rotated.key)], [false, false]);
});

Deno.test("by keeper and real daemons: a hive with a key of its own, a changed configuration, a faulty one", async () => {
  await using home = await tempHome();
  const config = join(home.rbeeHome, "config.yaml");
  const write = (text: string) => Deno.writeTextFile(config, text);
  await write("queen: { keys: [] }\n");
  await using queen = await startQueen({ home });
  await using keeperHome = await emptyHome();
  const keyFile = join(home.rbeeHome, "owner.key");
  await Deno.writeTextFile(keyFile, `${CLUSTER_KEY}\n`, { mode: 0o600 });
  const keeper = async (...args: string[]) => {
    const env = { RBEE_QUEEN: queen.url, RBEE_QUEEN_KEY_FILE: keyFile };
    return await runKeeper(args, { home: keeperHome, env });
  };
  const added = await keeper("keys", "add", "hive-mac", "--rights", "hive", "--node", "mac");
  assertEquals(added.code, 0, added.stderr);
  assertMatch(added.stderr, /not shown again/);
  const key = added.stdout.trim();
  assertMatch(key, /^rbee-[\w-]{43}$/);
  assertMatch((await keeper("keys", "list")).stdout, /hive-mac +hive of mac/);

  await using hiveHome = await tempHome();
  const hiveKeyFile = join(hiveHome.rbeeHome, "queen.key");
  await Deno.writeTextFile(hiveKeyFile, `${key}\n`, { mode: 0o600 });
  await using _hive = await startHive({
    home: hiveHome,
    env: { RBEE_HIVE_QUEEN: queen.url, RBEE_HIVE_NAME: "mac", RBEE_HIVE_QUEEN_KEY_FILE: hiveKeyFile },
  });
  await known(queen, ["mac"]);

  const status = async (secret: string) => {
    const response = await fetch(`${queen.url}/v1/models`, { headers: bearer(secret) });
    await response.body?.cancel();
    return response.status;
  };
  assertEquals(await status("key-of-ada-lovelace"), 401);
  await write(`queen: { keys: [{ name: ada, hash: "${hash("key-of-ada-lovelace")}" }], queue_limit: 7 }\n`);
  const reloaded = await keeper("config", "reload");
  assertEquals(reloaded.code, 0, reloaded.stderr);
  assertMatch(reloaded.stderr, /taken over: .*queen\.keys.*\n.*next start: queen\.queue_limit/);
  assertEquals(await status("key-of-ada-lovelace"), 200);

  await write("queen: { keys: [{ name: ada, hash: tiny }] }\n");
  const faulty = await keeper("config", "reload");
  assertEquals(faulty.code, 1);
  assertMatch(faulty.stderr, /queen\.keys\.0\.hash: expected the SHA-256/);
  assertEquals(await status("key-of-ada-lovelace"), 200);

  await write("queen: { keys: [] }\n");
  Deno.kill(queen.pid, "SIGHUP");
  await eventually("the key to be gone", async () => await status("key-of-ada-lovelace") === 401);
  assertEquals((await queen.client.health()).status, "alive");
});
