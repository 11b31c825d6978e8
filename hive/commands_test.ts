import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { parseHiveArgs } from "./commands.ts";

function problemsOf(...args: string[]): string {
  const asked = parseHiveArgs(args);
  assert(asked.kind === "usage", `${args} was accepted`);
  return asked.problems.join("\n");
}

Deno.test("the daemon's flags become configuration", () => {
  assertEquals(parseHiveArgs(["daemon", "--listen", "127.0.0.1:0", "--advertise=me", "--keep-workers"]), {
    kind: "daemon",
    keepWorkers: true,
    configFlags: { "hive.listen": "127.0.0.1:0", "hive.advertise": "me", "log.level": undefined },
  });
  assertEquals(parseHiveArgs(["detect", "--json"]), { kind: "detect", json: true });
  assertEquals(parseHiveArgs(["status"]), { kind: "status", json: false });
});

Deno.test("help and version are given wherever they are asked for", () => {
  for (const args of [["--help"], ["-h"], ["daemon", "--help"]]) {
    const asked = parseHiveArgs(args);
    assert(asked.kind === "help");
    for (const part of ["--keep-workers", "--listen HOST:PORT", "detect", "status"]) {
      assertStringIncludes(asked.text, part);
    }
  }
  assertEquals(parseHiveArgs(["--version"]), { kind: "version" });
});

Deno.test("every mistake is named at once, near misses with what was probably meant", () => {
  assertStringIncludes(problemsOf("deamon"), "Did you mean daemon?");
  assertStringIncludes(problemsOf("frobnicate"), "daemon, detect, status");
  assertStringIncludes(problemsOf(), "Name a command");
  assertStringIncludes(problemsOf("--listen"), "Name a command");
  const several = problemsOf("daemon", "word", "--lisen=x", "--nonsense", "--log-level", "loud");
  for (const part of ["--listen?", "--nonsense", "word", "loud"]) assertStringIncludes(several, part);
  assertStringIncludes(problemsOf("status", "--jsn"), "--json?");
});
