import { assertEquals, assertThrows } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { SpawnRequest } from "../protocol/spawn_request.ts";
import { nowUnix, openRegistry, type RegisteredWorker } from "./registry.ts";

async function tempRegistry() {
  const home = await Deno.makeTempDir({ prefix: "rbee-registry-" });
  const registry = await openRegistry(home);
  return {
    home,
    registry,
    async [Symbol.asyncDispose]() {
      registry[Symbol.dispose]();
      await Deno.remove(home, { recursive: true });
    },
  };
}

function requested(changes: Partial<SpawnRequest> = {}): SpawnRequest {
  return SpawnRequest.parse({ model_ref: "builtin:stories", ...changes });
}

function row(changes: Partial<RegisteredWorker> = {}): RegisteredWorker {
  return {
    id: "w-1",
    node: "localhost",
    url: "http://127.0.0.1:8001",
    apiKey: "rbee-secret",
    modelRef: "builtin:stories",
    backend: "cpu",
    device: 0,
    state: "ready",
    requested: requested(),
    createdAtUnix: nowUnix(),
    lastHealthCheckUnix: nowUnix(),
    ...changes,
  };
}

Deno.test("a worker is found again as it was saved", async () => {
  await using temp = await tempRegistry();
  const saved = row({ requested: requested({ ctx_size: 128 }) });
  temp.registry.save(saved);
  assertEquals(temp.registry.candidates({ node: "localhost", request: requested({ ctx_size: 128 }) }), [
    saved,
  ]);
});

Deno.test("node, model and options must match, and the state be idle or ready", async () => {
  await using temp = await tempRegistry();
  temp.registry.save(row());
  const finds = (node: string, changes: Partial<SpawnRequest> = {}) =>
    temp.registry.candidates({ node, request: requested(changes) }).length;
  assertEquals(finds("localhost"), 1);
  assertEquals(finds("mac"), 0);
  assertEquals(finds("localhost", { model_ref: "hf:a/b" }), 0);
  assertEquals(finds("localhost", { slots: 8 }), 0);
  assertEquals(finds("localhost", { ctx_size: 512 }), 0);
  assertEquals(finds("localhost", { device: 1 }), 0);
  temp.registry.seen(row(), "idle");
  assertEquals(finds("localhost"), 1);
  temp.registry.seen(row(), "loading");
  assertEquals(finds("localhost"), 0);
});

Deno.test("naming the backend that auto chose fits, but not auto where a backend was named", async () => {
  await using temp = await tempRegistry();
  const finds = (backend: "auto" | "cpu" | "cuda") =>
    temp.registry.candidates({ node: "localhost", request: requested({ backend }) }).map(({ id }) => id);
  temp.registry.save(row({ id: "chosen" }));
  assertEquals([finds("auto"), finds("cpu"), finds("cuda")], [["chosen"], ["chosen"], []]);
  temp.registry.forget({ node: "localhost", id: "chosen" });
  temp.registry.save(row({ id: "named", requested: requested({ backend: "cpu" }) }));
  assertEquals([finds("auto"), finds("cpu"), finds("cuda")], [[], ["named"], []]);
});

Deno.test("the worker seen last comes first, and one not seen for a week is forgotten with its key", async () => {
  await using temp = await tempRegistry();
  const days = (count: number) => nowUnix() - count * 24 * 3600;
  temp.registry.save(row({ id: "ancient", lastHealthCheckUnix: days(8) }));
  temp.registry.save(row({ id: "old", lastHealthCheckUnix: days(1) }));
  temp.registry.save(row({ id: "new" }));
  assertEquals(temp.registry.list().map(({ id }) => id), ["new", "old"]);
  temp.registry.seen(row({ id: "old" }), "idle");
  assertEquals(temp.registry.list("localhost")[1].id, "old");
  assertEquals(temp.registry.list("localhost")[1].lastHealthCheckUnix >= nowUnix() - 1, true);
});

Deno.test("a worker that one keeper dropped is not brought back by another that has just seen it", async () => {
  await using temp = await tempRegistry();
  temp.registry.save(row());
  temp.registry.forget(row());
  temp.registry.seen(row(), "idle");
  assertEquals(temp.registry.list(), []);
});

Deno.test("the file and its companions are for the owner alone", async () => {
  await using temp = await tempRegistry();
  temp.registry.save(row());
  for await (const { name, isFile } of Deno.readDir(temp.home)) {
    const { mode } = await Deno.stat(join(temp.home, name));
    assertEquals((mode ?? 0) & 0o077, 0, name);
    assertEquals(isFile ? name.startsWith("keeper.db") : name === "logs", true, name);
  }
});

Deno.test("a state that is none is refused by the database itself", async () => {
  await using temp = await tempRegistry();
  assertThrows(() => temp.registry.save(row({ state: "asleep" as never })));
});

Deno.test("keepers that write at the same time lose nothing", async () => {
  await using temp = await tempRegistry();
  const [writers, rows] = [6, 25];
  const script = `
    import { openRegistry } from ${JSON.stringify(import.meta.resolve("./registry.ts"))};
    const [home, writer] = Deno.args;
    using registry = await openRegistry(home);
    const row = ${JSON.stringify(row())};
    for (let i = 0; i < ${rows}; i++) {
      registry.save({ ...row, id: writer + "-" + i });
      registry.save({ ...row, id: "shared-" + i });
      registry.seen({ node: row.node, id: "shared-" + i }, "idle");
    }`;
  const file = join(temp.home, "writer.ts");
  await Deno.writeTextFile(file, script);
  const config = fromFileUrl(new URL("../deno.json", import.meta.url));
  const outcomes = await Promise.all(
    Array.from({ length: writers }, (_, writer) =>
      new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "-q",
          "-P=keeper",
          "--cached-only",
          "--config",
          config,
          file,
          temp.home,
          String(writer),
        ],
      }).output()),
  );
  assertEquals(
    outcomes.map(({ code, stderr }) => [code, new TextDecoder().decode(stderr)]),
    Array(writers).fill([0, ""]),
  );
  assertEquals(temp.registry.list().length, (writers + 1) * rows);
});

Deno.test("a damaged registry is moved aside, and where none can be written one lasts as long as the command", async () => {
  const damaged = await Deno.makeTempDir({ prefix: "rbee-registry-" });
  const path = join(damaged, "keeper.db");
  try {
    await Deno.writeTextFile(path, "no database ".repeat(1_000));
    for (const home of [damaged, "/dev/null/home"]) {
      using registry = await openRegistry(home);
      registry.save(row());
      assertEquals(registry.list(), [row()]);
      registry.forget(row());
      assertEquals(registry.list(), []);
    }
    assertEquals((await Deno.readTextFile(`${path}.damaged`)).slice(0, 11), "no database");
  } finally {
    await Deno.remove(damaged, { recursive: true });
  }
});
