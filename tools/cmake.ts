/** How the engine is configured and compiled: the tools needed, and CMake's commands as cmake-js makes them. */
import { createRequire } from "node:module";
import type { Backend, BuildChoice } from "./build_stamp.ts";
import { hasProgram } from "./command.ts";
import { LLAMA_RELEASE } from "./llama_release.ts";

/** Sanitizers that everything can be built with; `address` brings `undefined` along for our own files. */
export type Sanitizer = "address" | "thread" | "undefined";

/** Compiles our own files and links nothing, for machines that have a backend's compiler but not its libraries. */
const OWN_FILES_TARGET = "rbee_own_files";

/** What CMake is asked for. */
export interface CmakeRequest extends BuildChoice {
  /** The project's root. */
  root: string;
  /** Where CMake works. */
  folder: string;
  /** The target to build. */
  target: string;
  /** See {@linkcode Sanitizer}. */
  sanitize?: Sanitizer;
  /** For other machines than this: these backends instead of `backend`, each a library beside the addon. */
  portable?: readonly Backend[];
}

/** The two command lines of a build; both run in `folder`. */
export interface CmakeCommands {
  /** Makes the build files. */
  configure: string[];
  /** Compiles and links. */
  build: string[];
  /** Environment both need. */
  env: Record<string, string>;
}

/** The part of cmake-js used here; the package has no types. */
interface CmakeJs {
  BuildSystem: new (options: Record<string, unknown>) => {
    options: Record<string, unknown>;
    getConfigureCommand(): Promise<string[]>;
    getBuildCommand(): Promise<string[]>;
  };
}

const require = createRequire(import.meta.url);

/** What has to be installed before the engine can be built, in words; `undefined` when all is there. */
export function missingTools(): string | undefined {
  const missing = [
    { name: "CMake", present: hasProgram("cmake") },
    { name: "a C++ compiler", present: hasProgram("g++") || hasProgram("clang++") },
    { name: "make or ninja", present: hasProgram("make") || hasProgram("ninja") },
  ].filter((tool) => !tool.present).map((tool) => tool.name);
  if (missing.length === 0) return undefined;
  return `The engine can't be built without ${missing.join(" and ")}. ${installAdvice()}`;
}

/**
 * The commands for `request`. cmake-js would download Node's headers; N-API needs none of them but the few that
 * come with cmake-js itself, which is what `isNodeApi` stands for.
 */
export async function cmakeCommands(request: CmakeRequest): Promise<CmakeCommands> {
  const { BuildSystem } = require("cmake-js") as CmakeJs;
  const system = new BuildSystem({
    directory: request.root,
    out: request.folder,
    config: "Release",
    target: request.target,
    parallel: navigator.hardwareConcurrency,
    cMakeOptions: definitions(request),
    noLog: true,
  });
  system.options.isNodeApi = true;
  return {
    configure: await system.getConfigureCommand(),
    build: await system.getBuildCommand(),
    env: environment(request.root),
  };
}

/** Where CMake puts the program or library `target`. */
export function targetPath(request: CmakeRequest): string {
  if (request.target === "rbee_engine") return `${request.folder}/Release/rbee_engine.node`;
  if (request.target === OWN_FILES_TARGET) return `${request.folder}/librbee_native.a`;
  return isPeer(request.target)
    ? `${request.folder}/bin/${request.target}`
    : `${request.folder}/${request.target}`;
}

function definitions(request: CmakeRequest): Record<string, string> {
  const { include } = require("node-addon-api") as { include: string };
  const launcher = hasProgram("ccache") ? "ccache" : "";
  return {
    RBEE_BACKENDS: (request.portable ?? [request.backend]).join(";"),
    RBEE_PORTABLE: request.portable ? "ON" : "OFF",
    RBEE_SANITIZE: request.sanitize ?? "",
    RBEE_LLAMA_COMMIT: LLAMA_RELEASE.commit,
    RBEE_NODE_ADDON_API: include.replaceAll('"', ""),
    // Never switched off again by a later build, as that would throw the configuration away each time.
    ...(isPeer(request.target) ? { RBEE_PEERS: "ON" } : {}),
    RBEE_OWN_FILES: request.target === OWN_FILES_TARGET ? "ON" : "OFF",
    ...(request.cudaArch ? { CMAKE_CUDA_ARCHITECTURES: request.cudaArch } : {}),
    CMAKE_C_COMPILER_LAUNCHER: launcher,
    CMAKE_CXX_COMPILER_LAUNCHER: launcher,
    CMAKE_CUDA_COMPILER_LAUNCHER: launcher,
  };
}

/** llama.cpp's own programs, built to compare against. */
function isPeer(target: string): boolean {
  return target.startsWith("llama-");
}

function environment(root: string): Record<string, string> {
  return {
    // llama.cpp asks git for its commit; without a repository of its own it must not be told ours.
    GIT_CEILING_DIRECTORIES: `${root}/worker/native`,
    NINJA_STATUS: "[%f/%t] ",
    // The same sources in another folder are the same sources.
    CCACHE_BASEDIR: root,
    CCACHE_NOHASHDIR: "1",
  };
}

function installAdvice(): string {
  if (Deno.build.os === "darwin") return "Install them with: xcode-select --install && brew install cmake";
  if (hasProgram("apt-get")) return "Install them with: sudo apt-get install -y cmake g++ make";
  if (hasProgram("dnf")) return "Install them with: sudo dnf install -y cmake gcc-c++ make";
  if (hasProgram("pacman")) return "Install them with: sudo pacman -S cmake gcc make";
  return "Install them with your system's package manager.";
}
