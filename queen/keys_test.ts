import { assert, assertEquals, assertRejects } from "@std/assert";
import { createHash } from "node:crypto";
import { join } from "@std/path";
import { digestOf } from "../daemon/auth.ts";
import { ConfigSchema } from "../home/config_schema.ts";
import { RbeeError } from "../protocol/errors.ts";
import { type AddKeyInput, AddKeyRequest } from "../protocol/key_schemas.ts";
import { OWNER } from "../protocol/rights.ts";
import { keptLog } from "../tests/helpers/log_lines.ts";
import { tempHome } from "../tests/helpers/temp_home.ts";
import type { KeyLimits } from "./accounts.ts";
import { Keys } from "./keys.ts";
import { NO_LIMITS } from "./request_limits.ts";
import { SqliteStore } from "./store/sqlite_store.ts";

const hash = (key: string) => createHash("sha256").update(key).digest("hex");
const ADA = { name: "ada", hash: hash("key-of-ada"), share: 2 };

const added = (key: AddKeyInput) => AddKeyRequest.parse(key);

interface Bed {
  store: SqliteStore;
  limits: Map<string, KeyLimits>;
  kept: ReturnType<typeof keptLog>;
  open(...configured: Record<string, unknown>[]): Promise<Keys>;
}

async function withBed(run: (bed: Bed) => Promise<void>): Promise<void> {
  await using home = await tempHome();
  const store = new SqliteStore(join(home.path, "queen.db"));
  const [limits, kept] = [new Map<string, KeyLimits>(), keptLog()];
  const open = (...keys: Record<string, unknown>[]) =>
    Keys.open({
      configured: ConfigSchema.parse({ queen: { keys } }).queen.keys,
      ...{ store: store.keys, apiKey: "key-of-the-owner", log: kept.log },
      onLimits: (id, limit) => void limits.set(id, limit),
    });
  try {
    await run({ store, limits, kept, open });
  } finally {
    await store.close();
  }
}

Deno.test("a key is known by its hash, has its share and its limits, and gets answers if nothing else is said", () =>
  withBed(async ({ limits, open }) => {
    const keys = await open({ ...ADA, tokens_per_day: 9 });
    assertEquals(keys.identify(digestOf("key-of-ada")), { id: "ada", rights: ["client"], node: undefined });
    assertEquals([keys.identify(digestOf("another")), keys.shareOf("ada"), keys.shareOf("owner")], [
      undefined,
      2,
      1,
    ]);
    assertEquals(limits.get("ada")!.tokens_per_day, 9);
  }));

Deno.test("a key that is named owner is not the owner", () =>
  withBed(async ({ kept, open }) => {
    const keys = await open({ ...ADA, name: "owner" });
    const caller = keys.identify(digestOf("key-of-ada"))!;
    assertEquals(caller.rights, ["client"]);
    assert(caller.id !== OWNER.id);
    assertEquals([keys.may(caller.id, "owner"), keys.may(OWNER.id, "owner")], [false, true]);
    assert(keys.cacheScopeOf(caller.id) !== keys.cacheScopeOf(OWNER.id));
    assert(kept.lines.some(({ level, message }) => level === "warn" && /named owner/.test(String(message))));
  }));

Deno.test("an added key is told once, is known by the next queen, and its hash alone is kept", () =>
  withBed(async ({ store, open, kept }) => {
    const keys = await open();
    const { key, fp6 } = await keys.add(added({ name: "bob", rights: ["operator"], tokens_per_day: 5 }));
    const again = await open(ADA);
    assertEquals(again.identify(digestOf(key))!.rights, ["operator"]);
    assertEquals(again.list().map(({ name, source, tokens_per_day }) => [name, source, tokens_per_day]), [
      ["ada", "config", null],
      ["bob", "queen", 5],
    ]);
    assertEquals([(await store.keys.keys())[0].hash.slice(0, 6), again.list()[1].fp6], [fp6, fp6]);
    assertEquals(JSON.stringify([await store.keys.keys(), again.list()]).includes(key), false);
    assertEquals(kept.text().includes(key), false);
  }));

Deno.test("a rotated key's old secret is void, a removed key's too", () =>
  withBed(async ({ open }) => {
    const keys = await open();
    const first = await keys.add(added({ name: "bob" }));
    const second = await keys.rotate("bob");
    assertEquals([keys.identify(digestOf(first.key)), keys.identify(digestOf(second.key))?.id], [
      undefined,
      "bob",
    ]);
    await keys.remove("bob");
    assertEquals([keys.identify(digestOf(second.key)), keys.list()], [undefined, []]);
    assertEquals((await assertRejects(() => keys.remove("bob"), RbeeError)).code, "NOT_FOUND");
  }));

Deno.test("a key that was stored before there were limits has none, and those that are set are kept", () =>
  withBed(async ({ store, open }) => {
    const settings = JSON.stringify({ rights: "client", share: 1 });
    await store.keys.putKey({ name: "old", hash: hash("o"), settings, createdMs: 0, rotatedMs: 0 });
    const keys = await open();
    const unlimited = { ...NO_LIMITS, models: undefined, nodes: undefined, context: undefined };
    assertEquals(keys.limitsOf("old"), unlimited);
    await keys.change("old", { models: ["builtin:*"], grammar: false, share: 3 });
    const again = await open();
    assertEquals([again.limitsOf("old").models, again.limitsOf("old").grammar], [["builtin:*"], false]);
    assertEquals([again.identify(digestOf("o"))?.id, again.shareOf("old")], ["old", 3]);
    await again.change("old", { models: null, grammar: null, share: null });
    assertEquals([again.limitsOf("old"), again.shareOf("old")], [unlimited, 1]);
  }));

Deno.test("a key that is removed while it is changed stays removed", () =>
  withBed(async ({ open }) => {
    const keys = await open();
    await keys.add(added({ name: "bob" }));
    const all = [keys.remove("bob"), keys.change("bob", { share: 2 }), keys.rotate("bob")];
    const ends = await Promise.allSettled(all);
    assertEquals(ends.map(({ status }) => status), ["fulfilled", "rejected", "rejected"]);
    assertEquals([keys.list(), (await open()).list()], [[], []]);
  }));

Deno.test("names are taken once, owner by nobody, and keys of the configuration are changed there", () =>
  withBed(async ({ open }) => {
    const keys = await open(ADA);
    for (const name of ["ada", "owner"]) {
      const error = await assertRejects(() => keys.add(added({ name })), RbeeError);
      assertEquals(error.code, "INVALID_REQUEST");
    }
    for (const act of ["rotate", "remove"] as const) {
      assertEquals((await assertRejects(() => keys[act]("ada"), RbeeError)).code, "INVALID_REQUEST");
    }
  }));

Deno.test("other keys of the configuration count at once, and keep their places when those of others go", () =>
  withBed(async ({ open }) => {
    const keys = await open(ADA);
    const { key } = await keys.add(added({ name: "bob" }));
    keys.configure(
      ConfigSchema.parse({ queen: { keys: [{ ...ADA, hash: hash("new-key-of-ada") }] } }).queen.keys,
    );
    assertEquals([keys.identify(digestOf("key-of-ada")), keys.identify(digestOf("new-key-of-ada"))?.id], [
      undefined,
      "ada",
    ]);
    keys.configure([]);
    assertEquals([keys.identify(digestOf("new-key-of-ada")), keys.identify(digestOf(key))?.id], [
      undefined,
      "bob",
    ]);
  }));

Deno.test("caches are shared within a key, or within a group of keys, and with nobody else", () =>
  withBed(async ({ open }) => {
    const group = { cache_group: "family" };
    const keys = await open(
      ADA,
      { name: "bob", hash: hash("b") },
      { name: "cyd", hash: hash("c"), ...group },
      { name: "dan", hash: hash("d"), ...group },
    );
    const scopes = ["owner", "ada", "bob", "cyd", "dan"].map((id) => keys.cacheScopeOf(id));
    assertEquals(new Set(scopes).size, 4);
    assertEquals(scopes[3], scopes[4]);
    for (const scope of scopes) assert(/^[0-9a-f]{16}$/.test(scope));
  }));

Deno.test("a hive's key is bound to a machine, and no other key is", () => {
  const parse = (key: Record<string, unknown>) =>
    ConfigSchema.safeParse({ queen: { keys: [{ ...ADA, ...key }] } });
  assert(parse({ rights: "hive", node: "mac" }).success);
  assert(parse({ rights: ["hive", "client"], node: "mac" }).success);
  for (const wrong of [{ rights: "hive" }, { node: "mac" }, { rights: [] }, { rights: "king" }]) {
    assertEquals(parse(wrong).success, false, JSON.stringify(wrong));
  }
});
