/**
 * What is given to people, on machines that have nothing: a minimal Debian made for the test, and processors older than
 * this one under emulation. Run by `deno task test:packages`; needs root, debootstrap and qemu-user, and the network that
 * debootstrap takes its packages from.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { basename, join } from "@std/path";
import { HiveClient } from "../../protocol/hive_client.ts";
import { WorkerClient } from "../../protocol/worker_client.ts";
import { bundle, must } from "../../tools/bundle.ts";
import { hasProgram, runCommand } from "../../tools/command.ts";
import { debianPackage } from "../../tools/debian.ts";
import { SLOW, SLOW_TOKENS } from "../helpers/slow_model.ts";
import { ROOT } from "../helpers/daemons.ts";
import { eventually } from "../helpers/eventually.ts";
import { writeLlamaGguf } from "../helpers/gguf_writer.ts";

const PORTABLE = { backends: ["cpu"], native: false, to: join(ROOT, "dist") } as const;
/** As the unit has them; what only systemd can set up is not among it. */
const UNIT_ENVIRONMENT = [
  "RBEE_HOME=/var/lib/rbee",
  "HF_HOME=/var/cache/rbee/huggingface",
  "DENO_DIR=/var/cache/rbee/deno",
];
/** Each with the code that is best for it. */
const OLDER: [cpu: string, code: string][] = [["Nehalem", "sse42"], ["SandyBridge", "sandybridge"], [
  "Haswell",
  "haswell",
]];

const canDebootstrap = Deno.uid() === 0 && hasProgram("debootstrap");
const canEmulate = Deno.build.arch === "x86_64" && hasProgram("qemu-x86_64");

/** A Debian with nothing but what it cannot be without. */
async function minimalDebian() {
  const root = await Deno.makeTempDir({ prefix: "rbee-debian-" });
  // Its `/`, which others than root go through.
  await Deno.chmod(root, 0o755);
  await must(["debootstrap", "--variant=minbase", "bookworm", root]);
  await must(["mount", "-t", "proc", "proc", join(root, "proc")]);
  const within = (...argv: string[]) => [
    ...["chroot", root, "/usr/bin/env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
    ...["RBEE_HIVE_LISTEN=127.0.0.1:0", "RBEE_HIVE_WORKER_PORTS=0-0", ...argv],
  ];
  return {
    root,
    within,
    async [Symbol.asyncDispose]() {
      await must(["umount", join(root, "proc")]);
      await Deno.remove(root, { recursive: true });
    },
  };
}

Deno.test({
  name: "the archive answers on a minimal Debian that has neither Deno nor Node nor a compiler",
  ignore: !canDebootstrap,
  async fn() {
    const packed = await bundle(ROOT, { ...PORTABLE, archive: true });
    await using debian = await minimalDebian();
    for (const absent of ["deno", "node", "npm", "cc"]) {
      assert((await runCommand(debian.within("sh", "-c", `command -v ${absent}`))).code !== 0, absent);
    }
    await must(["tar", "-xzf", packed, "-C", join(debian.root, "opt")]);
    const keeper = `/opt/${basename(packed, ".tar.gz")}/rbee-keeper`;
    const { stdout } = await must(debian.within(keeper, "infer", "--prompt", "write a short story"));
    await must(debian.within(keeper, "daemon", "stop"));
    assert(stdout.length > 50, stdout);
  },
});

Deno.test({
  name: "the Debian package installs, serves as its unit does, is upgraded under a running answer, and goes",
  ignore: !canDebootstrap,
  async fn() {
    const made = await debianPackage(ROOT, { ...PORTABLE, archive: false });
    await using debian = await minimalDebian();
    const { root, within } = debian;
    await Deno.copyFile(made, join(root, "root/rbee.deb"));
    await must(within("dpkg", "-i", "/root/rbee.deb"));
    const key = (await Deno.readTextFile(join(root, "etc/rbee/api_key"))).trim();
    assertMatch(key, /^[0-9a-f]{64}$/);
    assertEquals((await Deno.stat(join(root, "etc/rbee/api_key"))).mode! & 0o777, 0o600);
    await must(within("rbee-keeper", "--version"));

    // The unit's command line, as its user and without privileges, with what systemd would have made for it.
    for (const folder of ["/var/lib/rbee", "/var/cache/rbee"]) {
      await must(within("install", "-d", "-m", "700", "-o", "rbee", "-g", "rbee", folder));
    }
    await must(within("install", "-m", "400", "-o", "rbee", "/etc/rbee/api_key", "/var/lib/rbee/credential"));
    const [program, ...args] = within(
      ...[
        "setpriv",
        "--reuid=rbee",
        "--regid=rbee",
        "--init-groups",
        "--no-new-privs",
        "--bounding-set=-all",
      ],
      ...["env", ...UNIT_ENVIRONMENT, "RBEE_API_KEY_FILE=/var/lib/rbee/credential", "rbee-hive", "daemon"],
    );
    const startHive = () =>
      new Deno.Command(program, { args, stdin: "null", stdout: "null", stderr: "null" }).spawn();
    const hiveUrl = async (isNew: (pid: number) => boolean) =>
      await eventually("the hive to say where it is", async () => {
        try {
          const file = JSON.parse(await Deno.readTextFile(join(root, "var/lib/rbee/hive.json")));
          return isNew(file.pid) && { pid: file.pid as number, url: file.url as string };
        } catch {
          return undefined;
        }
      }, 30_000);
    let hive = startHive();
    try {
      const first = await hiveUrl(() => true);
      await writeLlamaGguf(join(root, "opt/slow.gguf"), SLOW);
      const client = new HiveClient({ baseUrl: first.url, apiKey: key });
      const worker = await client.spawn({ model_ref: "file:/opt/slow.gguf" });
      const caller = new WorkerClient({ baseUrl: worker.url, apiKey: worker.api_key });
      await eventually("the model to be loaded", async () => (await caller.ready()).ready, 60_000);
      const { events } = await caller.infer({ prompt: "x", max_tokens: SLOW_TOKENS, temperature: 0 });
      let tokens = 0;
      let upgrade: Promise<unknown> | undefined;
      let seen = "";
      for await (const event of events) {
        if ("token" in event) tokens++;
        else seen = JSON.stringify(event);
        upgrade ??= repacked(made, debian.root).then(() => must(within("dpkg", "-i", "/root/newer.deb")));
      }
      await upgrade;
      assertEquals(tokens, SLOW_TOKENS);
      assertStringIncludes(seen, "length");
      // As `systemctl reload` has it, which the package asks for where systemd runs.
      Deno.kill(first.pid, "SIGUSR1");
      assertEquals((await hive.status).code, 75);
      hive = startHive();
      const second = await hiveUrl((pid) => pid !== first.pid);
      const { workers } = await new HiveClient({ baseUrl: second.url, apiKey: key }).workers();
      assertEquals(workers.map(({ worker_id: id }) => id), [worker.worker_id]);
    } finally {
      try {
        hive.kill("SIGTERM");
      } catch {
        // It is gone already; why is what the test says.
      }
      await hive.status;
    }
    await must(within("dpkg", "-r", "rbee"));
    assert((await runCommand(within("rbee-keeper", "--version"))).code !== 0);
    await Deno.stat(join(root, "etc/rbee/api_key"));
    await must(within("dpkg", "-P", "rbee"));
    const { stdout: left } = await must(
      within("sh", "-c", "ls -d /etc/rbee /var/lib/rbee /usr/lib/rbee 2>/dev/null; true"),
    );
    assertEquals(left, "");
    assert((await runCommand(within("id", "rbee"))).code !== 0);
  },
});

/** The same package under a later version, in the other system's `/root`. */
async function repacked(made: string, root: string): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await must(["dpkg-deb", "-R", made, folder]);
    const control = join(folder, "DEBIAN/control");
    const text = await Deno.readTextFile(control);
    await Deno.writeTextFile(control, text.replace(/^Version: .*$/m, "$&+later"));
    await must(["dpkg-deb", "-Znone", "--build", folder, join(root, "root/newer.deb")]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

let unpacked: Promise<string> | undefined;

for (const [cpu, code] of OLDER) {
  Deno.test({
    name: `the archive runs on a processor like ${cpu}, with the code for it`,
    ignore: !canEmulate,
    async fn() {
      unpacked ??= bundle(ROOT, { ...PORTABLE, archive: false });
      const lib = join(await unpacked, "lib");
      const deno = ["qemu-x86_64", "-cpu", cpu, join(lib, "deno"), "run", "-q", "--no-prompt"];
      const worker = [...deno, "-P=worker", "--config", join(lib, "deno.json"), join(lib, "worker/main.js")];
      const { stdout } = await must([...worker, "--detect"]);
      assertStringIncludes(stdout, `code for ${code}`);
    },
  });
}
