/** Builds the engine: one build at a time per checkout, nothing half made in place. */
import { BuildError } from "./build_error.ts";
import { BuildProgress, parseBuildStep } from "./build_progress.ts";
import {
  type Backend,
  type BuildChoice,
  type BuildPaths,
  fingerprint,
  isUpToDate,
  replaceFile,
  writeStamp,
} from "./build_stamp.ts";
import { cmakeCommands, type CmakeRequest, missingTools, type Sanitizer, targetPath } from "./cmake.ts";
import { runCommand } from "./command.ts";
import { LLAMA_RELEASE } from "./llama_release.ts";
import { ensureLlamaSource } from "./llama_source.ts";
import { toolChain } from "./tool_chains.ts";

/** The addon's target in CMakeLists.txt. */
export const ADDON_TARGET = "rbee_engine";

/** A waiting build says so after this time, not before: most waits are over by then. */
const LOCK_NOTICE_MS = 500;
/** This much of the log is shown when a build fails. */
const FAILURE_LINES = 40;
/** Measured: what the first build costs on one core of a small machine. */
const CORE_SECONDS_OF_FIRST_BUILD = 330;
/** The same with the code for every kind of CPU. */
const CORE_SECONDS_OF_PORTABLE_BUILD = 900;

/** What to build. */
export interface BuildRequest extends BuildChoice {
  /** A target of CMakeLists.txt, or a program of llama.cpp (`llama-…`). */
  target: string;
  /** Not put in place either: an addon with it needs a process that has loaded the sanitizer. */
  sanitize?: Sanitizer;
  /** See {@linkcode CmakeRequest.portable}; it is not put in place here. */
  portable?: readonly Backend[];
  /** Trust the record of the last build of the addon, instead of having CMake look at every file. */
  ifNeeded: boolean;
}

/**
 * Builds, and puts the addon in place when that is the target. Waits while another build of the same checkout
 * runs. Returns the path of what was built.
 *
 * @throws {BuildError} when a tool is missing, or the compiler says no.
 */
export async function buildTarget(
  paths: BuildPaths,
  request: BuildRequest,
  options: { signal?: AbortSignal } = {},
): Promise<string> {
  const { signal } = options;
  const progress = new BuildProgress({
    terminal: Deno.stderr.isTerminal(),
    columns: Deno.stderr.isTerminal() ? Deno.consoleSize().columns : 0,
    write: (text) => Deno.stderr.writeSync(new TextEncoder().encode(text)),
  });
  const missing = missingTools();
  if (missing) throw new BuildError(missing);
  const chains = (request.portable ?? [request.backend]).flatMap((backend) => toolChain(backend) ?? []);
  const absent = chains.flatMap((chain) => "missing" in chain ? [chain.missing] : []);
  if (absent.length > 0) throw new BuildError(absent.join("\n"));
  await Deno.mkdir(paths.build, { recursive: true });
  using _lock = await lockBuild(paths, { progress, signal });
  // The build waited for may have made just this.
  if (request.ifNeeded && isForThisCheckout(request) && await isUpToDate(paths, request)) return paths.addon;
  try {
    const toolChains = chains.flatMap((chain) => "found" in chain ? [chain.found] : []);
    return await buildLocked(paths, request, { progress, toolChains, signal });
  } finally {
    progress.clear();
  }
}

/** Whether it is the engine that this checkout's workers load. */
function isForThisCheckout({ target, portable, sanitize }: BuildRequest): boolean {
  return target === ADDON_TARGET && portable === undefined && sanitize === undefined;
}

interface Tools {
  progress: BuildProgress;
  /** Told with the first build. */
  toolChains: string[];
  signal?: AbortSignal;
}

async function buildLocked(paths: BuildPaths, request: BuildRequest, tools: Tools): Promise<string> {
  const { progress, signal } = tools;
  const startedMs = performance.now();
  const cmake = cmakeRequest(paths, request);
  if (modifiedMs(`${cmake.folder}/CMakeCache.txt`) === undefined) {
    progress.say(firstBuildNotice(request));
    for (const found of tools.toolChains) progress.say(found);
  }
  await ensureLlamaSource({
    root: paths.root,
    workFolder: paths.build,
    release: LLAMA_RELEASE,
    say: (line) => progress.say(line),
    signal,
  });
  // Taken before compiling: what is edited meanwhile makes the next build.
  const made = await fingerprint(paths.root, request);
  const built = targetPath(cmake);
  const before = modifiedMs(built);
  await runCmake(paths, cmake, tools);
  const isNew = before !== modifiedMs(built);
  if (isForThisCheckout(request)) {
    replaceFile(paths.addon, (temp) => Deno.copyFileSync(built, temp));
    writeStamp(paths, { backend: request.backend, cudaArch: request.cudaArch }, made);
  }
  const what = request.target === ADDON_TARGET ? `The engine (${backendsOf(request)})` : request.target;
  const seconds = Math.round((performance.now() - startedMs) / 1000);
  progress.say(isNew ? `${what} was built in ${seconds} s.` : `${what} is up to date.`);
  return isForThisCheckout(request) ? paths.addon : built;
}

function cmakeRequest(paths: BuildPaths, request: BuildRequest): CmakeRequest {
  const { backend, cudaArch, sanitize, portable, target } = request;
  const kind = portable ? ["portable", ...portable] : [backend];
  const name = [...kind, cudaArch?.replaceAll(/[^\w]/g, "_"), sanitize].filter(Boolean).join("-");
  return {
    root: paths.root,
    folder: `${paths.build}/${name}`,
    target,
    backend,
    cudaArch,
    sanitize,
    portable,
  };
}

/** Configures when something about the configuration changed, then compiles; everything goes to the log. */
async function runCmake(paths: BuildPaths, cmake: CmakeRequest, { progress, signal }: Tools): Promise<void> {
  const commands = await cmakeCommands(cmake);
  using log = await Deno.open(paths.log, { create: true, truncate: true, write: true });
  const write = (line: string) => log.writeSync(new TextEncoder().encode(`${line}\n`));
  const run = async (argv: string[]) => {
    write(`$ ${argv.join(" ")}`);
    const { code, output } = await runCommand(argv, {
      cwd: cmake.folder,
      env: commands.env,
      signal,
      onLine: (line) => {
        write(line);
        const step = parseBuildStep(line);
        if (step) progress.step(step);
      },
    });
    if (code === 0) return;
    const lines = output.split("\n").slice(-FAILURE_LINES).join("\n");
    throw new BuildError(
      `${lines}\n\nThe build failed with exit status ${code}. Its whole output: ${paths.log}`,
    );
  };
  const record = `${cmake.folder}/configured_with.json`;
  const last = readJson(record) as string[] | undefined;
  if (JSON.stringify(last) !== JSON.stringify(commands.configure)) {
    // CMake refuses a folder that it configured for other sources or another generator.
    if (last && identity(last) !== identity(commands.configure)) {
      await Deno.remove(cmake.folder, { recursive: true });
    }
    await Deno.mkdir(cmake.folder, { recursive: true });
    await run(commands.configure);
    await Deno.writeTextFile(record, JSON.stringify(commands.configure));
  }
  await run(commands.build);
}

/** What of a configure command can't change within one folder. */
function identity(configure: string[]): string {
  return JSON.stringify([configure[1], configure[configure.indexOf("-G") + 1]]);
}

/** The kernel lets go of it when this process ends, however it ends: there is no stale lock to clear away. */
async function lockBuild(
  paths: BuildPaths,
  { progress, signal }: Pick<Tools, "progress" | "signal">,
): Promise<Deno.FsFile> {
  const file = await Deno.open(paths.lock, { create: true, read: true, write: true });
  const notice = setTimeout(() => {
    const pid = Deno.readTextFileSync(paths.lock).trim();
    progress.say(`Another build of this checkout is running (process ${pid}); waiting for it …`);
  }, LOCK_NOTICE_MS);
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal?.reason);
  signal?.addEventListener("abort", abort, { once: true });
  try {
    await Promise.race([file.lock(true), aborted.promise]);
  } finally {
    clearTimeout(notice);
    signal?.removeEventListener("abort", abort);
  }
  await file.truncate();
  await file.write(new TextEncoder().encode(`${Deno.pid}\n`));
  return file;
}

function firstBuildNotice(request: BuildRequest): string {
  const cores = navigator.hardwareConcurrency;
  const coreSeconds = request.portable ? CORE_SECONDS_OF_PORTABLE_BUILD : CORE_SECONDS_OF_FIRST_BUILD;
  const minutes = Math.max(1, Math.round(coreSeconds / 60 / cores));
  const backends = backendsOf(request);
  const time = backends === "cpu" ? `about ${minutes} min on ${cores} cores` : "this takes several minutes";
  const whom = request.portable ? "all machines" : "this machine";
  return `The engine is compiled for ${whom}, once (llama.cpp ${LLAMA_RELEASE.tag}, ${backends}): ${time}.`;
}

function backendsOf({ backend, portable = [backend] }: BuildRequest): string {
  return portable.join(", ");
}

function modifiedMs(path: string): number | undefined {
  try {
    return Deno.statSync(path).mtime?.getTime();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(Deno.readTextFileSync(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
    throw error;
  }
}
