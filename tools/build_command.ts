/** The command line of `deno task build`. */
import { parseArgs } from "node:util";
import { type Backend, type BuildPaths, lastChoice } from "./build_stamp.ts";
import type { Sanitizer } from "./cmake.ts";
import { ADDON_TARGET, type BuildRequest, buildTarget } from "./compile.ts";
import { taskMain } from "./task_main.ts";

const USAGE = `Usage: deno task build [options]

  --backend cpu|cuda|metal|vulkan  What the engine computes on. Default: as built last, else cpu (macOS: metal)
  --cuda-arch LIST                 CUDA architectures, as 90 or "80;90". Default: those of this machine
  --if-needed                      Do nothing when the sources are those of the last build
  --target NAME                    Another target: engine_test, engine_stress, a program of llama.cpp
                                   (llama-server), or rbee_own_files: our files compiled, nothing linked, for
                                   machines that have a backend's compiler but not its libraries
  --sanitize address|thread|undefined
                                   Build everything with a sanitizer; for another target than the engine`;

/** All that there are. */
export const BACKENDS: readonly Backend[] = ["cpu", "cuda", "metal", "vulkan"];
const SANITIZERS: readonly Sanitizer[] = ["address", "thread", "undefined"];

/** Builds what `argv` asks for, telling a person on standard error; returns the exit status. */
export async function buildCommand(paths: BuildPaths, argv: string[]): Promise<number> {
  const work = async (request: BuildRequest, signal: AbortSignal) =>
    void await buildTarget(paths, request, { signal });
  return await taskMain(parseRequest(paths, argv), { usage: USAGE, work });
}

/** What is asked for, or in words why it can't be. */
export function parseRequest(paths: BuildPaths, argv: string[]): BuildRequest | string {
  try {
    const { values } = parseArgs({
      args: argv,
      options: {
        "backend": { type: "string" },
        "cuda-arch": { type: "string" },
        "if-needed": { type: "boolean", default: false },
        "target": { type: "string", default: ADDON_TARGET },
        "sanitize": { type: "string" },
      },
    });
    const last = lastChoice(paths);
    const backend = oneOf(BACKENDS, values, "backend") ?? last.backend;
    const sanitize = oneOf(SANITIZERS, values, "sanitize");
    if (sanitize && values.target === ADDON_TARGET) return "--sanitize needs --target engine_test.";
    return {
      backend,
      cudaArch: values["cuda-arch"] ?? (backend === last.backend ? last.cudaArch : undefined),
      sanitize,
      target: values.target,
      ifNeeded: values["if-needed"],
    };
  } catch (error) {
    if (error instanceof TypeError) return error.message;
    throw error;
  }
}

function oneOf<T extends string>(allowed: readonly T[], values: Record<string, unknown>, name: string) {
  const value = values[name];
  if (value === undefined) return undefined;
  const found = allowed.find((one) => one === value);
  if (!found) throw new TypeError(`--${name} is "${value}"; expected ${allowed.join(", ")}.`);
  return found;
}
