/** The units: systemd finds nothing wrong with them. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import { parse as parseYaml } from "@std/yaml";
import { PROGRAM_NAMES } from "../home/installation.ts";
import { VERSION } from "../protocol/version.ts";
import { ROOT } from "./helpers/daemons.ts";

const hasSystemd = await new Deno.Command("systemd-analyze", {
  args: ["--version"],
  stdout: "null",
  stderr: "null",
})
  .output().then(({ success }) => success, () => false);

/** systemd before 254 does not know this key and leaves it out: what then is missing the hive does itself. */
const UNKNOWN_TO_OLD = /^.*Unknown key (name )?'DelegateSubgroup' in section .*\n/gm;

/** What `systemd-analyze verify` says of a unit whose program is there. */
async function complaints(unit: string, ...flags: string[]): Promise<string> {
  const folder = await Deno.makeTempDir();
  try {
    const text = await Deno.readTextFile(join(ROOT, "packaging", unit));
    const path = join(folder, "rbee-hive.service");
    // The program that a package puts there need not be on this machine.
    await Deno.writeTextFile(path, text.replace(/^ExecStart=\S+/m, `ExecStart=${Deno.execPath()}`));
    const { stdout, stderr } = await new Deno.Command("systemd-analyze", {
      args: ["verify", "--man=no", "--recursive-errors=no", ...flags, path],
      env: { XDG_RUNTIME_DIR: folder },
    }).output();
    const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    return said.replace(UNKNOWN_TO_OLD, "");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

for (const program of ["rbee-hive", "queen-rbee"]) {
  Deno.test({
    name: `systemd-analyze verify finds nothing wrong with the units of ${program}`,
    ignore: !hasSystemd,
    async fn() {
      assertEquals(await complaints(`${program}.service`), "");
      assertEquals(await complaints(`user/${program}.service`, "--user"), "");
    },
  });
}

Deno.test("the units of the hive give it control groups to make, and let it outlive a worker that runs out of memory", async () => {
  for (const unit of ["rbee-hive.service", "user/rbee-hive.service"]) {
    const text = await Deno.readTextFile(join(ROOT, "packaging", unit));
    for (const line of ["Delegate=memory", "DelegateSubgroup=hive", "OOMPolicy=continue"]) {
      assertStringIncludes(text, `\n${line}\n`, unit);
    }
    // Either would take the groups away again.
    assert(!/^(ProtectControlGroups|PrivateUsers)=(yes|strict|private)/m.test(text), unit);
  }
});

for (const program of Object.values(PROGRAM_NAMES)) {
  Deno.test(`the launcher starts the ${program} of its checkout, also through a link from elsewhere`, async () => {
    const folder = await Deno.makeTempDir();
    try {
      const link = join(folder, program);
      await Deno.symlink(join(ROOT, "packaging", program), link);
      const PATH = `${dirname(Deno.execPath())}:${Deno.env.get("PATH")}`;
      const { stdout } = await new Deno.Command(link, { args: ["--version"], cwd: folder, env: { PATH } })
        .output();
      assertStringIncludes(new TextDecoder().decode(stdout), VERSION);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

Deno.test("workflows use tasks that there are, and the Deno that the README names", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(join(ROOT, "deno.json")));
  const [, version] = /deno@(\S+) task/.exec(await Deno.readTextFile(join(ROOT, "README.md")))!;
  const folder = join(ROOT, ".github/workflows");
  for await (const { name } of Deno.readDir(folder)) {
    const text = await Deno.readTextFile(join(folder, name));
    parseYaml(text);
    for (const [, task] of text.matchAll(/deno task ([\w:-]+)/g)) assert(task in tasks, `${name}: ${task}`);
    for (const [, used] of text.matchAll(/deno-version: (\S+) /g)) assertEquals(used, version, name);
  }
});

Deno.test("the queen's launcher and its task give V8 the same bounds", async () => {
  const flagsIn = (text: string) => /--v8-flags=(\S+)/.exec(text)?.[1];
  const { tasks } = JSON.parse(await Deno.readTextFile(join(ROOT, "deno.json")));
  const launcher = await Deno.readTextFile(join(ROOT, "packaging", "queen-rbee"));
  assertEquals(flagsIn(launcher), flagsIn(tasks.queen.command));
});
