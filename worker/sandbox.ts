/** Confines the worker's process once its model and its socket are open: what stays allowed, and what came of it. */
import { join } from "@std/path";
import type { Logger } from "../daemon/log.ts";
import { INSTALLATION, IS_BUNDLED } from "../home/installation.ts";
import type { Environment } from "../home/paths.ts";
import type { Sandbox } from "../protocol/worker_schemas.ts";
import { loadAddon, type NativeSandboxReport, type SandboxPaths } from "./native/addon.ts";
import type { WorkerOptions } from "./options.ts";

/** What of the options the sandbox depends on. */
export type SandboxOptions = Pick<WorkerOptions, "sandbox" | "model" | "draftModel" | "backend">;

/**
 * Confines this process for good, unless the options say otherwise. Blocks for some milliseconds. Never throws for what
 * the system lacks: the log and the result name it.
 */
export function confineWorker(options: SandboxOptions, log: Logger): Sandbox {
  if (options.sandbox === "off") {
    log.warn("the engine is not confined: --sandbox off");
    const problems = ["It was switched off by --sandbox off"];
    return { state: "off", landlock_abi: 0, landlock: false, seccomp: false, no_new_privs: false, problems };
  }
  const sandbox = describe(loadAddon().confine(sandboxPaths(options, Deno.env)));
  if (sandbox.state === "on") log.info("the engine is confined", { sandbox });
  else log.warn("the engine is not fully confined", { sandbox });
  return sandbox;
}

function describe(report: NativeSandboxReport): Sandbox {
  const { landlock, seccomp } = report;
  return {
    state: landlock && seccomp ? "on" : landlock || seccomp ? "partial" : "unavailable",
    landlock_abi: report.support.landlockAbi,
    landlock,
    seccomp,
    no_new_privs: report.noNewPrivs,
    problems: report.problems,
  };
}

/** What V8, Deno and the C library look at while they run. */
const SYSTEM = [
  "/proc/self",
  "/proc/cpuinfo",
  "/proc/loadavg",
  "/proc/meminfo",
  "/proc/stat",
  "/proc/sys/vm/overcommit_memory",
  "/sys/devices/system",
  "/sys/fs/cgroup",
  "/dev/null",
  "/dev/random",
  "/dev/urandom",
  "/dev/zero",
  "/etc/ld.so.cache",
  "/etc/localtime",
  "/lib",
  "/lib64",
  "/usr/lib",
  "/usr/lib64",
  "/usr/share/zoneinfo",
];

/** What GPU drivers look at, also in the midst of their work. */
const DRIVERS = [
  "/etc/OpenCL",
  "/etc/glvnd",
  "/etc/nvidia",
  "/etc/vulkan",
  "/opt",
  "/proc/devices",
  "/proc/driver",
  "/proc/modules",
  "/run/nvidia-persistenced",
  "/sys",
  "/usr/local",
  "/usr/share",
];

/** Where drivers keep compiled kernels and shaders, below the cache folder. */
const DRIVER_CACHES = ["mesa_shader_cache", "mesa_shader_cache_db", "nvidia", "radv_builtin_shaders"];

/** What a loaded worker may still read and write. */
export function sandboxPaths(options: SandboxOptions, env: Environment): SandboxPaths {
  const { model, draftModel, backend } = options;
  const home = env.get("HOME") ?? "/";
  const cache = env.get("XDG_CACHE_HOME") || join(home, ".cache");
  const read = [...SYSTEM, model, ...draftModel === undefined ? [] : [draftModel], INSTALLATION];
  if (!IS_BUNDLED) {
    // Modules that are imported when they are first needed.
    const deno = env.get("DENO_DIR") || join(cache, "deno");
    read.push(...["npm", "gen", "remote"].map((folder) => join(deno, folder)));
  }
  if (backend === "cpu") return { read, write: [] };
  read.push(...DRIVERS, ...(env.get("LD_LIBRARY_PATH") ?? "").split(":").filter((path) => path !== ""));
  return {
    read,
    write: [
      "/dev/dri",
      "/dev/nvidia*",
      "/dev/shm",
      env.get("CUDA_CACHE_PATH") || join(home, ".nv"),
      ...DRIVER_CACHES.map((folder) => join(cache, folder)),
    ],
  };
}
