import { assertEquals, assertStringIncludes } from "@std/assert";
import type { WorkerInfo } from "../../protocol/hive_schemas.ts";
import {
  judgeClock,
  judgeDisk,
  judgeMemory,
  judgeMode,
  judgeSandboxSupport,
  judgeVersion,
  judgeWorkerSandbox,
} from "./findings.ts";

Deno.test("clocks that differ by more than their answers' precision are told, with the direction", () => {
  const level = (seconds: number) => judgeClock("node mac", { theirsMs: seconds * 1000, oursMs: 0 });
  assertEquals([-5, 0, 5].map((seconds) => level(seconds).level), ["ok", "ok", "ok"]);
  assertEquals(level(90).what, "its clock is 90 s ahead of this machine's");
  assertEquals(level(-6).what, "its clock is 6 s behind this machine's");
});

Deno.test("little memory and little disk are warnings, and both come with a remedy", () => {
  assertEquals(judgeMemory("m", { free_mb: 1_000, total_mb: 8_000 }).level, "ok");
  const memory = judgeMemory("m", { free_mb: 999, total_mb: 8_000 });
  const disk = judgeDisk("d", { free_mb: 4_999, models_dir: "/models" });
  assertEquals([memory.level, disk.level], ["warning", "warning"]);
  assertStringIncludes(disk.what, "5.0 GB are free for models in /models");
  assertStringIncludes(disk.remedy!, "models prune");
});

Deno.test("another version and an open file are problems", () => {
  assertEquals(judgeVersion("n", { theirs: "1", ours: "1" }).level, "ok");
  assertEquals(judgeVersion("n", { theirs: "1", ours: "2" }).level, "problem");
  assertEquals(judgeMode("home", { path: "/h", mode: 0o40700 }).level, "ok");
  assertEquals(judgeMode("home", { path: "/h", mode: null }).level, "ok");
  assertEquals(judgeMode("home", { path: "/h", mode: 0o40750 }).remedy, "Run: chmod go= /h");
});

Deno.test("a kernel that cannot confine workers and workers that are not confined are warnings", () => {
  const support = (landlock_abi: number, seccomp: boolean) =>
    judgeSandboxSupport("sandbox", { landlock_abi, seccomp })[0];
  assertEquals(judgeSandboxSupport("sandbox", undefined), []);
  assertEquals(support(7, true).level, "ok");
  assertEquals(support(0, true).level, "warning");
  assertStringIncludes(support(0, true).what, "it has no landlock");
  assertStringIncludes(support(0, false).what, "it has no landlock and no seccomp");
  const worker = (state: "on" | "partial" | "off", ...problems: string[]) =>
    judgeWorkerSandbox("hive", {
      ...{ worker_id: "w1", model_ref: "builtin:stories" },
      sandbox: { state, landlock_abi: 7, landlock: true, seccomp: true, no_new_privs: true, problems },
    } as WorkerInfo);
  assertEquals(worker("on"), []);
  const [partial] = worker("partial", "seccomp refuses a filter: Invalid argument");
  assertEquals(partial.level, "warning");
  assertStringIncludes(partial.what, "only partly confined: seccomp refuses a filter");
  assertStringIncludes(worker("off", "x")[0].remedy!, "worker_sandbox");
});
