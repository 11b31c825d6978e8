/** Packs a folder so that the same files make the same bytes, whoever packs them and when. */
import { basename, dirname, join, relative } from "@std/path";
import { BuildError } from "./build_error.ts";
import { runCommand } from "./command.ts";

/** The time that every file gets, unless `SOURCE_DATE_EPOCH` says otherwise. */
const DEFAULT_TIME_UNIX = 1_767_225_600; // 2026-01-01

/**
 * Makes `FOLDER.tar.gz` and `FOLDER.tar.gz.sha256` beside the folder, whose files get one time and plain modes. Returns
 * the path of the first.
 *
 * @throws {BuildError} when tar fails.
 */
export async function archive(folder: string, options: { signal?: AbortSignal } = {}): Promise<string> {
  const { signal } = options;
  const parent = dirname(folder);
  const paths = settle(folder);
  const made = `${folder}.tar.gz`;
  const aside = `${made}.${Deno.pid}`;
  const names = `${aside}.names`;
  try {
    Deno.writeTextFileSync(names, paths.map((path) => `${relative(parent, path)}\n`).join(""));
    const flags = ["--no-recursion", "--format=ustar", ...await nobody()];
    // gzip itself: what the runtime's compression makes depends on how its input happened to be cut.
    const script = 'out=$1; shift; tar "$@" | gzip -n > "$out"';
    const argv = ["sh", "-c", script, "sh", aside, ...flags, "-C", parent, "-cf", "-", "-T", names];
    const { code, output } = await runCommand(argv, { signal });
    signal?.throwIfAborted();
    // A pipe has the exit code of its last program; tar says nothing unless it failed.
    if (code !== 0 || output !== "") throw new BuildError(`tar failed: ${output}`);
    const digest = await sha256(aside);
    Deno.renameSync(aside, made);
    Deno.writeTextFileSync(`${made}.sha256`, `${digest}  ${basename(made)}\n`);
    return made;
  } finally {
    for (const path of [aside, names]) await Deno.remove(path).catch(ignoreMissing);
  }
}

/** The time that all files get. */
export function packTimeUnix(): number {
  return Number(Deno.env.get("SOURCE_DATE_EPOCH") ?? DEFAULT_TIME_UNIX);
}

/** Gives a folder and all in it one time and plain modes, and returns the paths, each after its folder. Blocks. */
export function settle(folder: string): string[] {
  const paths = [folder, ...entries(folder)];
  const timeUnix = packTimeUnix();
  // From the end, because writing into a folder changes its time.
  for (const path of paths.toReversed()) {
    const { isDirectory, isSymlink, mode } = Deno.lstatSync(path);
    if (isSymlink) continue;
    Deno.chmodSync(path, isDirectory || (mode ?? 0) & 0o100 ? 0o755 : 0o644);
    Deno.utimeSync(path, timeUnix, timeUnix);
  }
  return paths;
}

/** All paths in a folder, each after the folder that it is in. */
function entries(folder: string): string[] {
  const sorted = [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1);
  return sorted.flatMap(({ name, isDirectory }) => {
    const path = join(folder, name);
    return isDirectory ? [path, ...entries(path)] : [path];
  });
}

/** GNU's tar and BSD's have different words for an owner. */
async function nobody(): Promise<string[]> {
  const { stdout } = await runCommand(["tar", "--version"]);
  return stdout.includes("GNU")
    ? ["--owner=0", "--group=0", "--numeric-owner"]
    : ["--uid", "0", "--gid", "0", "--numeric-owner"];
}

async function sha256(path: string): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", await Deno.readFile(path))).toHex();
}

/** For what is removed and need not be there. */
export function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
