import { assertEquals, assertStringIncludes } from "@std/assert";
import { type Machine, toolChain } from "./tool_chains.ts";

function machine(
  there: { files?: string[]; programs?: Record<string, string>; env?: Record<string, string>; os?: string },
): Machine {
  const { files = [], programs = {}, env = {}, os = "linux" } = there;
  return {
    os,
    env: (name) => env[name],
    program: (name) => programs[name],
    exists: (path) => files.includes(path) || Object.values(programs).includes(path),
  };
}

Deno.test("the CPU needs nothing beside a C++ compiler", () => {
  assertEquals(toolChain("cpu", machine({})), undefined);
});

Deno.test("nvcc is found where it is named, in the search path, or in its own folder", () => {
  const own = "/usr/local/cuda/bin/nvcc";
  assertEquals(toolChain("cuda", machine({ files: [own] })), { found: `CUDA: ${own}` });
  assertEquals(toolChain("cuda", machine({ programs: { nvcc: "/x/nvcc" }, files: [own] })), {
    found: "CUDA: /x/nvcc",
  });
  const named = machine({ env: { CUDACXX: "/y/nvcc" }, files: ["/y/nvcc", own] });
  assertEquals(toolChain("cuda", named), { found: "CUDA: /y/nvcc" });
});

Deno.test("what is missing is named with the way to get it", () => {
  const missing = (backend: "cuda" | "vulkan" | "metal", there = {}) =>
    (toolChain(backend, machine(there)) as { missing: string }).missing;
  assertStringIncludes(missing("cuda"), "without nvcc. Install NVIDIA's CUDA toolkit");
  assertStringIncludes(missing("vulkan"), "without glslc and the Vulkan headers. Install");
  assertStringIncludes(
    missing("vulkan", { programs: { glslc: "/g" } }),
    "without the Vulkan headers. Install",
  );
  assertStringIncludes(missing("metal"), "this is linux");
});

Deno.test("Vulkan and Metal are found where they are", () => {
  const files = ["/sdk/bin/glslc", "/sdk/include/vulkan/vulkan.h"];
  const found = toolChain("vulkan", machine({ env: { VULKAN_SDK: "/sdk" }, files }));
  assertEquals(found, { found: "Vulkan: /sdk/bin/glslc, headers in /sdk/include" });
  assertEquals(toolChain("metal", machine({ os: "darwin" })), { found: "Metal: of this macOS" });
});
