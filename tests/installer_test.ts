/** install.sh: what it takes over, what it refuses, and what there is when it is killed. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { spawn } from "node:child_process";
import { dirname, join } from "@std/path";
import { contentOf, fakeArchive } from "./helpers/fake_archive.ts";

const works = (program: string, ...args: string[]) =>
  new Deno.Command(program, { args, stdin: "null", stdout: "null", stderr: "null" }).output()
    .then(({ success }) => success, () => false);
/** Those of this machine. */
const SHELLS = (await Promise.all(
  [["dash"], ["bash", "--posix"], ["busybox", "sh"]].map(async ([program, ...args]) =>
    await works(program, ...args, "-c", ":") ? [[program, ...args] as [string, ...string[]]] : []
  ),
)).flat();
/** Somebody for whom permissions count. */
const AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
const canBeNobody = await works(AS_NOBODY[0], ...AS_NOBODY.slice(1), "true");

/** A person with an archive of version 2, and version 1 where it is wanted. */
async function person() {
  const root = await Deno.makeTempDir({ prefix: "rbee-installer-" });
  const home = join(root, "home");
  await Deno.mkdir(join(home, "Documents"), { recursive: true });
  await Deno.writeTextFile(join(home, "Documents/thesis"), "years of work");
  const [one, two] = [await fakeArchive(join(root, "one"), "1"), await fakeArchive(join(root, "two"), "2")];
  const env = { HOME: home, PATH: "/usr/bin:/bin", LC_ALL: "C" };
  return {
    ...{ root, home, one, two, env, to: join(home, ".local/share/rbee") },
    install: (
      args: readonly string[] = [],
      how: { shell?: readonly string[]; archive?: string; env?: Record<string, string> } = {},
    ) =>
      run([...how.shell ?? ["sh"], join(how.archive ?? two, "install.sh"), ...args], { ...env, ...how.env }),
    [Symbol.asyncDispose]: () => Deno.remove(root, { recursive: true }),
  };
}

type Person = Awaited<ReturnType<typeof person>>;

async function run([program, ...args]: string[], env: Record<string, string>) {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args,
    env,
    clearEnv: true,
    stdin: "null",
  }).output();
  return { code, stdout: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr) };
}

/** What the installed keeper says; empty without one. */
async function versionIn(to: string, { env }: Person): Promise<string> {
  return (await run(["sh", "-c", '"$0/rbee-keeper" --version', to], env)).stdout.trim();
}

async function namesIn(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
}

const put = async (path: string, text: string) => {
  await Deno.mkdir(dirname(path), { recursive: true });
  await Deno.writeTextFile(path, text);
};

for (const shell of SHELLS) {
  Deno.test(`${shell.join(" ")}: no folder of somebody else's is touched, whatever it is called or looks like`, async () => {
    await using me = await person();
    const { home, root } = me;
    const documents = join(home, "Documents");
    // As a run that was cut short leaves them, and as anybody may call a folder.
    for (const name of ["Documents.old", "Documents.new", ".rbee-install.abcdef"]) {
      await put(join(home, name, "mine"), name);
    }
    await Deno.symlink("Documents", join(home, "link"));
    await Deno.symlink("nowhere", join(home, "dangling"));
    await put(join(home, "file"), "no folder");
    for (
      const [name, stray] of [["a", "thesis"], ["b", "lib/thesis"], ["c", "share/thesis"], ["d", ".hidden"]]
    ) {
      await fakeArchive(join(home, name), "1");
      await put(join(home, name, stray), "mine");
    }
    // Somebody's program of the same name, and a folder that only claims to be an installation.
    for (const name of ["rbee-keeper", "rbee-hive", "install.sh", "lib/keeper/main.js"]) {
      await put(join(home, "namesake", name), "#!/bin/sh\n");
    }
    await put(
      join(home, "claims/.rbee-installation"),
      `# Put here by the install.sh of rbee, with all that is listed below, as /elsewhere\n../Documents/thesis\n`,
    );
    await fakeArchive(join(home, "linked-target"), "1");
    await Deno.symlink("linked-target", join(home, "linked"));
    await Deno.mkdir(join(home, "empty-home"));
    const before = await contentOf(root);
    const refused: [string, number][] = [
      ...["Documents", "Documents/", "Documents//", "link", "link/", "dangling", "file", "a", "b", "c", "d"],
      ...["namesake", "claims", "linked", "", ".local/bin", ".local/bin/rbee-keeper"],
    ].map((name) => [join(home, "x").slice(0, -1) + name, 1]);
    refused.push(["/", 1], ["//", 1], [root, 1], [dirname(root), 1], [me.two, 1], [join(me.two, "lib/x"), 1]);
    refused.push(["Documents", 2], [".", 2], ["..", 2], ["", 2], ["-rf", 2], [`${documents}/../x`, 2], [
      `${home}/.`,
      2,
    ]);
    refused.push([`${home}/a\nb`, 2], [`${home}/x\n`, 2]);
    for (const [to, code] of refused) {
      for (const flags of [[], ["--uninstall"]]) {
        // An archive that was only unpacked is nothing but rbee's.
        if (to === me.two && flags.length > 0) continue;
        const said = await me.install(["--to", to, ...flags], { shell });
        assertEquals(said.code, code, `${to} ${flags}: ${said.stderr}`);
        assertStringIncludes(said.stderr, "Error: ", to);
        assertEquals(await contentOf(root), before, `${to} ${flags}`);
      }
    }
    // An empty folder that is more than that.
    const env = { HOME: join(home, "empty-home") };
    assertEquals((await me.install(["--to", env.HOME], { shell, env })).code, 1);
    assertEquals((await me.install(["--to", join(env.HOME, ".config/systemd")], { shell, env })).code, 1);
    assertEquals(await contentOf(root), before);
  });

  Deno.test(`${shell.join(" ")}: a new, an empty or an old folder of rbee's is taken, and removed again`, async () => {
    await using me = await person();
    const { home } = me;
    await Deno.mkdir(join(home, "empty"));
    await fakeArchive(join(home, "before-lists"), "1");
    const documents = await contentOf(join(home, "Documents"));
    for (const name of ["new/deep", "empty", "before-lists", "slashes", `odd 'a" $b #&\\ é `, "-rf"]) {
      const to = join(home, name);
      const said = await me.install(["--quiet", "--to", name === "slashes" ? `${to}///` : to], { shell });
      assertEquals([said.code, said.stderr], [0, ""], name);
      assertEquals(await versionIn(to, me), "2");
      assertEquals(await Deno.readLink(join(home, ".local/bin/rbee-keeper")), join(to, "rbee-keeper"));
      const again = await me.install(["--quiet", "--to", to], { shell, archive: me.one });
      assertEquals([again.code, again.stderr], [0, ""], name);
      assertEquals(await versionIn(to, me), "1");
      const removed = await run(
        [...shell, join(to, "install.sh"), "--uninstall", "--quiet", "--to", to],
        me.env,
      );
      assertEquals([removed.code, removed.stderr], [0, ""], name);
      assertEquals(await namesIn(join(home, ".local/bin")), []);
      assert(!(await namesIn(dirname(to))).includes(to.split("/").at(-1)!), name);
    }
    // Nothing is left beside them.
    assertEquals((await namesIn(home)).filter((name) => name.includes("rbee")), []);
    assertEquals(await contentOf(join(home, "Documents")), documents);
  });
}

Deno.test("files that somebody added to an installation outlive its upgrade and its removal", async () => {
  await using me = await person();
  assertEquals((await me.install([], { archive: me.one })).code, 0);
  await put(join(me.to, "lib/models/mine.gguf"), "mine");
  const said = await me.install();
  assertEquals([said.code, await versionIn(me.to, me)], [0, "2"]);
  const [, kept] = /They are in (.*) now\./.exec(said.stderr)!;
  assertEquals(await Deno.readTextFile(join(kept, "old/lib/models/mine.gguf")), "mine");
  assertEquals((await namesIn(join(kept, "old/lib"))).length > 0, true);
  await put(join(me.to, "notes"), "mine too");
  assertStringIncludes((await me.install(["--uninstall"])).stderr, "stay there");
  assertEquals(await Deno.readTextFile(join(me.to, "notes")), "mine too");
  assertEquals(await versionIn(me.to, me), "");
  assertEquals((await me.install()).code, 1, "the folder is theirs now");
  assertEquals(await Deno.readTextFile(join(me.to, "notes")), "mine too");
});

Deno.test("a unit that somebody wrote stays as it is", async () => {
  await using me = await person();
  const unit = join(me.home, ".config/systemd/user/rbee-hive.service");
  await put(unit, "[Service]\nExecStart=/mine\n");
  await put(join(me.root, "bin/systemctl"), "#!/bin/sh\ntest $2 != is-active\n");
  await Deno.chmod(join(me.root, "bin/systemctl"), 0o755);
  for (const name of ["rbee-hive", "queen-rbee"]) {
    await put(join(me.two, `share/systemd/user/${name}.service`), "# The hive of one person, as a service\n");
  }
  const env = { PATH: `${join(me.root, "bin")}:/usr/bin:/bin` };
  assertStringIncludes((await me.install([], { env })).stderr, `${unit} is not rbee's`);
  assertEquals((await namesIn(dirname(unit))).length, 2);
  assertEquals((await me.install(["--uninstall"], { env })).code, 0);
  assertEquals(await namesIn(dirname(unit)), ["rbee-hive.service"]);
  assertEquals(await Deno.readTextFile(unit), "[Service]\nExecStart=/mine\n");
});

Deno.test("of two installers at once the second leaves, and a lock of one that was killed is not in the way", async () => {
  await using me = await person();
  for (const name of ["wait", "tested"]) await run(["mkfifo", join(me.home, name)], me.env);
  const first = me.install();
  await Deno.readTextFile(join(me.home, "tested"));
  const second = await me.install();
  assertEquals(second.code, 1);
  assertStringIncludes(second.stderr, "Another installer (process ");
  await Deno.writeTextFile(join(me.home, "wait"), "go on\n");
  assertEquals((await first).code, 0);
  await Deno.remove(join(me.home, "wait"));
  const gone = await new Deno.Command("true").spawn();
  await gone.status;
  await Deno.symlink(String(gone.pid), join(dirname(me.to), ".rbee.rbee-lock"));
  assertEquals((await me.install([], { archive: me.one })).code, 0);
  assertEquals(await versionIn(me.to, me), "1");
  assertEquals(await namesIn(dirname(me.to)), ["bash-completion", "fish", "man", "rbee", "zsh"]);
});

Deno.test({
  name: "where nothing may be written or read nothing is changed",
  ignore: !canBeNobody,
  async fn() {
    await using me = await person();
    await Deno.chmod(me.root, 0o755);
    await Deno.mkdir(join(me.root, "closed/secret"), { recursive: true });
    await put(join(me.root, "closed/secret/file"), "x");
    await Deno.chmod(join(me.root, "closed/secret"), 0o700);
    await Deno.chmod(join(me.root, "closed"), 0o755);
    await Deno.mkdir(join(me.root, "nobody"));
    await Deno.chown(join(me.root, "nobody"), 65534, 65534);
    const before = await contentOf(me.root);
    for (const name of ["new", "secret", "secret/new"]) {
      const said = await me.install(["--to", join(me.root, "closed", name)], {
        shell: [...AS_NOBODY, "sh"],
        env: { HOME: join(me.root, "nobody") },
      });
      assertEquals(said.code > 0, true, said.stderr);
      assertEquals(await contentOf(me.root), before, name);
    }
  },
});

/** Programs that change something: the run is killed, with all that it has started, before the Nth of them. */
const STEPS = ["cp", "ln", "mkdir", "mktemp", "mv", "rm", "deno"];

async function withSteps(me: Person, canExchange: boolean): Promise<void> {
  const bin = join(me.root, "bin");
  for (const name of STEPS) {
    const real = name === "deno" ? Deno.execPath() : `/usr/bin/${name}`;
    const unable = name === "deno" && !canExchange ? "exit 1" : "";
    await put(
      join(bin, name),
      `#!/bin/sh
if test "$KILLED_AT"; then
  read -r step <"$STEPS_FILE"
  step=$((step + 1))
  echo $step >"$STEPS_FILE"
  test $step != "$KILLED_AT" || kill -9 0
fi
${unable}
exec ${real} "$@"
`,
    );
    await Deno.chmod(join(bin, name), 0o755);
  }
  for (const archive of [me.one, me.two]) {
    await Deno.remove(join(archive, "lib/deno"));
    await Deno.symlink(join(bin, "deno"), join(archive, "lib/deno"));
  }
}

/** Runs the installer in a process group of its own. */
async function killedAt(step: number, me: Person, ...args: string[]): Promise<number | null> {
  const counter = join(me.root, "steps");
  await Deno.writeTextFile(counter, "0\n");
  const env = {
    ...me.env,
    PATH: `${join(me.root, "bin")}:${me.env.PATH}`,
    STEPS_FILE: counter,
    KILLED_AT: String(step),
  };
  const child = spawn("sh", [join(me.two, "install.sh"), "--quiet", ...args], {
    detached: true,
    stdio: "ignore",
    env,
  });
  return await new Promise((resolve) => child.once("exit", resolve));
}

for (const canExchange of [true, false]) {
  const where = canExchange ? "" : ", where folders can't be exchanged";
  Deno.test(`killed at every step the old version works or the new one does, and the next run succeeds${where}`, async () => {
    await using me = await person();
    await withSteps(me, canExchange);
    assertEquals((await me.install([], { archive: me.one })).code, 0);
    const beside = await namesIn(dirname(me.to));
    for (let step = 1;; step++) {
      const code = await killedAt(step, me);
      const version = await versionIn(me.to, me);
      const missing = !canExchange && version === "";
      assert(missing || version === "1" || version === "2", `step ${step}: ${version}`);
      if (code === 0) {
        assert(step > 20, "it was not killed");
        break;
      }
      const said = await me.install(["--quiet"], { archive: me.one });
      assertEquals([said.code, said.stderr], [0, ""], `after step ${step}`);
      assertEquals(await versionIn(me.to, me), "1");
      assertEquals(await namesIn(dirname(me.to)), beside, `after step ${step}`);
    }
  });
}

Deno.test("an uninstall that is killed at any step is finished by the next one", async () => {
  await using me = await person();
  await withSteps(me, true);
  for (let step = 1;; step++) {
    assertEquals((await me.install(["--quiet"])).code, 0);
    if (await killedAt(step, me, "--uninstall") === 0) break;
    const isThere = await Deno.stat(me.to).then(() => true, () => false);
    const said = await me.install(["--quiet", "--uninstall"]);
    assertEquals(said.code, isThere ? 0 : 1, `after step ${step}: ${said.stderr}`);
    assertEquals(await Deno.stat(me.to).then(() => true, () => false), false);
  }
  assertEquals((await namesIn(dirname(me.to))).includes("rbee"), false);
});
