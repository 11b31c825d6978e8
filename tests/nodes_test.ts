/** `nodes …`: the list of machines, and what is done to them over a real ssh. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import { emptyHome, type Finished, runKeeper } from "../keeper/testing/keeper_process.ts";
import { VERSION } from "../protocol/version.ts";
import { startHive } from "./helpers/daemons.ts";
import { testArchive } from "./helpers/archive.ts";
import { fakeArchive } from "./helpers/fake_archive.ts";
import { canServeSsh, type SshMachine, startSshd } from "./helpers/sshd.ts";
import { tempHome } from "./helpers/temp_home.ts";
import { freePort } from "./helpers/free_port.ts";

function succeeded({ code, stdout, stderr }: Finished): string {
  assertEquals(code, 0, stderr);
  return stdout;
}

Deno.test("a machine is added, changed, listed and removed, under both names of the commands", async () => {
  await using hiveHome = await tempHome();
  await using hive = await startHive({ home: hiveHome, worker: { mode: "normal" } });
  await using home = await emptyHome();
  const keeper = (...args: string[]) => runKeeper(args, { home });
  await Deno.writeTextFile(join(home.path, "mac.key"), `${hive.key}\n`, { mode: 0o600 });
  await Deno.writeTextFile(join(home.path, "config.yaml"), "# mine\nlog: { level: warn }\n");
  const added = await keeper(
    "nodes",
    "add",
    "mac",
    "--url",
    hive.url,
    "--api-key-file",
    join(home.path, "mac.key"),
  );
  assertStringIncludes(added.stderr, `Its hive answers, version ${VERSION}.`);
  succeeded(await keeper("setup", "add-node", "gpu", "--ssh", "me@gpu.local:2222"));
  const list = JSON.parse(succeeded(await keeper("nodes", "list", "--json"))).nodes;
  assertEquals(
    list.map((
      { name, url, version, error }: Record<string, string>,
    ) => [name, name === "localhost" ? "" : url, version ?? error]),
    [["localhost", "", "not running"], ["mac", hive.url, VERSION], [
      "gpu",
      "http://gpu.local:9200",
      "does not answer",
    ]],
  );
  assertMatch(
    succeeded(await keeper("setup", "list-nodes")),
    new RegExp(`mac +${hive.url} +version ${VERSION}`),
  );
  const id = succeeded(await keeper("pool", "worker", "spawn", "--host", "mac")).trim();
  assertEquals(id.length, 12);
  succeeded(await keeper("nodes", "add", "gpu", "--url", "http://10.0.0.9:9300"));
  const text = await Deno.readTextFile(join(home.path, "config.yaml"));
  for (const part of ["# mine\n", "url: http://10.0.0.9:9300", "ssh: me@gpu.local:2222"]) {
    assertStringIncludes(text, part);
  }
  succeeded(await keeper("nodes", "remove", "gpu"));
  succeeded(await keeper("setup", "remove-node", "mac"));
  assertEquals(await Deno.readTextFile(join(home.path, "config.yaml")), "# mine\nlog: { level: warn }\n");
  const again = await keeper("nodes", "remove", "mac");
  assertEquals(again.code, 2);
  assertStringIncludes(again.stderr, 'There is no node "mac"');
});

Deno.test("what can't be a machine changes nothing, and every mistake is named", async () => {
  await using home = await emptyHome();
  const keeper = (...args: string[]) => runKeeper(args, { home });
  const wrong = await keeper(
    "nodes",
    "add",
    "-x",
    "--url",
    "ftp://mac",
    "--ssh",
    "-oProxyCommand=x",
    "--install-path",
    "a b",
  );
  assertEquals(wrong.code, 2);
  for (const part of ["--url: expected http", "--ssh: expected USER@HOST", "--install-path: expected"]) {
    assertStringIncludes(wrong.stderr, part);
  }
  assertStringIncludes(
    (await keeper("nodes", "add", "localhost", "--url", "http://x:1")).stderr,
    "can't be a machine's name",
  );
  assertStringIncludes((await keeper("nodes", "add", "mac")).stderr, "--url or --ssh is required.");
  for (const verb of ["install", "start", "stop"]) {
    const unknown = await keeper("nodes", verb, "mac");
    assertEquals(unknown.code, 2);
    assertStringIncludes(
      unknown.stderr,
      'There is no node "mac": rbee-keeper nodes add NAME --ssh USER@HOST',
    );
  }
  assertEquals(
    (await Array.fromAsync(Deno.readDir(home.path))).filter(({ name }) => name === "config.yaml"),
    [],
  );
});

/** A machine behind ssh, and a keeper that knows it as `gpu`. */
async function behindSsh() {
  const port = freePort();
  const hive = await tempHome();
  const machine: SshMachine = await startSshd({
    ...{ ...hive.env, RBEE_HIVE_WORKER_PORTS: "0-0" },
    PATH: `${dirname(Deno.execPath())}:${Deno.env.get("PATH")}`,
    // Its home is empty; packages are not to be fetched again for each test.
    DENO_DIR: Deno.env.get("DENO_DIR") ?? join(Deno.env.get("HOME")!, ".cache/deno"),
  });
  const home = await emptyHome();
  const env = { PATH: `${machine.bin}:${Deno.env.get("PATH")}` };
  const keeper = (...args: string[]) => runKeeper(args, { home, env });
  succeeded(
    await keeper("nodes", "add", "gpu", "--ssh", machine.destination, "--url", `http://127.0.0.1:${port}`),
  );
  return {
    ...{ machine, home, keeper, hiveHome: hive.rbeeHome },
    async [Symbol.asyncDispose]() {
      for (const each of [home, machine, hive]) await each[Symbol.asyncDispose]();
    },
  };
}

Deno.test({
  name: "rbee is installed on another machine, used, stopped, started and upgraded over ssh",
  ignore: !canServeSsh,
  async fn() {
    await using at = await behindSsh();
    const { keeper, machine, home, hiveHome } = at;
    await using archive = await testArchive({ packed: true });
    const installed = join(machine.home, ".local/share/rbee");
    const install = await keeper("nodes", "install", "gpu", "--archive", archive.packed!);
    assertEquals(install.code, 0, install.stderr);
    try {
      assertStringIncludes(install.stderr, `rbee ${VERSION} runs on gpu`);
      const key = join(home.path, "keys", "gpu.key");
      assertEquals((await Deno.stat(key)).mode! & 0o777, 0o600);
      assertEquals((await Deno.stat(join(hiveHome, "api_key"))).mode! & 0o777, 0o600);
      assertEquals(await Deno.readTextFile(key), await Deno.readTextFile(join(hiveHome, "api_key")));
      const answer = await keeper(
        "infer",
        "--node",
        "gpu",
        "--prompt",
        "Once",
        "--max-tokens",
        "5",
        "--quiet",
      );
      assert(succeeded(answer).length > 5);
      assertStringIncludes(succeeded(await keeper("nodes", "list")), `version ${VERSION}`);
      assertStringIncludes((await keeper("nodes", "stop", "gpu")).stderr, "The hive on gpu is stopped.");
      assertStringIncludes((await keeper("nodes", "stop", "gpu")).stderr, "No hive runs on gpu.");
      assertEquals(JSON.parse(succeeded(await keeper("nodes", "start", "gpu", "--json"))).version, VERSION);
      // Again, as an upgrade: what is old goes.
      await Deno.writeTextFile(join(installed, "old.ts"), "");
      const again = ["setup", "install", "--node", "gpu", "--no-start", "--archive", archive.packed!];
      succeeded(await keeper(...again));
      const left = (await Array.fromAsync(Deno.readDir(installed))).map(({ name }) => name);
      assertEquals([left.includes("old.ts"), left.includes("rbee-keeper")], [false, true]);
      const absent = await keeper("nodes", "install", "gpu", "--archive", "/no/such.tar.gz");
      assertEquals(absent.code, 1);
      assertStringIncludes(absent.stderr, "There is no archive /no/such.tar.gz");
    } finally {
      await keeper("nodes", "stop", "gpu");
    }
  },
});

Deno.test({
  name: "over ssh, too, a folder that is not rbee's stays as it is",
  ignore: !canServeSsh,
  async fn() {
    await using at = await behindSsh();
    const { keeper, machine, home } = at;
    const documents = join(machine.home, "Documents");
    await fakeArchive(join(home.path, "archive/rbee-1"), "1");
    const packed = join(home.path, "rbee.tar.gz");
    const args = ["-C", join(home.path, "archive"), "-czf", packed, "rbee-1"];
    assertEquals((await new Deno.Command("tar", { args }).output()).code, 0);
    await Deno.mkdir(documents);
    await Deno.writeTextFile(join(documents, "thesis"), "years of work");
    succeeded(
      await keeper("nodes", "add", "gpu", "--install-path", "Documents", "--ssh", machine.destination),
    );
    const install = () => keeper("nodes", "install", "gpu", "--no-start", "--archive", packed);
    const refused = await install();
    assertEquals(refused.code, 1);
    assertStringIncludes(refused.stderr, "has files in it that are not rbee's; nothing was changed");
    assertEquals((await Array.fromAsync(Deno.readDir(documents))).map(({ name }) => name), ["thesis"]);
    succeeded(await keeper("nodes", "add", "gpu", "--install-path", "new", "--ssh", machine.destination));
    succeeded(await install());
    assertEquals((await Deno.stat(join(machine.home, "new/rbee-keeper"))).isFile, true);
  },
});
