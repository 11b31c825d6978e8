/** A queen that starts another machine's hive over a real sshd, and one that comes after it. */
import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import { parse } from "@std/yaml";
import { runKeeper, testHome } from "../../keeper/testing/keeper_process.ts";
import { RbeeError } from "../../protocol/errors.ts";
import { QUEEN_ROUTES } from "../../protocol/routes.ts";
import { fingerprint } from "../../home/keys.ts";
import { CLUSTER_KEY, type RunningQueen, startQueen } from "../helpers/cluster.ts";
import { testArchive } from "../helpers/archive.ts";
import { eventually } from "../helpers/eventually.ts";
import { freePort } from "../helpers/free_port.ts";
import { canServeSsh, type SshMachine, startSshd } from "../helpers/sshd.ts";
import { type TempHome, tempHome } from "../helpers/temp_home.ts";

/** Time for a machine that has left to be brought back: it may be on its way by itself. */
const RESTORE_TIMEOUT_MS = 60_000;

async function isAlive(pid: number): Promise<boolean> {
  return await Deno.stat(`/proc/${pid}`).then(() => true, () => false);
}

/** A machine with sshd, a queen that comes out of an archive and so has one to send, and a person with a keeper. */
async function withMachine(
  run: (at: {
    machine: SshMachine;
    there: TempHome;
    queen: RunningQueen;
    /** Another one in the same home, at the same address. */
    startNext: (args?: readonly string[]) => Promise<RunningQueen>;
    keeper: (...args: string[]) => ReturnType<typeof runKeeper>;
    /** What the queen answers to `start`. */
    start: () => Promise<Response>;
    /** What somebody does on that machine by hand. */
    onMachine: (...args: string[]) => Promise<string>;
    /** Process id of its hive. */
    hivePid: () => Promise<number>;
  }) => Promise<void>,
): Promise<void> {
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
  await using archive = await testArchive();
  await using person = await testHome(undefined, { apiKey: CLUSTER_KEY });
  const listen = `127.0.0.1:${freePort()}`;
  const startNext = (args?: readonly string[]) =>
    startQueen({
      ...{ home, listen, args, env: { PATH: `${machine.bin}:${path}` }, archive: archive.folder },
    });
  await using queen = await startNext();
  const hivePid = async () => JSON.parse(await Deno.readTextFile(join(there.rbeeHome, "hive.json"))).pid;
  const onMachine = (...args: string[]) =>
    machine.run(`cd && .local/share/rbee/rbee-keeper ${args.join(" ")}`);
  try {
    await run({
      ...{ machine, there, queen, startNext, hivePid, onMachine },
      keeper: (...args) => runKeeper(["nodes", ...args, "--queen", queen.url], { home: person }),
      start: () =>
        fetch(`${queen.url}${QUEEN_ROUTES.startNode.path}`, {
          method: "POST",
          headers: { Authorization: `Bearer ${CLUSTER_KEY}` },
          body: JSON.stringify({ node_name: "gpu" }),
        }),
    });
  } finally {
    // Nobody else ends it: that is the point.
    const pid = await hivePid().catch(() => undefined);
    if (pid !== undefined && await isAlive(pid)) {
      Deno.kill(pid, "SIGTERM");
      await eventually("the hive to be gone", async () => !await isAlive(pid), RESTORE_TIMEOUT_MS);
    }
  }
}

const startsOver = (queen: RunningQueen) =>
  queen.logLines().filter(({ message }) => message === "hive started over ssh").length;
const isUp = async (queen: RunningQueen) => (await queen.client.nodes())[0].presence === "up";

Deno.test({
  name: "a hive is started over ssh, reports, works, and goes on when it and the queen are replaced",
  ignore: !canServeSsh,
  fn: () =>
    withMachine(async ({ machine, there, queen, startNext, keeper, start, onMachine, hivePid }) => {
      const [user, host, port] = /^(.*)@(.*):(\d+)$/.exec(machine.destination)!.slice(1);
      assertEquals((await start()).status, 404);
      const add = await keeper("add", "gpu", "--ssh", machine.destination, "--install-path", "nowhere");
      assertMatch(add.stderr, /The queen knows gpu: never heard of/);
      const [added] = await queen.client.nodes();
      assertEquals([added.ssh_host, added.ssh_user, added.ssh_port], [host, user, Number(port)]);
      assertEquals([added.status, added.presence, added.install_path], ["unknown", null, "nowhere"]);
      await queen.client.addNode({
        ...{ node_name: "gpu", ssh_host: host, ssh_user: user, ssh_port: Number(port) },
      });
      const absent = await start();
      assertEquals(absent.status, 503);
      assertMatch((await absent.json()).error.message, /not installed/);
      const install = await keeper("install", "gpu");
      assertEquals(install.code, 0, install.stderr);
      assertMatch(install.stderr, /rbee is installed on gpu/);

      // Somebody's hive that knows no queen makes way for one that does.
      await onMachine("daemon", "start");
      const stranger = await hivePid();
      const started = await start();
      const node = await started.json();
      assertEquals(
        [started.status, node.presence, node.status, node.wanted],
        [200, "up", "reachable", { running: true, version: node.version }],
        JSON.stringify(node),
      );
      assertEquals(await isAlive(stranger), false);
      const keyFile = join(there.rbeeHome, "queen.key");
      assertEquals((await Deno.stat(keyFile)).mode! & 0o777, 0o600);
      // Whoever has that machine can report it, and do nothing else here.
      const [key] = await queen.client.keys();
      const secret = (await Deno.readTextFile(keyFile)).trim();
      assertEquals([key.name, key.rights, key.node, key.fp6], [
        "hive-gpu",
        ["hive"],
        "gpu",
        await fingerprint(secret),
      ]);
      const { hive } = parse(await Deno.readTextFile(join(there.rbeeHome, "config.yaml"))) as {
        hive: Record<string, unknown>;
      };
      assertEquals([hive.queen, hive.name, hive.queen_key_file], [queen.url, "gpu", keyFile]);
      assertEquals(hive.advertise, host, "what was there before is still there");
      assertEquals(
        [(await start()).status, startsOver(queen)],
        [200, 1],
        "it reports: nothing is to be done",
      );
      const { events } = await queen.client.run({ model: "builtin:stories", prompt: "Once", max_tokens: 5 });
      assertEquals((await Array.fromAsync(events)).at(-1)?.type, "end");

      // By hand, with nothing of the queen in the environment.
      const hiveUrl = async () => (await queen.client.nodes())[0].hive_url;
      let before = await hiveUrl();
      await onMachine("daemon", "restart");
      await eventually(
        "the restarted hive to report",
        async () => await hiveUrl() !== before,
        RESTORE_TIMEOUT_MS,
      );
      before = await hiveUrl();
      const upgrade = await keeper("install", "gpu");
      assertEquals(upgrade.code, 0, upgrade.stderr);
      await eventually("the new hive to report", async () => await hiveUrl() !== before, RESTORE_TIMEOUT_MS);
      const list = await keeper("list");
      assertMatch(list.stdout, /gpu +\S+ +\S+@127\.0\.0\.1:\d+ +up, 1 worker +just now +\d+\.\d+\.\d+ /);
      const pid = await hivePid();
      await queen.stop();
      assertEquals(await isAlive(pid), true, "what the queen started outlives it");
      await using next = await startNext(["--stop-hives"]);
      await eventually("the successor to hear of it", () => isUp(next), RESTORE_TIMEOUT_MS);
      assertEquals([startsOver(next), await hivePid()], [0, pid]);
      await next.stop();
      assertEquals(await isAlive(pid), false, "--stop-hives ends what was started");
    }),
});

Deno.test({
  name: "a machine that is to run is brought back, one that was stopped is not, and what fails is told",
  ignore: !canServeSsh,
  fn: () =>
    withMachine(async ({ machine, queen, startNext, keeper, start, onMachine, hivePid }) => {
      await keeper("add", "gpu", "--ssh", machine.destination);
      const install = await keeper("install", "gpu");
      assertEquals(install.code, 0, install.stderr);
      assertEquals((await start()).status, 200);
      const pid = await hivePid();
      // As a reboot does it, where nothing starts the hive at boot.
      await onMachine("daemon", "stop");
      assertEquals(await isAlive(pid), false);
      await queen.logged("the machine has left", ({ message }) => message === "machine has left");
      await queen.stop();
      await using next = await startNext();
      await eventually("the successor to bring it back", async () => {
        const [node] = await next.client.nodes();
        return node.presence === "up";
      }, RESTORE_TIMEOUT_MS);
      await next.logged("one line", ({ message }) => message === "hive that is to run was brought back");
      const stop = await keeper("stop", "gpu");
      assertEquals(stop.code, 0, stop.stderr);
      const [stopped] = await next.client.nodes();
      assertEquals([stopped.presence, stopped.wanted.running], ["down", false]);

      await machine.refuseKeys();
      const refused = await start();
      assertEquals([refused.status, (await refused.json()).error.code], [503, "NODE_UNREACHABLE"]);
      const [{ last_error: why, wanted }] = await next.client.nodes();
      assertStringIncludes(why!, "ssh");
      assertEquals(wanted.running, true);
      const told = await eventually(
        "an attempt of its own",
        () => next.logLines().find(({ message }) => message === "machine could not be brought back"),
        RESTORE_TIMEOUT_MS,
      );
      assertEquals([told.node, told.attempt, told.next_seconds, told.code], [
        "gpu",
        1,
        30,
        "NODE_UNREACHABLE",
      ]);
      await assertRejects(() => next.client.removeNode("other"), RbeeError, "no node");
      const removed = await keeper("remove", "gpu");
      assertEquals(removed.code, 0, removed.stderr);
      assertEquals(await next.client.nodes(), []);
    }),
});
