import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { parseRequest } from "./build_command.ts";
import { buildPaths } from "./build_stamp.ts";

const PATHS = buildPaths("/no/such/checkout");

Deno.test("without options the engine is built for this system's own backend", () => {
  assertEquals(parseRequest(PATHS, []), {
    backend: Deno.build.os === "darwin" ? "metal" : "cpu",
    cudaArch: undefined,
    sanitize: undefined,
    target: "rbee_engine",
    ifNeeded: false,
  });
});

Deno.test("every option arrives where it belongs", () => {
  const argv = ["--backend=cuda", "--cuda-arch", "80;90", "--if-needed"];
  assertEquals(parseRequest(PATHS, argv), {
    backend: "cuda",
    cudaArch: "80;90",
    sanitize: undefined,
    target: "rbee_engine",
    ifNeeded: true,
  });
});

Deno.test("a bad option is refused with what was expected", () => {
  const cases: [string[], string][] = [
    [["--backend", "gpu"], '--backend is "gpu"; expected cpu, cuda, metal, vulkan'],
    [["--bakend", "cpu"], "--bakend"],
    [["cpu"], "cpu"],
    [["--backend"], "--backend"],
    [["--sanitize", "address"], "--sanitize needs --target"],
  ];
  for (const [argv, expected] of cases) {
    const answer = parseRequest(PATHS, argv);
    assert(typeof answer === "string", `${argv} was accepted`);
    assertStringIncludes(answer, expected);
  }
});

Deno.test("missing compilers are named with the way to install them, before anything is made", async () => {
  const root = await Deno.makeTempDir();
  try {
    // Each tool with only itself on the search path, so that nothing of this machine is found.
    const script = `import { buildCommand } from "./build_command.ts";
      import { buildPaths } from "./build_stamp.ts";
      Deno.exit(await buildCommand(buildPaths(${JSON.stringify(root)}), []));`;
    const child = await new Deno.Command(Deno.execPath(), {
      args: ["eval", script],
      cwd: import.meta.dirname,
      env: { PATH: root },
    }).output();
    const message = new TextDecoder().decode(child.stderr);
    assertEquals(child.code, 1, message);
    assertStringIncludes(message, "can't be built without CMake and a C++ compiler and make or ninja.");
    assertStringIncludes(message, "Install them with");
    assertEquals([...Deno.readDirSync(root)], []);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
