/**
 * `deno task test [PATH…]`: builds what is missing, runs every test (or those below the paths), and ends with one
 * line: `N passed, N failed`.
 */
import { buildCommand } from "./build_command.ts";
import { BuildError } from "./build_error.ts";
import { buildPaths, isUpToDate, lastChoice } from "./build_stamp.ts";
import { buildTarget } from "./compile.ts";
import { projectFiles, projectRoot } from "./project_files.ts";
import { closingLine, countTests, failuresIn, type TestCounts } from "./test_report.ts";

/** Tests of these folders hold an engine in their own process, or watch its memory: they run one after the other. */
const ALONE_FOLDERS = ["worker"];

/** Names, in the environment of a run, the folder in which its tests share what takes long to make. */
export const SHARED_FOLDER = "RBEE_TEST_SHARED";

/** The stress is made for the sanitizers (`deno task test:native`); here it shows that it still works. */
const STRESS_SECONDS = "3";
const STRESS_MODEL = "models/rbee-stories-1.4M-Q8_0.gguf";
/** Compiled into `engine_test` and `engine_stress`. */
const NATIVE_TESTS = "worker/native/test/";

/** A run of `deno test`. */
interface TestGroup {
  files: string[];
  parallel: boolean;
}

if (import.meta.main) Deno.exit(await main(Deno.args));

async function main(paths: string[]): Promise<number> {
  const root = projectRoot();
  // Ctrl+C reaches the running tests as well; this process stays to say how far they came.
  Deno.addSignalListener("SIGINT", () => {});
  const total: TestCounts = { passed: 0, failed: 0, ignored: 0 };
  const failures: string[] = [];
  const add = (counts: Partial<TestCounts>) => {
    total.passed += counts.passed ?? 0;
    total.failed += counts.failed ?? 0;
    total.ignored += counts.ignored ?? 0;
  };
  const files = filesBelow(projectFiles(root), paths);
  if (await buildMissing(root) !== 0) {
    add({ failed: 1 });
  } else {
    if (files.some((file) => file.startsWith(NATIVE_TESTS))) add(await runNativeTest(root));
    for (const group of testGroups(files)) add(await runGroup(root, group, failures));
  }
  // Again, at the end, where it is read.
  for (const failure of failures) console.log(`failed: ${failure}`);
  if (total.ignored > 0) console.log(`${total.ignored} ignored`);
  console.log(closingLine(total));
  return total.failed === 0 ? 0 : 1;
}

/** Those of `files` that are, or are below, one of `paths`; all of them when no path is given. */
export function filesBelow(files: string[], paths: string[]): string[] {
  const wanted = paths.map((path) => path.replace(/^\.\//, "").replace(/\/$/, ""));
  if (wanted.length === 0) return files;
  return files.filter((file) => wanted.some((path) => file === path || file.startsWith(`${path}/`)));
}

/** The tests among `files`, in the runs they need. */
export function testGroups(files: string[]): TestGroup[] {
  const tests = files.filter((file) => file.endsWith("_test.ts"));
  const isAlone = (file: string) => ALONE_FOLDERS.some((folder) => file.startsWith(`${folder}/`));
  return [
    { files: tests.filter((file) => !isAlone(file)), parallel: true },
    { files: tests.filter(isAlone), parallel: false },
  ].filter((group) => group.files.length > 0);
}

async function buildMissing(root: string): Promise<number> {
  const paths = buildPaths(root);
  if (await isUpToDate(paths, lastChoice(paths))) return 0;
  return await buildCommand(paths, ["--if-needed"]);
}

/** The engine's test in C++: one program, one test. */
async function runNativeTest(root: string): Promise<Partial<TestCounts>> {
  const paths = buildPaths(root);
  const programs = [["engine_test"], ["engine_stress", "--seconds", STRESS_SECONDS, STRESS_MODEL]];
  const counts = { passed: 0, failed: 0 };
  for (const [target, ...args] of programs) {
    try {
      const built = await buildTarget(paths, { ...lastChoice(paths), target, ifNeeded: false });
      const { code } = await new Deno.Command(built, {
        ...{ args, cwd: root, stdin: "null", stdout: "inherit" },
        // llama.cpp has much to say about requests that are wrong on purpose.
        stderr: target === "engine_stress" ? "null" : "inherit",
      }).output();
      console.log(`${target} ended with exit status ${code}`);
      counts[code === 0 ? "passed" : "failed"]++;
    } catch (error) {
      if (!(error instanceof BuildError)) throw error;
      console.error(error.message);
      counts.failed++;
    }
  }
  return counts;
}

async function runGroup(
  root: string,
  { files, parallel }: TestGroup,
  failures: string[],
): Promise<TestCounts> {
  const temp = await Deno.makeTempDir();
  try {
    const report = `${temp}/report.xml`;
    const mode = parallel ? ["--parallel"] : [];
    const { code } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "-A", "-q", ...mode, `--junit-path=${report}`, ...files],
      cwd: root,
      // One more than there are cores: many tests wait for a while.
      env: { [SHARED_FOLDER]: temp, DENO_JOBS: String(navigator.hardwareConcurrency + 1) },
      stdin: "null",
      stdout: "inherit",
      stderr: "inherit",
    }).output();
    const run = { files, status: code, report: await readIfThere(report) };
    failures.push(...failuresIn(run.report ?? ""));
    return countTests(run);
  } finally {
    await Deno.remove(temp, { recursive: true });
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
