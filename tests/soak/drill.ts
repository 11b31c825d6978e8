/**
 * `deno task soak:drill`: three machines behind real sshds, which a queen has installed and started. Hives are restarted by
 * hand, machines lose their power, the queen is stopped, killed and upgraded, and all of that at once. After each of these
 * the cluster has to be whole again without a hand's turn: all machines up, each with an answer. Exit status 1 otherwise.
 */
import { assertEquals } from "@std/assert";
import { dirname, join } from "@std/path";
import { runKeeper, testHome } from "../../keeper/testing/keeper_process.ts";
import { bundleName } from "../../home/installation.ts";
import { VERSION } from "../../protocol/version.ts";
import { testArchive } from "../helpers/archive.ts";
import { CLUSTER_KEY, startQueen } from "../helpers/cluster.ts";
import { eventually } from "../helpers/eventually.ts";
import { freePort } from "../helpers/free_port.ts";
import { type SshMachine, sshTo, startSshd } from "../helpers/sshd.ts";
import { type TempHome, tempHome } from "../helpers/temp_home.ts";

const NAMES = ["attic", "desk", "cellar"];
const NEXT_VERSION = VERSION.replace(/\d+$/, (patch) => String(Number(patch) + 1));
/** The queen's own patience with a machine that is silent, and then three that are started again, on a slow machine. */
const WHOLE_TIMEOUT_MS = 180_000;

interface Machine {
  name: string;
  home: TempHome;
  ssh: SshMachine;
  /** What somebody does there by hand. */
  run(...args: string[]): Promise<void>;
}

await using all = new AsyncDisposableStack();
const path = `${dirname(Deno.execPath())}:${Deno.env.get("PATH")}`;
const machines: Machine[] = [];
for (const name of NAMES) machines.push(await startMachine(name));
const bin = await Deno.makeTempDir();
all.defer(() => Deno.remove(bin, { recursive: true }));
await sshTo(machines.map(({ ssh }) => ssh), bin);
const archive = all.use(await testArchive());
const nextArchive = await laterArchive(archive.folder);
const home = all.use(await tempHome());
const listen = `127.0.0.1:${freePort()}`;
const startNext = (folder = archive.folder) =>
  startQueen({ home, listen, archive: folder, env: { PATH: `${bin}:${path}` } });
const person = all.use(await testHome(undefined, { apiKey: CLUSTER_KEY }));
let queen = await startNext();
all.defer(async () => void await queen.stop());
const keeper = async (...args: string[]) => {
  const { code, stderr } = await runKeeper(["nodes", ...args, "--queen", queen.url], { home: person });
  assertEquals(code, 0, stderr);
};
for (const { name, ssh } of machines) {
  await keeper("add", name, "--ssh", ssh.destination);
  await keeper("install", name);
  await keeper("start", name);
}
// Nobody else ends them: that is the point.
all.defer(async () => {
  for (const { ssh } of machines) await ssh.powerCut();
});

/** Version of the machines. */
let wanted = VERSION;
const cutAll = () => Promise.all(machines.map(({ ssh }) => ssh.powerCut()));
const DRILLS: Readonly<Record<string, () => Promise<unknown>>> = {
  "nothing": () => Promise.resolve(),
  "each hive is restarted by hand": async () => {
    for (const machine of machines) await machine.run("daemon", "restart");
  },
  "one machine loses its power": () => machines[0].ssh.powerCut(),
  "all machines lose their power": cutAll,
  "the queen is stopped and started": async () => {
    await queen.stop();
    queen = await startNext();
  },
  "the queen is killed and started": async () => {
    await queen.kill();
    queen = await startNext();
  },
  "the whole house loses its power, and the queen is started": async () => {
    await queen.kill();
    await cutAll();
    queen = await startNext();
  },
  "each machine is upgraded in place": async () => {
    for (const { name } of machines) await keeper("install", name);
  },
  "the queen is upgraded": async () => {
    await queen.stop();
    queen = await startNext(nextArchive);
  },
  "each machine is upgraded to the queen's version": async () => {
    for (const { name } of machines) await keeper("install", name);
    wanted = NEXT_VERSION;
  },
  "a machine comes back from a backup, with the version before": async () => {
    const [{ ssh }] = machines;
    const installed = join(ssh.home, ".local/share/rbee");
    await Deno.remove(installed, { recursive: true });
    await copy(archive.folder, installed);
    await ssh.powerCut();
  },
};
let failed = 0;
for (const [what, happens] of Object.entries(DRILLS)) {
  const startedMs = performance.now();
  try {
    await happens();
    await whole(wanted);
    console.log(`ok     ${what}: whole after ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
  } catch (error) {
    failed++;
    console.log(`FAILED ${what}: ${error}\n${queen.logs().split("\n").slice(-30).join("\n")}`);
  }
}
console.log(`${Object.keys(DRILLS).length - failed} passed, ${failed} failed`);
await all.disposeAsync();
Deno.exit(failed === 0 ? 0 : 1);

/** All machines are up, are of a version, and answer. */
async function whole(version: string): Promise<void> {
  await eventually("all machines to be up", async () => {
    const nodes = await queen.client.nodes();
    const up = nodes.filter((node) => node.presence === "up" && node.version === version);
    return up.length === NAMES.length;
  }, WHOLE_TIMEOUT_MS);
  for (const node of NAMES) {
    const { events } = await queen.client.run({
      model: "builtin:stories",
      node,
      prompt: "Once",
      max_tokens: 5,
    });
    const all = await Array.fromAsync(events);
    assertEquals([all.at(-1)?.type, all.find((event) => event.type === "started")?.node], ["end", node]);
  }
}

async function startMachine(name: string): Promise<Machine> {
  const home = all.use(await tempHome());
  const ssh = all.use(
    await startSshd({
      ...{ ...home.env, PATH: path },
      // Its home is empty; packages are not to be fetched again for each drill.
      DENO_DIR: Deno.env.get("DENO_DIR") ?? join(Deno.env.get("HOME")!, ".cache/deno"),
      RBEE_HIVE_LISTEN: "127.0.0.1:0",
      RBEE_HIVE_WORKER_PORTS: "0-0",
    }),
  );
  const run = async (...args: string[]) => {
    await ssh.run(`cd && .local/share/rbee/rbee-keeper ${args.join(" ")}`);
  };
  return { name, home, ssh, run };
}

async function copy(from: string, to: string): Promise<void> {
  const { success, stderr } = await new Deno.Command("cp", { args: ["-a", from, to] }).output();
  assertEquals(success, true, new TextDecoder().decode(stderr));
}

/** The same archive, of a later version. */
async function laterArchive(folder: string): Promise<string> {
  const to = await Deno.makeTempDir({ prefix: "rbee-later-" });
  all.defer(() => Deno.remove(to, { recursive: true }));
  const later = join(to, bundleName().replace(VERSION, NEXT_VERSION));
  await copy(folder, later);
  const rewrite = async (at: string) => {
    for await (const { name, isDirectory, isFile } of Deno.readDir(at)) {
      const file = join(at, name);
      if (isDirectory) await rewrite(file);
      else if (isFile && /\.(js|json)$/.test(name)) {
        const text = await Deno.readTextFile(file);
        if (text.includes(VERSION)) await Deno.writeTextFile(file, text.replaceAll(VERSION, NEXT_VERSION));
      }
    }
  };
  await rewrite(join(later, "lib"));
  return later;
}
