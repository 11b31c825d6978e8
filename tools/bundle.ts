/**
 * `deno task bundle`: everything that a machine needs to run rbee, in one folder and one archive below `dist/`, with the
 * archive's checksum. The same sources make the same bytes. Neither Deno nor npm nor a compiler has to be there where
 * it is unpacked.
 */
import { parseArgs } from "node:util";
import { dirname, join, resolve } from "@std/path";
import { bundleName, MODULES, PROGRAM_NAMES } from "../home/installation.ts";
import { VERSION } from "../protocol/version.ts";
import { archive, ignoreMissing } from "./archive.ts";
import { BACKENDS } from "./build_command.ts";
import { BuildError } from "./build_error.ts";
import { type Backend, buildPaths, lastChoice } from "./build_stamp.ts";
import { type CommandOptions, type CommandResult, runCommand } from "./command.ts";
import { ADDON_TARGET, buildTarget } from "./compile.ts";
import { helpPage } from "./help_page.ts";
import { projectRoot } from "./project_files.ts";
import { taskMain } from "./task_main.ts";
import { thirdPartyNotices } from "./third_party.ts";

const USAGE = `Usage: deno task bundle [options]

  --backend NAME   Beside the CPU, also cuda, metal or vulkan; once for each. Default on macOS: metal
  --cuda-arch LIST CUDA architectures, as 90 or "80;90"
  --native         With the engine of this checkout, which suits this machine alone; made in seconds
  --to DIR         Where to. Default: dist
  --no-archive     Only the folder`;

/** Settings of `deno.json` that count when a program runs. */
const SETTINGS_AT_RUN_TIME = ["version", "unstable", "nodeModulesDir", "permissions"];
/** Files of a checkout that go along as they are, and where to. */
const COPIED: [from: string, to: string][] = [
  ["LICENSE", "LICENSE"],
  ["packaging/install.sh", "install.sh"],
  ["packaging/self-test", "lib/self-test"],
  ["packaging/exchange.js", "lib/exchange.js"],
  ["packaging/rbee-hive.service", "share/systemd/system/rbee-hive.service"],
  ["packaging/queen-rbee.service", "share/systemd/system/queen-rbee.service"],
  ["packaging/user/rbee-hive.service", "share/systemd/user/rbee-hive.service"],
  ["packaging/user/queen-rbee.service", "share/systemd/user/queen-rbee.service"],
];
/** What the keeper says about itself, and where shells and `man` look for it. */
const GENERATED: [args: string[], to: string][] = [
  [["man"], "share/man/man1/rbee-keeper.1"],
  [["completions", "bash"], "share/bash-completion/completions/rbee-keeper"],
  [["completions", "zsh"], "share/zsh/site-functions/_rbee-keeper"],
  [["completions", "fish"], "share/fish/vendor_completions.d/rbee-keeper.fish"],
];

/** What goes into a bundle. */
export interface BundleRequest {
  /** The CPU among them. */
  backends: readonly Backend[];
  cudaArch?: string;
  /** The engine of this checkout instead of one for all machines. */
  native: boolean;
  /** The folder that it is made in. */
  to: string;
  /** Whether the folder is packed. */
  archive: boolean;
}

/**
 * Makes the folder and the archive; returns the path of the last.
 *
 * @throws {BuildError} when a step fails.
 */
export async function bundle(
  root: string,
  request: BundleRequest,
  options: { signal?: AbortSignal } = {},
): Promise<string> {
  const { signal } = options;
  const addon = await builtEngine(root, request, signal);
  const folder = join(request.to, bundleName());
  const aside = `${folder}.${Deno.pid}`;
  try {
    await bundlePrograms(root, join(aside, "lib"), signal);
    await copyParts(root, { lib: join(aside, "lib"), addonFolder: dirname(addon) });
    await writeLaunchers(root, aside);
    for (const [from, to] of COPIED) await copyFile(join(root, from), join(aside, to));
    await Deno.writeTextFile(join(aside, "THIRD_PARTY_NOTICES"), await thirdPartyNotices(root));
    await writeGenerated(aside, signal);
    await Deno.remove(folder, { recursive: true }).catch(ignoreMissing);
    await Deno.rename(aside, folder);
  } finally {
    await Deno.remove(aside, { recursive: true }).catch(ignoreMissing);
  }
  return request.archive ? await archive(folder, { signal }) : folder;
}

/** Path of the addon; what it needs lies beside it. */
async function builtEngine(root: string, request: BundleRequest, signal?: AbortSignal): Promise<string> {
  const { native, backends, cudaArch } = request;
  const paths = buildPaths(root);
  const engine = native
    ? { ...lastChoice(paths), ifNeeded: true }
    : { backend: "cpu" as const, portable: backends, cudaArch, ifNeeded: false };
  return await buildTarget(paths, { target: ADDON_TARGET, ...engine }, { signal });
}

/** Each program becomes one file with only what it uses of its dependencies: it starts sooner, and needs no cache. */
async function bundlePrograms(root: string, lib: string, signal?: AbortSignal): Promise<void> {
  const modules = MODULES.map((name) => `${name}.ts`);
  // Not --keep-names: what it makes of a package that requires Node's modules does not run.
  const flags = ["--platform", "deno", "--minify", "--outdir", lib];
  await must([Deno.execPath(), "bundle", "-q", ...flags, ...modules], { cwd: root, signal });
}

async function copyParts(root: string, { lib, addonFolder }: { lib: string; addonFolder: string }) {
  const project = JSON.parse(await Deno.readTextFile(join(root, "deno.json")));
  const settings = Object.fromEntries(SETTINGS_AT_RUN_TIME.map((name) => [name, project[name]]));
  await Deno.writeTextFile(join(lib, "deno.json"), `${JSON.stringify(settings, undefined, 2)}\n`);
  await copyFile(Deno.execPath(), join(lib, "deno"));
  await copyFolder(join(root, "models"), join(lib, "models"), /\.(gguf|md)$/);
  await copyFolder(addonFolder, join(lib, "worker/native/build"), /\.(node|so|dylib|metal)$/);
}

/** Those of the checkout, led to where an archive has Deno and the programs. */
async function writeLaunchers(root: string, folder: string): Promise<void> {
  for (const name of Object.values(PROGRAM_NAMES)) {
    const text = await Deno.readTextFile(join(root, "packaging", name));
    const led = replaceEach(text, [
      ["of the checkout that", "of the archive that"],
      ['root=$(dirname "$(dirname "$(readlink -f "$0")")")', 'root=$(dirname "$(readlink -f "$0")")/lib'],
      ["exec deno run", 'exec "$root/deno" run'],
      ['/main.ts" "$@"', '/main.js" "$@"'],
    ]);
    await Deno.writeTextFile(join(folder, name), led, { mode: 0o755 });
  }
}

function replaceEach(text: string, pairs: [from: string, to: string][]): string {
  return pairs.reduce((changed, [from, to]) => {
    if (changed.split(from).length !== 2) throw new BuildError(`A launcher has not once "${from}":\n${text}`);
    return changed.replace(from, () => to);
  }, text);
}

/** Made by the bundled keeper itself: a bundle that can't run is never finished. */
async function writeGenerated(folder: string, signal?: AbortSignal): Promise<void> {
  for (const [args, to] of GENERATED) {
    const { stdout } = await must([join(folder, PROGRAM_NAMES.keeper), ...args], { signal });
    await Deno.mkdir(join(folder, dirname(to)), { recursive: true });
    await Deno.writeTextFile(join(folder, to), `${stdout}\n`);
  }
  for (const name of [PROGRAM_NAMES.hive, PROGRAM_NAMES.queen, PROGRAM_NAMES.worker]) {
    const { stdout } = await must([join(folder, name), "--help"], { signal });
    await Deno.writeTextFile(join(folder, `share/man/man1/${name}.1`), helpPage(stdout, VERSION));
  }
  await must([join(folder, PROGRAM_NAMES.hive), "detect", "--json"], { signal });
}

/**
 * Runs a program that has to succeed.
 *
 * @throws {BuildError} with all that it said.
 */
export async function must(argv: string[], options: CommandOptions = {}): Promise<CommandResult> {
  const result = await runCommand(argv, options);
  options.signal?.throwIfAborted();
  if (result.code !== 0) throw new BuildError(`${argv.join(" ")} failed:\n${result.output}`);
  return result;
}

async function copyFolder(from: string, to: string, which: RegExp): Promise<void> {
  for await (const { name, isFile } of Deno.readDir(from)) {
    if (!isFile || !which.test(name)) continue;
    await copyFile(join(from, name), join(to, name));
    // Compilers make libraries executable; nobody executes them.
    await Deno.chmod(join(to, name), 0o644);
  }
}

/** Copies a file to where no folder need be yet. */
export async function copyFile(from: string, to: string): Promise<void> {
  await Deno.mkdir(dirname(to), { recursive: true });
  await Deno.copyFile(from, to);
}

/** What is asked for, or in words why it can't be. */
export function parseBundleArgs(argv: string[]): BundleRequest | string {
  try {
    const { values } = parseArgs({
      args: argv,
      options: {
        "backend": { type: "string", multiple: true, default: [] },
        "cuda-arch": { type: "string" },
        "native": { type: "boolean", default: false },
        "to": { type: "string", default: join(projectRoot(), "dist") },
        "no-archive": { type: "boolean", default: false },
      },
    });
    const unknown = values.backend.find((name) => !BACKENDS.includes(name as Backend));
    if (unknown !== undefined) return `--backend is "${unknown}"; expected ${BACKENDS.join(", ")}.`;
    // In one order, so that the order on the command line makes no difference.
    const always = Deno.build.os === "darwin" ? ["cpu", "metal"] : ["cpu"];
    const backends = BACKENDS.filter((name) => always.includes(name) || values.backend.includes(name));
    const { native, to } = values;
    if (native && values.backend.length > 0) {
      return "--native has the backend of the last build: leave --backend out.";
    }
    return {
      backends,
      cudaArch: values["cuda-arch"],
      native,
      to: resolve(to),
      archive: !values["no-archive"],
    };
  } catch (error) {
    if (error instanceof TypeError) return error.message;
    throw error;
  }
}

if (import.meta.main) {
  const work = async (request: BundleRequest, signal: AbortSignal) =>
    console.error(`Made ${await bundle(projectRoot(), request, { signal })}`);
  Deno.exit(await taskMain(parseBundleArgs(Deno.args), { usage: USAGE, work }));
}
