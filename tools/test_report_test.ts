import { assertEquals } from "@std/assert";
import { filesBelow, testGroups } from "./run_tests.ts";
import { closingLine, countTests, failuresIn } from "./test_report.ts";

Deno.test("tests are counted as Deno reports them: steps belong to their test, ignored ones are neither", async () => {
  const { status, report } = await runTests({
    "a_test.ts": `
      Deno.test("with <steps> & more", async (t) => { await t.step("one", () => {}); await t.step("two", () => {}); });
      Deno.test("with a failed step", async (t) => { await t.step("one", () => { throw new Error("step"); }); });
      Deno.test("fails", () => { throw new Error("on purpose"); });
      Deno.test.ignore("ignored", () => {});`,
    "b_test.ts": `Deno.test("passes", () => {});`,
  });
  assertEquals(countTests({ files: ["a_test.ts", "b_test.ts"], status, report }), {
    passed: 2,
    failed: 2,
    ignored: 1,
  });
  assertEquals(failuresIn(report!), [
    "./a_test.ts => with a failed step: 1 test step failed",
    "./a_test.ts => fails: Uncaught Error: on purpose",
    "./a_test.ts => with a failed step > one: Uncaught Error: step",
  ]);
});

Deno.test("a file that can't be loaded is a failure beside the tests that ran", async () => {
  const { status, report } = await runTests({
    "a_test.ts":
      `Deno.test("passes", () => {}); Deno.test("fails", () => { throw new Error("on purpose"); });`,
    "b_test.ts": `Deno.test("never runs", () => {}); throw new Error("at load");`,
  });
  assertEquals(countTests({ files: ["a_test.ts", "b_test.ts"], status, report }), {
    passed: 1,
    failed: 2,
    ignored: 0,
  });
});

Deno.test("when the process dies, every file of the run has failed", async () => {
  const { status, report } = await runTests({
    "a_test.ts": `Deno.test("passes", () => {});`,
    "b_test.ts": `Deno.test("dies", () => Deno.kill(Deno.pid, "SIGKILL"));`,
  });
  assertEquals(countTests({ files: ["a_test.ts", "b_test.ts"], status, report }), {
    passed: 0,
    failed: 2,
    ignored: 0,
  });
});

Deno.test("a run that fails for no counted reason has one failure", () => {
  const report = '<testsuite name="./a_test.ts" tests="1"><testcase name="x"></testcase></testsuite>';
  assertEquals(countTests({ files: ["a_test.ts"], status: 1, report }).failed, 1);
});

Deno.test("the closing line has the two counts and nothing else", () => {
  assertEquals(closingLine({ passed: 12, failed: 0, ignored: 3 }), "12 passed, 0 failed");
});

Deno.test("only what is below the given paths is wanted, whole folder names compared", () => {
  const files = ["hive/a_test.ts", "hive/deep/b.ts", "hives/c_test.ts", "protocol/d_test.ts"];
  assertEquals(filesBelow(files, ["./hive/", "protocol/d_test.ts"]), [
    "hive/a_test.ts",
    "hive/deep/b.ts",
    "protocol/d_test.ts",
  ]);
  assertEquals(filesBelow(files, []), files);
});

Deno.test("only tests run, and those that need a machine to themselves one after the other", () => {
  assertEquals(testGroups(["worker/a.ts", "worker/a_test.ts", "protocol/b_test.ts", "README.md"]), [
    { files: ["protocol/b_test.ts"], parallel: true },
    { files: ["worker/a_test.ts"], parallel: false },
  ]);
  assertEquals(testGroups(["README.md"]), []);
});

/** Runs test files of this content by themselves. */
async function runTests(files: Record<string, string>): Promise<{ status: number; report?: string }> {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, text] of Object.entries(files)) await Deno.writeTextFile(`${folder}/${name}`, text);
    const { code } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "-A", "--no-check", "--junit-path=report.xml"],
      cwd: folder,
      stdout: "null",
      stderr: "null",
    }).output();
    const report = await Deno.readTextFile(`${folder}/report.xml`).catch(() => undefined);
    return { status: code, report };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
