/** The archive of this checkout, with its own engine: made in seconds, and for this machine alone. */
import { join } from "@std/path";
import { bundleName } from "../../home/installation.ts";
import { bundle, must } from "../../tools/bundle.ts";
import { SHARED_FOLDER } from "../../tools/run_tests.ts";
import { ROOT } from "./daemons.ts";

/** An archive in a folder of its own, gone with the test. */
export interface TestArchive extends AsyncDisposable {
  /** The unpacked archive. */
  readonly folder: string;
  /** The packed one; absent unless asked for. */
  readonly packed?: string;
}

/** A copy of the archive that the test run shares; a new archive with `fresh`, or outside a run. */
export async function testArchive(options: { packed?: boolean; fresh?: boolean } = {}): Promise<TestArchive> {
  const to = await Deno.makeTempDir({ prefix: "rbee-archive-" });
  const shared = options.fresh ? undefined : Deno.env.get(SHARED_FOLDER);
  if (shared === undefined) {
    await makeArchive(to, options.packed ?? false);
  } else {
    const name = join(await sharedArchive(shared), bundleName());
    await must(["cp", "-r", name, ...options.packed ? [`${name}.tar.gz`, `${name}.tar.gz.sha256`] : [], to]);
  }
  return {
    folder: join(to, bundleName()),
    packed: options.packed ? join(to, `${bundleName()}.tar.gz`) : undefined,
    [Symbol.asyncDispose]: () => Deno.remove(to, { recursive: true }),
  };
}

/** The folder of the archive that tests share, made by the first that asks. */
async function sharedArchive(shared: string): Promise<string> {
  const made = join(shared, "archive");
  using lock = await Deno.open(join(shared, "archive.lock"), { create: true, write: true });
  await lock.lock(true);
  if (!await Deno.stat(made).then(() => true, () => false)) {
    const aside = `${made}.new`;
    await makeArchive(aside, true);
    await Deno.rename(aside, made);
  }
  return made;
}

async function makeArchive(to: string, archive: boolean): Promise<string> {
  return await bundle(ROOT, { native: true, backends: ["cpu"], to, archive });
}

/** What a command of the archive left. */
export interface Said {
  code: number;
  stdout: string;
  stderr: string;
}

/** Folder of a `PATH` that has the core utilities, a shell and curl, and neither Deno nor Node nor a compiler. */
export async function corePath(at: string): Promise<string> {
  const folder = join(at, "core-bin");
  await Deno.mkdir(folder);
  const names =
    "sh base64 cat chmod cp curl cut dirname env gzip head id kill ln ls mkdir mktemp mv printf pwd readlink rm sed " +
    "sha256sum sleep tail tar test touch tr uname";
  for (const name of names.split(" ")) {
    for (const from of ["/usr/bin", "/bin"]) {
      if (!await Deno.stat(join(from, name)).then(() => true, () => false)) continue;
      await Deno.symlink(join(from, name), join(folder, name));
      break;
    }
  }
  return folder;
}

/** Runs a program with nothing of this machine's environment but what is given. */
export async function runBare(program: string, args: string[], env: Record<string, string>): Promise<Said> {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    ...{ args, env, clearEnv: true, stdin: "null" },
  }).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}
