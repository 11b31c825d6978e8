/** The archive: all that a machine needs, the same bytes each time, installed, upgraded and removed without root. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import { PROGRAM_NAMES } from "../home/installation.ts";
import { VERSION } from "../protocol/version.ts";
import { corePath, runBare, type Said, testArchive } from "./helpers/archive.ts";
import { eventually } from "./helpers/eventually.ts";
import { writeLlamaGguf } from "./helpers/gguf_writer.ts";
import { SLOW, SLOW_TOKENS } from "./helpers/slow_model.ts";

/** Those of all workers. */
function pidsOf({ workers }: { workers: { pid: number }[] }): number[] {
  return workers.map(({ pid }) => pid);
}

/** A person on a machine with the core utilities alone. */
async function person() {
  const at = await Deno.makeTempDir({ prefix: "rbee-person-" });
  const env = {
    PATH: await corePath(at),
    HOME: at,
    RBEE_HIVE_LISTEN: "127.0.0.1:0",
    RBEE_HIVE_WORKER_PORTS: "0-0",
  };
  return {
    at,
    types: (program: string, ...args: string[]) => runBare(program, args, env),
    starts: (program: string, ...args: string[]) =>
      new Deno.Command(program, {
        ...{ args, env, clearEnv: true, stdin: "null", stdout: "piped", stderr: "piped" },
      }).spawn(),
    [Symbol.asyncDispose]: () => Deno.remove(at, { recursive: true }),
  };
}

function worked(said: Said): Said {
  assertEquals(said.code, 0, said.stderr);
  return said;
}

async function isThere(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}

Deno.test("two archives of the same sources are the same, byte for byte, and their checksums are true", async () => {
  await using one = await testArchive({ packed: true });
  await using two = await testArchive({ packed: true, fresh: true });
  const digests = await Promise.all([one, two].map(async ({ packed }) => {
    const bytes = await Deno.readFile(packed!);
    return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  }));
  assertEquals(digests[0], digests[1]);
  const told = await Deno.readTextFile(`${one.packed}.sha256`);
  assertEquals(told.split("  ")[0], digests[0]);
});

Deno.test("an unpacked archive answers where there is no Deno, no Node and no compiler", async () => {
  await using archive = await testArchive({ packed: true });
  await using someone = await person();
  worked(await someone.types("tar", "-xzf", archive.packed!, "-C", someone.at));
  const folder = join(someone.at, archive.folder.slice(dirname(archive.folder).length + 1));
  for (const name of ["deno", "node", "cc"]) assert(!await isThere(join(someone.at, "core-bin", name)));
  const keeper = join(folder, "rbee-keeper");
  const answer = await someone.types(
    keeper,
    "infer",
    "--prompt",
    "write a short story",
    "--max-tokens",
    "20",
  );
  try {
    assert(worked(answer).stdout.length > 20, answer.stdout);
  } finally {
    await someone.types(keeper, "daemon", "stop");
  }
  for (const [program, name] of Object.entries(PROGRAM_NAMES)) {
    const link = join(someone.at, `link-${name}`);
    await Deno.symlink(join(folder, name), link);
    assertStringIncludes(worked(await someone.types(link, "--version")).stdout, VERSION, program);
  }
  const notices = await Deno.readTextFile(join(folder, "THIRD_PARTY_NOTICES"));
  for (const name of ["llama.cpp", "zod 4", "prom-client", "Deno 2"]) assertStringIncludes(notices, name);
  const unit = await Deno.readTextFile(join(folder, "share/systemd/user/queen-rbee.service"));
  assertStringIncludes(unit, "queen-rbee");
  assertStringIncludes(await Deno.readTextFile(join(folder, "share/man/man1/rbee-keeper.1")), ".TH");
});

Deno.test("rbee is installed, upgraded under a running answer, kept from a broken version, and removed", async () => {
  await using archive = await testArchive();
  await using someone = await person();
  const install = (...args: string[]) => someone.types(join(archive.folder, "install.sh"), ...args);
  const said = worked(await install());
  assertStringIncludes(said.stderr, "is not in your PATH");
  const bin = join(someone.at, ".local/bin");
  const to = join(someone.at, ".local/share/rbee");
  for (const name of Object.values(PROGRAM_NAMES)) {
    assertEquals(await Deno.readLink(join(bin, name)), join(to, name));
  }
  assert(await isThere(join(someone.at, ".local/share/man/man1/rbee-keeper.1")));
  const keeper = join(bin, "rbee-keeper");
  const status = async () => JSON.parse((await someone.types(keeper, "daemon", "status", "--json")).stdout);
  try {
    // An answer that is under way while everything below it is replaced.
    const model = join(someone.at, "slow.gguf");
    await writeLlamaGguf(model, SLOW);
    const request = [
      "--model",
      `file:${model}`,
      "--prompt",
      "x",
      "--raw",
      "--max-tokens",
      String(SLOW_TOKENS),
    ];
    const long = someone.starts(keeper, "infer", ...request, "--json").output();
    const serving = async () =>
      (await status()).workers?.find(({ model_ref: ref }: { model_ref: string }) => ref === `file:${model}`);
    const isBusy = async () => {
      const worker = await serving();
      return worker !== undefined && worker.slots_available < worker.slots_total;
    };
    await eventually("the answer to run", isBusy, 60_000);
    const before = await status();
    await Deno.writeTextFile(join(to, "of-the-old-one"), "");
    worked(await install("--quiet"));
    assert(await isBusy(), "the answer was over before the upgrade: nothing was shown");
    const after = await status();
    assert(after.pid !== before.pid, "the hive is still the old one");
    assertEquals(pidsOf(after), pidsOf(before));
    const events = new TextDecoder().decode((await long).stdout).trim().split("\n").map((line) =>
      JSON.parse(line)
    );
    assertEquals(events.filter(({ token }) => token !== undefined).length, SLOW_TOKENS);
    assertEquals(events.at(-1).stop_reason, "length");
    assert(!await isThere(join(to, "of-the-old-one")));
    // A version that passes its test and then does not start.
    const hive = join(archive.folder, "lib/hive/main.js");
    const whole = await Deno.readTextFile(hive);
    await Deno.writeTextFile(hive, `if (!Deno.env.has("RBEE_HOME")) Deno.exit(1);\n${whole}`);
    const late = await install();
    assertEquals(late.code, 1);
    assertStringIncludes(late.stderr, "the old one is in place");
    const back = await status();
    assertEquals([back.running, pidsOf(back)], [true, pidsOf(after)]);
    await Deno.writeTextFile(hive, whole);
    // A version that cannot load its engine.
    await Deno.writeTextFile(join(archive.folder, "lib/worker/native/build/rbee_engine.node"), "no library");
    const broken = await install();
    assertEquals(broken.code, 1);
    assertStringIncludes(broken.stderr, "nothing was changed");
    assertEquals((await status()).pid, back.pid);
    assert(!await isThere(`${to}.new`));
  } finally {
    worked(await someone.types(join(to, "install.sh"), "--uninstall"));
  }
  for (const path of [to, keeper, join(someone.at, ".local/share/man/man1/rbee-keeper.1")]) {
    assert(!await isThere(path), path);
  }
  assert(await isThere(join(someone.at, ".rbee")), "keys and settings stay");
});

Deno.test("install.sh changes nothing where it is not understood, or where somebody else's program is", async () => {
  await using archive = await testArchive();
  await using someone = await person();
  const install = (...args: string[]) => someone.types(join(archive.folder, "install.sh"), ...args);
  for (const wrong of [["--too"], ["--to"], ["--to", "here"], ["--bin", "x"]]) {
    const said = await install(...wrong);
    assertEquals(said.code, 2);
    assertMatch(said.stderr, /^Error: .*\n\nUsage: /);
  }
  const help = worked(await install("--help"));
  assertStringIncludes(help.stdout, "--uninstall");
  assertStringIncludes((await install("--uninstall")).stderr, "does not hold rbee");
  const theirs = join(someone.at, ".local/bin/rbee-keeper");
  await Deno.mkdir(dirname(theirs), { recursive: true });
  await Deno.writeTextFile(theirs, "theirs");
  const refused = await install();
  assertEquals(refused.code, 1);
  assertStringIncludes(refused.stderr, "does not belong to rbee");
  assertEquals(await Deno.readTextFile(theirs), "theirs");
  assert(!await isThere(join(someone.at, ".local/share/rbee")));
});

/** Stands in for a person's systemd: runs the hive, and starts another when one makes way (exit code 75). */
const SYSTEMCTL = `#!/bin/sh
shift
case $1 in
  show-environment | daemon-reload | try-restart) ;;
  is-active) kill -0 "$(cat "$HOME/manager.pid")" 2>/dev/null ;;
  enable | start)
    (while :; do
      "$HOME/.local/bin/rbee-hive" daemon >>"$HOME/manager.log" 2>&1 & echo $! >"$HOME/hive.pid"
      wait $! && break
      test $? = 75 || break
    done) >/dev/null 2>&1 & echo $! >"$HOME/manager.pid" ;;
  reload-or-restart) kill -USR1 "$(cat "$HOME/hive.pid")" ;;
  disable) kill "$(cat "$HOME/hive.pid")" ;;
  *) exit 1 ;;
esac
`;

Deno.test("where systemd runs a person's programs the hive becomes its service, upgraded and removed as one", async () => {
  await using archive = await testArchive();
  await using someone = await person();
  await Deno.writeTextFile(join(someone.at, "core-bin/systemctl"), SYSTEMCTL, { mode: 0o755 });
  const install = (...args: string[]) => someone.types(join(archive.folder, "install.sh"), ...args);
  const pidInFile = async () => Number(await Deno.readTextFile(join(someone.at, "hive.pid")).catch(() => ""));
  const status = async () =>
    JSON.parse(
      (await someone.types(join(someone.at, ".local/bin/rbee-keeper"), "daemon", "status", "--json")).stdout,
    );
  assertStringIncludes(worked(await install()).stderr, "loginctl enable-linger");
  try {
    const unit = await Deno.readTextFile(join(someone.at, ".config/systemd/user/rbee-hive.service"));
    assertStringIncludes(unit, `ExecStart=${someone.at}/.local/bin/rbee-hive daemon`);
    await eventually("the service to answer", async () => (await status()).running === true, 30_000);
    const before = await status();
    assertEquals(before.pid, await pidInFile());
    worked(await install());
    const after = await status();
    assertEquals([after.running, after.pid === before.pid], [true, false]);
    assertEquals(after.pid, await pidInFile(), "started by somebody else than the manager");
  } finally {
    worked(await install("--uninstall"));
  }
  assert(!await isThere(join(someone.at, ".config/systemd/user/rbee-hive.service")));
});
