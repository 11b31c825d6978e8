import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { tempHome } from "../tests/helpers/temp_home.ts";
import { RbeeError } from "../protocol/errors.ts";
import { loadConfig } from "./config.ts";
import { editConfig } from "./config_file.ts";

Deno.test("a change leaves comments, order and mode as they are", async () => {
  await using home = await tempHome();
  const path = join(home.path, "config.yaml");
  const before =
    "# mine\nlog: { level: debug } # loud\nnodes:\n  # upstairs\n  mac:\n    url: http://mac:9200\n";
  await Deno.writeTextFile(path, before, { mode: 0o640 });
  await Deno.chmod(path, 0o640);
  await editConfig({ path, home: home.rbeeHome }, (document) => {
    document.setIn(["nodes", "gpu"], document.createNode({ url: "http://gpu:9200" }));
  });
  assertEquals(await Deno.readTextFile(path), `${before}  gpu:\n    url: http://gpu:9200\n`);
  assertEquals((await Deno.stat(path)).mode! & 0o777, 0o640);
  await editConfig({ path, home: home.rbeeHome }, (document) => void document.deleteIn(["nodes", "gpu"]));
  assertEquals(await Deno.readTextFile(path), before);
});

Deno.test("a file that is not there is made for its owner alone", async () => {
  await using home = await tempHome();
  const path = join(home.rbeeHome, "config.yaml");
  await editConfig({ path, home: home.rbeeHome }, (document) => document.setIn(["log", "level"], "warn"));
  assertEquals(await Deno.readTextFile(path), "log:\n  level: warn\n");
  assertEquals((await Deno.stat(path)).mode! & 0o777, 0o600);
});

Deno.test("what would make the configuration invalid, or is no YAML already, changes nothing", async () => {
  await using home = await tempHome();
  const path = join(home.rbeeHome, "config.yaml");
  for (const text of ["log: { level: warn }\n", "log: {\n"]) {
    await Deno.writeTextFile(path, text);
    const set = () =>
      editConfig({ path, home: home.rbeeHome }, (document) => document.setIn(["log", "level"], "loud"));
    await assertRejects(set, RbeeError);
    assertEquals(await Deno.readTextFile(path), text);
    assertEquals((await Array.fromAsync(Deno.readDir(home.rbeeHome))).map(({ name }) => name), [
      "config.yaml",
    ]);
  }
});

Deno.test("changes at the same time are all there in the end", async () => {
  await using home = await tempHome();
  const path = join(home.rbeeHome, "config.yaml");
  const names = Array.from({ length: 20 }, (_, i) => `n${i}`);
  await Promise.all(names.map((name) =>
    editConfig({ path, home: home.rbeeHome }, (document) => {
      document.setIn(["nodes", name, "url"], `http://${name}:9200`);
    })
  ));
  const { config } = await loadConfig({ env: new Map([["RBEE_CONFIG", path], ["HOME", home.path]]) });
  assertEquals(Object.keys(config.nodes).sort(), names.sort());
});

Deno.test("a configuration behind a link is written where it is", async () => {
  await using home = await tempHome();
  const path = join(home.rbeeHome, "config.yaml");
  const real = join(home.path, "dotfiles.yaml");
  await Deno.writeTextFile(real, "log: { level: warn }\n");
  await Deno.symlink("../dotfiles.yaml", path);
  await editConfig({ path, home: home.rbeeHome }, (document) => document.setIn(["log", "level"], "debug"));
  assertEquals(await Deno.readLink(path), "../dotfiles.yaml");
  assertEquals(await Deno.readTextFile(real), "log: { level: debug }\n");
});

Deno.test("what is read is what is changed, with anchors, merges and odd numbers", async () => {
  await using home = await tempHome();
  const path = join(home.rbeeHome, "config.yaml");
  const env = new Map([["RBEE_CONFIG", path], ["HOME", home.path]]);
  const nodes = "nodes:\n  a: &a { url: http://a:9200, ssh: me@a }\n  b: { <<: *a, url: http://b:9200 }\n";
  await Deno.writeTextFile(path, nodes);
  await editConfig({ path, home: home.rbeeHome }, (document) => document.setIn(["log", "level"], "warn"));
  const { config } = await loadConfig({ env });
  assertEquals([config.nodes.b.ssh, config.nodes.b.url, config.log.level], ["me@a", "http://b:9200", "warn"]);
  await Deno.writeTextFile(path, "queen: { queue_limit: 1_000 }\n");
  await editConfig({ path, home: home.rbeeHome }, (document) => document.setIn(["log", "level"], "info"));
  assertEquals((await loadConfig({ env })).config.queen.queue_limit, 1_000);
});
