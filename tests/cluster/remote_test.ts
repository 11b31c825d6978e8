/** A queen who starts another machine's hive over a real sshd, and takes it along when she leaves. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { dirname, join } from "@std/path";
import { runKeeper, testHome } from "../../keeper/testing/keeper_process.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { QUEEN_ROUTES } from "../../protocol/routes.ts";
import { CLUSTER_KEY, startQueen } from "../helpers/cluster.ts";
import { testArchive } from "../helpers/archive.ts";
import { eventually } from "../helpers/eventually.ts";
import { canServeSsh, startSshd } from "../helpers/sshd.ts";
import { tempHome } from "../helpers/temp_home.ts";

async function isAlive(pid: number): Promise<boolean> {
  return await Deno.stat(`/proc/${pid}`).then(() => true, () => false);
}

Deno.test({
  name: "a hive is started over ssh, reports, works, and ends with the queen who started it",
  ignore: !canServeSsh,
  async fn() {
    await using home = await tempHome();
    await using there = await tempHome();
    const path = `${dirname(Deno.execPath())}:${Deno.env.get("PATH")}`;
    await using machine = await startSshd({
      ...there.env,
      PATH: path,
      // Its home is empty; packages are not to be fetched again for each test.
      DENO_DIR: Deno.env.get("DENO_DIR") ?? join(Deno.env.get("HOME")!, ".cache/deno"),
      RBEE_HIVE_LISTEN: "127.0.0.1:0",
      RBEE_HIVE_WORKER_PORTS: "0-0",
    });
    // She comes out of an archive herself, and so has one to send.
    await using archive = await testArchive();
    await using person = await testHome(undefined, { apiKey: CLUSTER_KEY });
    await using queen = await startQueen({
      ...{ home, env: { PATH: `${machine.bin}:${path}` }, archive: archive.folder },
    });
    const [user, host, port] = /^(.*)@(.*):(\d+)$/.exec(machine.destination)!.slice(1);
    const call = (route: { path: string }) =>
      fetch(`${queen.url}${route.path}`, {
        method: "POST",
        headers: { Authorization: `Bearer ${CLUSTER_KEY}` },
        body: JSON.stringify({ node_name: "gpu" }),
      });
    const keeper = (...args: string[]) =>
      runKeeper(["nodes", ...args, "--queen", queen.url], { home: person });
    assertEquals((await call(QUEEN_ROUTES.startNode)).status, 404);
    const add = await keeper("add", "gpu", "--ssh", machine.destination, "--install-path", "nowhere");
    assertMatch(add.stderr, /The queen knows gpu: never heard of/);
    const [added] = await queen.client.nodes();
    assertEquals([added.ssh_host, added.ssh_user, added.ssh_port], [host, user, Number(port)]);
    assertEquals([added.status, added.presence, added.install_path], ["unknown", null, "nowhere"]);
    const absent = await (await call(QUEEN_ROUTES.startNode)).json();
    assertEquals(absent.error.code, "NODE_UNREACHABLE");
    assertMatch(absent.error.message, /not installed/);
    await queen.client.addNode({ node_name: "gpu", ssh_host: host, ssh_user: user, ssh_port: Number(port) });
    assertEquals((await call(QUEEN_ROUTES.startNode)).status, 503, "not installed yet");
    const install = await keeper("install", "gpu");
    assertEquals(install.code, 0, install.stderr);
    assertMatch(install.stderr, /rbee is installed on gpu/);
    const started = await call(QUEEN_ROUTES.startNode);
    const node = await started.json();
    assertEquals(
      [started.status, node.presence, node.status],
      [200, "up", "reachable"],
      JSON.stringify(node),
    );
    const keyFile = join(there.rbeeHome, "queen.key");
    assertEquals((await Deno.stat(keyFile)).mode! & 0o777, 0o600);
    const { events } = await queen.client.run({ model: "builtin:stories", prompt: "Once", max_tokens: 5 });
    assertEquals((await Array.fromAsync(events)).at(-1)?.type, "end");
    const before = JSON.parse(await Deno.readTextFile(join(there.rbeeHome, "hive.json"))).pid;
    const hiveUrl = async () => (await queen.client.nodes())[0].hive_url;
    const urlBefore = await hiveUrl();
    const upgrade = await keeper("install", "gpu");
    assertEquals(upgrade.code, 0, upgrade.stderr);
    await eventually("the new hive to report", async () => await hiveUrl() !== urlBefore);
    assertEquals(await isAlive(before), false);
    assertMatch((await keeper("list")).stdout, /gpu +\S+ +\S+@127\.0\.0\.1:\d+ +up, 1 worker/);
    const { pid } = JSON.parse(await Deno.readTextFile(join(there.rbeeHome, "hive.json")));
    assertEquals(await isAlive(pid), true);
    await queen.stop();
    await eventually("the hive to be gone", async () => !await isAlive(pid));
    await machine.refuseKeys();
    await using next = await startQueen({ home, env: { PATH: `${machine.bin}:${path}` } });
    const [known] = await next.client.nodes();
    assertEquals([known.node_name, known.presence, known.backends], ["gpu", null, ["cpu"]]);
    const refused = await fetch(`${next.url}${QUEEN_ROUTES.startNode.path}`, {
      method: "POST",
      headers: { Authorization: `Bearer ${CLUSTER_KEY}` },
      body: JSON.stringify({ node_name: "gpu" }),
    });
    assertEquals([refused.status, (await refused.json()).error.code], [503, "NODE_UNREACHABLE"]);
    assertMatch((await next.client.nodes())[0].last_error!, /ssh/);
    await assertRejects(() => next.client.removeNode("other"), RbeeError, "no node");
    const removed = await runKeeper(["nodes", "remove", "gpu", "--queen", next.url], { home: person });
    assertEquals(removed.code, 0, removed.stderr);
    assertEquals(await next.client.nodes(), []);
  },
});
