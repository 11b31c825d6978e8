import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { homeSeal, Seal } from "./seal.ts";
import { openDatabase } from "../../home/database.ts";
import { QUEEN_MIGRATIONS, SqliteStore } from "./sqlite_store.ts";
import { RevisionConflict, type StoredNode, type StoredTask } from "./store.ts";

function task(over: Partial<StoredTask> = {}): StoredTask {
  return {
    ...{ id: "t", key: "owner", model: "m", priority: "interactive", status: "queued", promptHash: "h" },
    ...{ createdMs: 1, deadlineMs: 9, endedMs: null, tokens: 0, state: null },
    ...{ strikes: 0, outcome: null, revision: 0 },
    ...over,
  };
}

async function withStore(run: (store: SqliteStore, path: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "queen.db");
  const store = new SqliteStore(path);
  try {
    await run(store, path);
  } finally {
    await store.close();
    await Deno.remove(folder, { recursive: true });
  }
}

const MAC: StoredNode = {
  ...{ name: "mac", sshHost: "mac.lan", sshPort: 2222, sshUser: null, installPath: null, hiveUrl: null },
  ...{
    lastConnectedUnix: 7,
    lastError: "It was off.",
    status: "unknown",
    backends: ["cpu"],
    devices: ["cpu:0"],
  },
  ...{ running: false, version: null, cordoned: false, labels: [] },
};

const PROMPT = new Uint8Array([1]);
const batch = (seq: number, count: number) => ({ seq, count, data: new Uint8Array([seq]) });

Deno.test("events and the change of their task are written together, or neither", () =>
  withStore(async (store) => {
    await store.addTask(task(), PROMPT);
    await store.append("t", { revision: 0, events: batch(1, 3), change: { status: "running", tokens: 3 } });
    await assertRejects(
      () => store.append("t", { revision: 0, events: batch(4, 1), change: { status: "done" } }),
      RevisionConflict,
    );
    const { status, tokens, revision } = (await store.task("t"))!;
    assertEquals([status, tokens, revision], ["running", 3, 1]);
    assertEquals((await store.events("t", 0)).map(({ seq }) => seq), [1]);
  }));

Deno.test("events are found from any of their numbers on, the middle of a batch included", () =>
  withStore(async (store) => {
    await store.addTask(task(), PROMPT);
    await store.append("t", { revision: 0, events: batch(1, 3) });
    await store.append("t", { revision: 1, events: batch(4, 2) });
    const from = async (after: number) => (await store.events("t", after)).map(({ seq }) => seq);
    assertEquals([await from(0), await from(2), await from(3), await from(4), await from(5)], [
      [1, 4],
      [1, 4],
      [4],
      [4],
      [],
    ]);
  }));

Deno.test("writes of one turn are one transaction, in which a failed one takes no other along", () =>
  withStore(async (store) => {
    const outcomes = await Promise.allSettled([
      store.addTask(task({ id: "a" }), PROMPT),
      store.addTask(task({ id: "a" }), PROMPT),
      store.addTask(task({ id: "b" }), PROMPT),
    ]);
    assertEquals(outcomes.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled"]);
    assertEquals((await store.unfinishedTasks()).map(({ id }) => id), ["a", "b"]);
  }));

Deno.test("what ended long ago is forgotten with its events, and nothing else", () =>
  withStore(async (store, path) => {
    await store.addTask(task({ id: "old", endedMs: 5 }), PROMPT);
    await store.append("old", { revision: 0, events: batch(1, 1) });
    await store.addTask(task({ id: "new", endedMs: 50 }), PROMPT);
    await store.addTask(task({ id: "open" }), PROMPT);
    assertEquals(await store.prune(10), 1);
    assertEquals([await store.task("old"), await store.events("old", 0)], [undefined, []]);
    assert(await store.task("new") !== undefined && await store.task("open") !== undefined);
    assertEquals((await Deno.stat(path)).mode! & 0o777, 0o600);
  }));

Deno.test("a prompt is kept beside its task until that has ended, and no change of the task writes it again", () =>
  withStore(async (store, path) => {
    const prompt = crypto.getRandomValues(new Uint8Array(65_536));
    await store.addTask(task(), prompt);
    assertEquals(await store.sealedPrompt("t"), prompt);
    const before = (await Deno.stat(`${path}-wal`)).size;
    for (let i = 0; i < 10; i++) {
      await store.append("t", { revision: i, events: batch(i + 1, 1), change: { tokens: i, state: PROMPT } });
    }
    const written = (await Deno.stat(`${path}-wal`)).size - before;
    assert(written < 10 * prompt.length, `${written} bytes`);
    assertEquals(await store.sealedPrompt("t"), prompt);
    await store.append("t", { revision: 10, change: { status: "done", endedMs: 5 } });
    assertEquals([await store.sealedPrompt("t"), (await store.task("t"))?.status], [undefined, "done"]);
  }));

Deno.test("prompts of a store from before they had a table of their own are found in it", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "queen.db");
    const old = openDatabase(path, QUEEN_MIGRATIONS.slice(0, 2));
    const insert = old.prepare(
      "INSERT INTO tasks VALUES (?, 'k', 'm', 'batch', 'queued', 'h', ?, 1, 9, NULL, 0, NULL, NULL, 0, 0)",
    );
    insert.run("waits", PROMPT);
    insert.run("ended", null);
    old.close();
    const store = new SqliteStore(path);
    assertEquals([await store.sealedPrompt("waits"), await store.sealedPrompt("ended")], [PROMPT, undefined]);
    assertEquals((await store.unfinishedTasks()).map(({ id }) => id), ["waits", "ended"]);
    await store.close();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a long text is sealed compressed, and one that was sealed as it stands is read as well", async () => {
  const seal = new Seal(crypto.getRandomValues(new Uint8Array(32)));
  const text = JSON.stringify({ prompt: "Once upon a time: ä. ".repeat(10_000) });
  const closed = await seal.closeLong(text);
  assert(closed.length < text.length / 10);
  assertEquals(await seal.openLong(closed), text);
  assertEquals(await seal.openLong(seal.close(text)), text);
  assertEquals(await seal.openLong(new Uint8Array(40)), undefined);
});

Deno.test("a change of a machine leaves its other fields alone, and one that is not known stays unknown", () =>
  withStore(async (store) => {
    assertEquals(await store.changeNode("mac", { cordoned: true }), false);
    assertEquals(await store.nodes(), []);
    await store.putNode(MAC);
    await Promise.all([
      store.changeNode("mac", { cordoned: true, labels: ["fast"] }),
      store.changeNode("mac", { running: true, lastError: null }),
    ]);
    assertEquals(await store.nodes(), [
      { ...MAC, cordoned: true, labels: ["fast"], running: true, lastError: null },
    ]);
  }));

Deno.test("machines of an older queen are known to this one, and nothing is wanted of them", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "queen.db");
    const old = openDatabase(path, QUEEN_MIGRATIONS.slice(0, 2));
    old.exec(
      `INSERT INTO beehives VALUES ('mac', 'mac.lan', 2222, NULL, NULL, NULL, 7, 'It was off.', 'unknown',
      '["cpu"]', '["cpu:0"]')`,
    );
    old.close();
    const store = new SqliteStore(path);
    assertEquals(await store.nodes(), [MAC]);
    await store.close();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("sealed text says nothing without its key, and what was changed is not opened", () => {
  const key = crypto.getRandomValues(new Uint8Array(32));
  const seal = new Seal(key);
  const closed = seal.close("what was asked: ä");
  assertEquals(new TextDecoder().decode(closed).includes("asked"), false);
  assertEquals(seal.open(closed), "what was asked: ä");
  assertEquals(new Seal(crypto.getRandomValues(new Uint8Array(32))).open(closed), undefined);
  for (let at = 0; at < closed.length; at++) {
    const changed = closed.slice();
    changed[at] ^= 1;
    assertEquals(seal.open(changed), undefined);
  }
  assertEquals(seal.open(new Uint8Array(3)), undefined);
});

Deno.test("a home's key lies in memory where there is a folder for that, and is the same for the next queen", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const env = new Map([["XDG_RUNTIME_DIR", folder]]);
    const home = join(folder, "home");
    await Deno.mkdir(home);
    const [first, second] = await Promise.all([homeSeal(home, env), homeSeal(home, env)]);
    assertEquals(second.open(first.close("x")), "x");
    assertEquals([...Deno.readDirSync(home)], []);
    const [{ name }, ...more] = [...Deno.readDirSync(join(folder, "rbee"))];
    assertEquals([more, (await Deno.stat(join(folder, "rbee", name))).mode! & 0o777], [[], 0o600]);
    const closed = first.close("x");
    await Deno.writeFile(join(folder, "rbee", name), new Uint8Array(3));
    assertEquals((await homeSeal(home, env)).open(closed), undefined);
    await homeSeal(home, new Map());
    assertEquals([...Deno.readDirSync(home)].map(({ name }) => name), ["queen.seal"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
