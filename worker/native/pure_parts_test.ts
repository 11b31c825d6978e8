import { assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";

/** Those that need nothing of llama.cpp. */
const PARTS = [
  "text_stream",
  "step_plan",
  "governor",
  "process_memory",
  "printable",
  "step_clock",
  "sandbox",
];

const folder = fromFileUrl(new URL(".", import.meta.url));

/** Of the sandbox's test, which tests them together. */
const SANDBOX_SOURCES = ["every_thread", "forbidden", "seccomp_filter"].map((part) => `src/${part}.cpp`);

Deno.test("the engine's pure parts hold under the sanitizers", async () => {
  const temp = await Deno.makeTempDir();
  try {
    const program = join(temp, "pure_parts_test");
    const compiler = Deno.env.get("CXX") || "c++";
    const sources = PARTS.flatMap((part) => [`src/${part}.cpp`, `test/${part}_test.cpp`])
      .concat(SANDBOX_SOURCES, "test/main_test.cpp").map((name) => join(folder, name));
    await run(compiler, [
      "-std=c++17",
      "-O1",
      "-g",
      "-Wall",
      "-Wextra",
      "-Werror",
      "-fsanitize=address,undefined",
      "-fno-sanitize-recover=all",
      `-I${join(folder, "src")}`,
      ...sources,
      "-o",
      program,
    ]);
    assertEquals(await run(program, []), "0 failures\n");
  } finally {
    await Deno.remove(temp, { recursive: true });
  }
});

async function run(program: string, args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args }).output();
  const text = new TextDecoder();
  if (!success) throw new Error(`${program} failed:\n${text.decode(stdout)}${text.decode(stderr)}`);
  return text.decode(stdout);
}
