import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { countFindings, parseNativeTestArgs } from "./native_tests.ts";

Deno.test("without options the ordinary build runs for some seconds", () => {
  assertEquals(parseNativeTestArgs([]), { builds: [undefined], seconds: 5, seed: 1 });
});

Deno.test("the sanitizers take turns, for longer", () => {
  assertEquals(parseNativeTestArgs(["--sanitize"]), { builds: ["address", "thread"], seconds: 60, seed: 1 });
  const argv = ["--sanitize", "--seconds", "7", "--seed=3"];
  assertEquals(parseNativeTestArgs(argv), { builds: ["address", "thread"], seconds: 7, seed: 3 });
});

Deno.test("a bad option of the native tests is refused with what was expected", () => {
  const cases: [string[], string][] = [
    [["--seconds", "0"], '--seconds is "0"; expected a whole number from 1.'],
    [["--seconds=-3"], "--seconds"],
    [["--seed", "x"], "--seed"],
    [["--sanitise"], "--sanitise"],
    [["thread"], "thread"],
  ];
  for (const [argv, expected] of cases) {
    const answer = parseNativeTestArgs(argv);
    assert(typeof answer === "string", `${argv} was accepted`);
    assertStringIncludes(answer, expected);
  }
});

Deno.test("reports of every sanitizer are counted, once each", () => {
  const output = [
    "engine_stress: 3 eos, 12 tokens, 0 failures",
    "==7==ERROR: AddressSanitizer: heap-use-after-free on address 0x60",
    "SUMMARY: AddressSanitizer: heap-use-after-free a.cpp:1 in f",
    "==7==ERROR: LeakSanitizer: detected memory leaks",
    "WARNING: ThreadSanitizer: data race (pid=7)",
    "SUMMARY: ThreadSanitizer: data race a.cpp:1 in f",
    "src/request.cpp:3:7: runtime error: signed integer overflow",
  ].join("\n");
  assertEquals(countFindings(output), 4);
  assertEquals(countFindings("0 failures"), 0);
});
