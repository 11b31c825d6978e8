/**
 * `deno task test:native [--sanitize] [--seconds N] [--seed N]`: the engine without JavaScript. Runs its unit tests,
 * a stress of random requests from several threads, and hostile inputs to all that is bounded; with `--sanitize` under the address sanitizer (with the undefined
 * behaviour sanitizer) and under the thread sanitizer. Ends with one line of counts; exit status 1 when anything was
 * wrong.
 */
import { parseArgs } from "node:util";
import { BuildError } from "./build_error.ts";
import { type BuildPaths, buildPaths, lastChoice } from "./build_stamp.ts";
import type { Sanitizer } from "./cmake.ts";
import { hasProgram, runCommand } from "./command.ts";
import { type BuildRequest, buildTarget } from "./compile.ts";
import { projectRoot } from "./project_files.ts";
import { INTERRUPTED_STATUS, USAGE_STATUS } from "./task_main.ts";

const USAGE = `Usage: deno task test:native [options]

  --sanitize    Under the sanitizers, each in a build of its own, llama.cpp as well
  --seconds N   Length of each stress. Default: 5, with --sanitize 60
  --seed N      Other requests`;

const SECONDS = 5;
const SANITIZED_SECONDS = 60;

const BUILTIN_MODEL = "models/rbee-stories-1.4M-Q8_0.gguf";
/** Of the folder that RBEE_TEST_MODELS names: other weights, and one without a KV cache. */
const SHARED_MODELS = ["stories260K-F32.gguf", "tiny-rwkv-7v0-834K-F32.gguf"];

/** What is asked for. */
export interface NativeTestRequest {
  /** The sanitizers to build with, one build each; undefined is none. */
  builds: (Sanitizer | undefined)[];
  /** Length of each stress. */
  seconds: number;
  /** Of its requests. */
  seed: number;
}

/** What the runs came to. */
interface Counts {
  runs: number;
  failed: number;
  findings: number;
}

if (import.meta.main) Deno.exit(await main(Deno.args));

async function main(argv: string[]): Promise<number> {
  const request = parseNativeTestArgs(argv);
  if (typeof request === "string") {
    console.error(`${request}\n\n${USAGE}`);
    return USAGE_STATUS;
  }
  const interrupt = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(name, () => interrupt.abort());
  const paths = buildPaths(projectRoot());
  const counts: Counts = { runs: 0, failed: 0, findings: 0 };
  try {
    for (const sanitize of request.builds) {
      await testBuild(paths, { ...request, sanitize, counts, signal: interrupt.signal });
    }
  } catch (error) {
    if (interrupt.signal.aborted) return INTERRUPTED_STATUS;
    if (!(error instanceof BuildError)) throw error;
    console.error(error.message);
    counts.failed++;
  }
  console.log(`${counts.runs} runs, ${counts.failed} failed, ${counts.findings} findings of sanitizers`);
  return counts.failed + counts.findings === 0 ? 0 : 1;
}

/** What is asked for, or in words why it can't be. */
export function parseNativeTestArgs(argv: string[]): NativeTestRequest | string {
  try {
    const { values } = parseArgs({
      args: argv,
      options: {
        sanitize: { type: "boolean", default: false },
        seconds: { type: "string" },
        seed: { type: "string", default: "1" },
      },
    });
    return {
      builds: values.sanitize ? ["address", "thread"] : [undefined],
      seconds: wholeNumber(
        values.seconds ?? String(values.sanitize ? SANITIZED_SECONDS : SECONDS),
        "seconds",
      ),
      seed: wholeNumber(values.seed, "seed"),
    };
  } catch (error) {
    if (error instanceof TypeError) return error.message;
    throw error;
  }
}

/** How many reports of sanitizers a program's output holds. */
export function countFindings(output: string): number {
  const reports = /^.*(?:(?:ERROR|WARNING): \w+Sanitizer|: runtime error: ).*$/gm;
  return [...output.matchAll(reports)].length;
}

async function testBuild(
  paths: BuildPaths,
  test: NativeTestRequest & { sanitize?: Sanitizer; counts: Counts; signal: AbortSignal },
): Promise<void> {
  const { sanitize, seconds, seed, counts, signal } = test;
  const choice = sanitize === undefined ? lastChoice(paths) : { backend: "cpu" as const };
  const build = async (target: string) => {
    const request: BuildRequest = { ...choice, sanitize, target, ifNeeded: false };
    return await buildTarget(paths, request, { signal });
  };
  const stress = ["--seconds", String(seconds), "--seed", String(seed), ...models(paths.root)];
  const programs = [
    [await build("engine_test")],
    [await build("engine_stress"), ...stress],
    [await build("engine_bounds"), "--seed", String(seed), `${paths.root}/${BUILTIN_MODEL}`],
  ];
  const wrapper = sanitize === "thread" ? await fixedAddresses() : [];
  for (const program of programs) {
    const { code, output } = await runCommand([...wrapper, ...program], {
      cwd: paths.root,
      env: sanitizerOptions(paths.root),
      signal,
      onLine: (line) => console.log(line),
    });
    counts.runs++;
    counts.findings += countFindings(output);
    if (code === 0) continue;
    counts.failed++;
    console.log(`${program[0]} ended with exit status ${code}`);
  }
}

function models(root: string): string[] {
  const folder = Deno.env.get("RBEE_TEST_MODELS");
  const shared = folder ? SHARED_MODELS.map((name) => `${folder}/${name}`) : [];
  return [`${root}/${BUILTIN_MODEL}`, ...shared.filter(exists)];
}

/** Each sanitizer reads its own variable and lets the others be. Whatever is suppressed is named in its file. */
function sanitizerOptions(root: string): Record<string, string> {
  const suppressions = (name: string) => `suppressions=${root}/worker/native/test/${name}.supp`;
  return {
    // Our operator new stands on malloc, and those of its kinds that we do not have are the sanitizer's own.
    ASAN_OPTIONS: "detect_leaks=1:detect_stack_use_after_return=1:alloc_dealloc_mismatch=0",
    LSAN_OPTIONS: `${suppressions("lsan")}:print_suppressions=0`,
    UBSAN_OPTIONS: "print_stacktrace=1",
    TSAN_OPTIONS: `${suppressions("tsan")}:print_suppressions=0:second_deadlock_stack=1:memory_limit_mb=6144`,
  };
}

/**
 * The thread sanitizer of older compilers knows only a part of the address space, which newer kernels leave at random:
 * it ends with "unexpected memory mapping". Where the addresses can't be fixed, it is tried as it is.
 */
async function fixedAddresses(): Promise<string[]> {
  const command = ["setarch", Deno.build.arch, "-R"];
  if (Deno.build.os !== "linux" || !hasProgram("setarch")) return [];
  const { code } = await runCommand([...command, "true"]);
  return code === 0 ? command : [];
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function wholeNumber(text: string, name: string): number {
  if (/^\d{1,9}$/.test(text) && Number(text) > 0) return Number(text);
  throw new TypeError(`--${name} is "${text}"; expected a whole number from 1.`);
}
