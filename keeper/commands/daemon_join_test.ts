import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { parse } from "@std/yaml";
import { emptyHome, runKeeper } from "../testing/keeper_process.ts";

const KEY = "key-of-the-queen";

Deno.test("joining a queen writes address, name and key file beside what a person has configured", async () => {
  await using home = await emptyHome();
  const config = join(home.path, "config.yaml");
  await Deno.writeTextFile(config, "# Mine.\nhive:\n  listen: 127.0.0.1:9300 # not the usual one\n");
  const join_ = (args: string[], stdin?: string) =>
    runKeeper(["daemon", "join", "--no-start", ...args], { home, stdin });
  const first = await join_(
    ["--queen", "http://queen.lan:8080/", "--name", "mac", "--key-file", "-"],
    `${KEY}\n`,
  );
  assertEquals(first.code, 0, first.stderr);
  assertMatch(first.stderr, /reports to http:\/\/queen\.lan:8080 /);
  const keyFile = join(home.path, "queen.key");
  const { mode } = await Deno.stat(keyFile);
  assertEquals([await Deno.readTextFile(keyFile), mode! & 0o777], [`${KEY}\n`, 0o600]);
  const text = await Deno.readTextFile(config);
  for (const kept of ["# Mine.", "# not the usual one"]) assertStringIncludes(text, kept);
  const hive = {
    listen: "127.0.0.1:9300",
    queen: "http://queen.lan:8080",
    name: "mac",
    queen_key_file: keyFile,
  };
  assertEquals(parse(text), { hive });

  const moved = await join_(["--queen", "http://other.lan:8080", "--json"]);
  assertEquals(JSON.parse(moved.stdout), { queen: "http://other.lan:8080", started: false });
  assertEquals(parse(await Deno.readTextFile(config)), { hive: { ...hive, queen: "http://other.lan:8080" } });
});

Deno.test("joining changes nothing when address, name or key are none", async () => {
  await using home = await emptyHome();
  const attempts: [args: string[], stdin: string | undefined, told: RegExp][] = [
    [["--queen", "queen.lan:8080"], undefined, /--queen takes http/],
    [["--queen", "http://queen.lan:8080", "--name", "a b"], undefined, /--name takes/],
    [
      ["--queen", "http://queen.lan:8080", "--key-file", "-"],
      "two\nlines of text\n",
      /What stdin says is not a key/,
    ],
    [["--queen", "http://queen.lan:8080", "--key-file", "nowhere"], undefined, /nowhere: it does not exist/],
  ];
  for (const [args, stdin, told] of attempts) {
    const { code, stderr } = await runKeeper(["daemon", "join", "--no-start", ...args], { home, stdin });
    assertEquals(code === 0, false);
    assertMatch(stderr, told);
  }
  const left = [...Deno.readDirSync(home.path)].filter(({ isFile }) => isFile).map(({ name }) => name);
  assertEquals(left, []);
});
