/**
 * `deno task compile`: each of the four programs as one executable, with the engine and `builtin:stories` inside, below
 * `dist/`. Each is started once afterwards.
 */
import { parseArgs } from "node:util";
import { dirname, join, resolve } from "@std/path";
import { bundleName, type Platform, type Program, PROGRAM_NAMES } from "../home/installation.ts";
import { VERSION } from "../protocol/version.ts";
import { ignoreMissing } from "./archive.ts";
import { BuildError } from "./build_error.ts";
import { bundle } from "./bundle.ts";
import { runCommand } from "./command.ts";
import { projectRoot } from "./project_files.ts";
import { taskMain } from "./task_main.ts";

const USAGE = `Usage: deno task compile [options]

  --target TRIPLE   For another kind of machine: one of those that deno compile --help names
  --from FOLDER     The unpacked archive whose engine is put inside; needed with --target. Default: it is made`;

/** What each program has inside beside its own code, as it lies in an archive's `lib`. */
const INSIDE: Record<Program, readonly string[]> = {
  keeper: [],
  hive: ["hive/models/digest_thread.js", "models"],
  queen: [],
  worker: ["worker/native/build"],
};

/** What is compiled. */
export interface CompileRequest {
  /** As Deno calls it. */
  target: string;
  /** Path of an unpacked archive. */
  from?: string;
}

/** Options of {@linkcode compilePrograms}. */
export interface CompileOptions {
  /** Added to the environment of `deno compile`. */
  env?: Record<string, string>;
  signal?: AbortSignal;
}

/** The kind of machine of a target triple, as `aarch64-apple-darwin`. */
export function platformOf(target: string): Platform {
  return { arch: target.split("-")[0], os: target.includes("darwin") ? "darwin" : "linux" };
}

/**
 * Compiles all four; returns the folder that they are in.
 *
 * @throws {BuildError} when Deno's runtime is missing, or a program does not start.
 */
export async function compilePrograms(
  root: string,
  request: CompileRequest,
  options: CompileOptions = {},
): Promise<string> {
  const { target, from } = request;
  const isOwn = target === Deno.build.target;
  const archive = from ??
    await bundle(root, {
      ...{ backends: ["cpu"], native: false, to: join(root, "dist"), archive: false },
    }, options);
  const folder = join(root, "dist", `${bundleName(platformOf(target))}-compiled`);
  const aside = `${folder}.${Deno.pid}`;
  try {
    await Deno.mkdir(aside, { recursive: true });
    for (const program of Object.keys(PROGRAM_NAMES) as Program[]) {
      const made = join(aside, PROGRAM_NAMES[program]);
      await compile(program, { lib: join(archive, "lib"), made, target }, options);
      if (isOwn) await selfTest(made);
    }
    await Deno.remove(folder, { recursive: true }).catch(ignoreMissing);
    await Deno.rename(aside, folder);
  } finally {
    await Deno.remove(aside, { recursive: true }).catch(ignoreMissing);
  }
  return folder;
}

async function compile(
  program: Program,
  place: { lib: string; made: string; target: string },
  { env, signal }: CompileOptions,
): Promise<void> {
  const { lib, made, target } = place;
  const settings = JSON.parse(await Deno.readTextFile(join(lib, "deno.json")));
  const flags = [
    // The addon and the model need real files.
    ...["-q", "--no-prompt", "--self-extracting", "--target", target, "--output", made],
    ...["--config", join(lib, "deno.json")],
    ...INSIDE[program].flatMap((path) => ["--include", join(lib, path)]),
    ...permissionFlags(settings.permissions[program]),
  ];
  const argv = [Deno.execPath(), "compile", ...flags, join(lib, `${program}/main.js`)];
  const { code, output } = await runCommand(argv, { cwd: dirname(lib), env, signal });
  signal?.throwIfAborted();
  if (code === 0) return;
  throw new BuildError(/denort/.test(output) ? missingRuntime(target) : output);
}

/** The flags of a permission set; where the addon will lie is not known before it is unpacked. */
function permissionFlags(set: Record<string, boolean | string[]>): string[] {
  return Object.entries(set).map(([name, value]) =>
    Array.isArray(value) && name !== "ffi" ? `--allow-${name}=${value.join(",")}` : `--allow-${name}`
  );
}

function missingRuntime(target: string): string {
  const { deno } = Deno.version;
  return `deno compile needs denort, the runtime that it puts into each program, and could not fetch it.
Fetch https://dl.deno.land/release/v${deno}/denort-${target}.zip on a machine that can, unpack it here, and run again:
  DENORT_BIN=/path/to/denort deno task compile`;
}

async function selfTest(program: string): Promise<void> {
  const home = await Deno.makeTempDir();
  try {
    const { code, output } = await runCommand([program, "--version"], { env: { RBEE_HOME: home } });
    if (code === 0 && output.includes(VERSION) && !output.includes("REPL")) return;
    throw new BuildError(
      `${program} was compiled and does not say its version; it says:\n${output}\n` +
        "If DENORT_BIN is set, it must name the denort of this version of Deno, not deno itself.",
    );
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

/** What is asked for, or in words why it can't be. */
export function parseCompileArgs(argv: string[]): CompileRequest | string {
  try {
    const { values } = parseArgs({
      args: argv,
      options: { "target": { type: "string", default: Deno.build.target }, "from": { type: "string" } },
    });
    const { target, from } = values;
    if (!/^(x86_64|aarch64)-(unknown-linux-gnu|apple-darwin)$/.test(target)) {
      return `--target is "${target}"; expected x86_64 or aarch64 with -unknown-linux-gnu or -apple-darwin.`;
    }
    if (target !== Deno.build.target && from === undefined) {
      return `The engine for ${target} has to be compiled on such a machine: unpack its archive here and name it with --from.`;
    }
    return { target, from: from && resolve(from) };
  } catch (error) {
    if (error instanceof TypeError) return error.message;
    throw error;
  }
}

if (import.meta.main) {
  const work = async (request: CompileRequest, signal: AbortSignal) =>
    console.error(`Made ${await compilePrograms(projectRoot(), request, { signal })}`);
  Deno.exit(await taskMain(parseCompileArgs(Deno.args), { usage: USAGE, work }));
}
