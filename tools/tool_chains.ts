/** What a backend's code is compiled with: found and named before anything is made, or told how to get. */
import type { Backend } from "./build_stamp.ts";
import { programPath } from "./command.ts";

/** What is looked at; replaced in tests. */
export interface Machine {
  os: string;
  env: (name: string) => string | undefined;
  /** Path of a program of the search path. */
  program: (name: string) => string | undefined;
  exists: (path: string) => boolean;
}

/** This one. */
export const THIS_MACHINE: Machine = {
  os: Deno.build.os,
  env: (name) => Deno.env.get(name),
  program: programPath,
  exists(path) {
    try {
      Deno.statSync(path);
      return true;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  },
};

/** A line for a person: where a backend's compiler was found, or what is missing and how to get it. */
export type ToolChain = { found: string } | { missing: string };

/** The tool chain of a backend beside the C++ compiler; nothing for the CPU, which needs no other. */
export function toolChain(backend: Backend, machine: Machine = THIS_MACHINE): ToolChain | undefined {
  switch (backend) {
    case "cpu":
      return undefined;
    case "metal":
      return machine.os === "darwin"
        ? { found: "Metal: of this macOS" }
        : { missing: `Metal is part of macOS, and this is ${machine.os}.` };
    case "cuda":
      return cuda(machine);
    case "vulkan":
      return vulkan(machine);
  }
}

function cuda({ env, program, exists }: Machine): ToolChain {
  const places = [env("CUDACXX"), program("nvcc"), "/usr/local/cuda/bin/nvcc"];
  const nvcc = places.find((path) => path !== undefined && exists(path));
  if (nvcc !== undefined) return { found: `CUDA: ${nvcc}` };
  return {
    missing:
      "CUDA code can't be compiled without nvcc. Install NVIDIA's CUDA toolkit with its development files " +
      "(its folder is /usr/local/cuda, or nvcc is in the PATH or named by CUDACXX).",
  };
}

function vulkan({ env, program, exists }: Machine): ToolChain {
  const sdk = env("VULKAN_SDK");
  const glslc = program("glslc") ??
    (sdk !== undefined && exists(`${sdk}/bin/glslc`) ? `${sdk}/bin/glslc` : undefined);
  const folders = [
    "/usr/include",
    "/usr/local/include",
    "/opt/homebrew/include",
    ...sdk === undefined ? [] : [`${sdk}/include`],
  ];
  const headers = folders.find((folder) => exists(`${folder}/vulkan/vulkan.h`));
  const missing = [
    ...glslc === undefined ? ["glslc"] : [],
    ...headers === undefined ? ["the Vulkan headers"] : [],
  ];
  if (missing.length === 0) return { found: `Vulkan: ${glslc}, headers in ${headers}` };
  return {
    missing:
      `Vulkan code can't be compiled without ${
        missing.join(" and ")
      }. Install the Vulkan SDK, or on Debian: ` +
      "sudo apt-get install -y libvulkan-dev glslc spirv-headers",
  };
}
