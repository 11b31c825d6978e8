/** `deno task ok`: everything that can be checked before a commit, one line each, details only of what fails. */
import { runCommand } from "./command.ts";
import { lintDocs } from "./doc_lint.ts";
import { formatNative } from "./native_format.ts";
import { projectFiles, projectRoot } from "./project_files.ts";

/** Unit tests stand beside the code; `tests/` starts whole daemons and is for `deno task test`. */
const UNIT_FOLDERS = ["std", "protocol", "home", "daemon", "worker", "hive", "queen", "keeper", "tools"];

/** What a failed run says of that which did not fail. */
const GOOD_NEWS = /^(Check |running \d+ tests? from )|\.\.\. (ok|ignored) \(/;

/** One thing to check: `undefined` when all is well, else what is wrong. */
type Check = () => Promise<string | undefined>;

if (import.meta.main) Deno.exit(await main());

async function main(): Promise<number> {
  const root = projectRoot();
  const files = projectFiles(root);
  const deno = (...args: string[]): Check => async () => {
    const { code, output } = await runCommand([Deno.execPath(), ...args], {
      cwd: root,
      env: { NO_COLOR: "1" },
    });
    return code === 0 ? undefined : output.split("\n").filter((line) => !GOOD_NEWS.test(line)).join("\n");
  };
  const protocol = files.filter((path) => /^protocol\/\w+\.ts$/.test(path) && !path.endsWith("_test.ts"));
  const folders = UNIT_FOLDERS.filter((folder) => files.some((path) => path.startsWith(`${folder}/`)));
  const checks: [string, Check][] = [
    ["format", deno("fmt", "--check")],
    ["format of C++", () => formatNative(root, { write: false })],
    ["lint", deno("lint")],
    ["types", deno("check")],
    ["documentation of protocol", () => lintDocs(root, protocol)],
    ["style and unit tests", deno("run", "-q", "-A", "tools/run_tests.ts", ...folders)],
  ];
  let failures = 0;
  for (const [name, check] of checks) {
    const startedMs = performance.now();
    const problem = await check();
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    console.log(`${problem === undefined ? "ok    " : "FAILED"} ${name} (${seconds} s)`);
    if (problem !== undefined) console.log(`${problem}\n`);
    if (problem !== undefined) failures++;
  }
  return failures === 0 ? 0 : 1;
}
