/** The archive of this checkout, with its own engine: made in seconds, and for this machine alone. */
import { join } from "@std/path";
import { bundleName } from "../../home/installation.ts";
import { bundle } from "../../tools/bundle.ts";
import { ROOT } from "./daemons.ts";
import type { LlamaShape } from "./gguf_writer.ts";

/** Generates for seconds, and never ends by itself: what is replaced under an answer that runs. */
export const SLOW: LlamaShape = {
  ...{ layers: 2, embd: 1024, heads: 16, kvHeads: 4, ff: 4096, vocab: 32_000, ctx: 8192, type: "Q8_0" },
  chain: true,
};
/** So many tokens of it take longer than an upgrade. */
export const SLOW_TOKENS = 2000;

/** An archive in a folder of its own, gone with the test. */
export interface TestArchive extends AsyncDisposable {
  /** The unpacked archive. */
  readonly folder: string;
  /** The packed one; absent unless asked for. */
  readonly packed?: string;
}

/** Makes one. */
export async function testArchive(options: { packed?: boolean } = {}): Promise<TestArchive> {
  const to = await Deno.makeTempDir({ prefix: "rbee-archive-" });
  const made = await bundle(ROOT, { native: true, backends: ["cpu"], to, archive: options.packed ?? false });
  return {
    folder: join(to, bundleName()),
    packed: options.packed ? made : undefined,
    [Symbol.asyncDispose]: () => Deno.remove(to, { recursive: true }),
  };
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
