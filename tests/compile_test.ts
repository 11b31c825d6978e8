/** `deno task compile` without the runtime that it needs: what it says, and that it leaves nothing. */
import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { BuildError } from "../tools/build_error.ts";
import { compilePrograms, parseCompileArgs, platformOf } from "../tools/compile_programs.ts";
import { testArchive } from "./helpers/archive.ts";
import { ROOT } from "./helpers/daemons.ts";

Deno.test("a target that there is no engine for is refused before anything is made", () => {
  assertMatch(String(parseCompileArgs(["--target", "riscv64"])), /^--target is "riscv64"; expected/);
  const other = ["aarch64-apple-darwin", "x86_64-apple-darwin"].find((name) => name !== Deno.build.target)!;
  assertMatch(String(parseCompileArgs(["--target", other])), /has to be compiled on such a machine/);
  assertEquals(platformOf("aarch64-apple-darwin"), { arch: "aarch64", os: "darwin" });
  assertEquals(parseCompileArgs(["--target", other, "--from", "/x"]), { target: other, from: "/x" });
});

Deno.test("without denort, or with something else in its place, compiling says what to do", async () => {
  await using archive = await testArchive();
  const denoDir = await Deno.makeTempDir();
  const compile = (env: Record<string, string>) =>
    compilePrograms(ROOT, { target: Deno.build.target, from: archive.folder }, { env });
  try {
    // Nobody answers on the discard port: the runtime can't be fetched, on any machine.
    const away = { HTTPS_PROXY: "http://127.0.0.1:9", DENO_DIR: denoDir, DENORT_BIN: "" };
    const missing = await assertRejects(() => compile(away), BuildError, `denort-${Deno.build.target}.zip`);
    assertStringIncludes(missing.message, "DENORT_BIN=/path/to/denort deno task compile");
    await assertRejects(() => compile({ DENORT_BIN: Deno.execPath() }), BuildError, "must name the denort");
    const left = (await Array.fromAsync(Deno.readDir(join(ROOT, "dist")))).map(({ name }) => name);
    assertEquals(left.filter((name) => name.includes("-compiled.")), []);
  } finally {
    await Deno.remove(denoDir, { recursive: true });
  }
});
