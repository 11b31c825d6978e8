/**
 * A copy of the checkout whose engine is built with the address sanitizer, for workers that run in Deno as in earnest. The
 * sanitizer's library has to be there before anything else of the process, so it is preloaded.
 */
import { join } from "@std/path";
import { buildPaths } from "../../tools/build_stamp.ts";
import { ADDON_TARGET, buildTarget } from "../../tools/compile.ts";
import { projectRoot } from "../../tools/project_files.ts";

/** What a worker needs beside the engine. */
const PARTS = ["deno.json", "deno.lock", "protocol", "home", "daemon", "std", "worker"];
const NATIVE = "worker/native";
/** Reports of sanitizers in a program's output. */
const REPORT = /^.*(?:ERROR: \w+Sanitizer|: runtime error: ).*$/gm;

/** Where such workers are started, and with what environment. */
export interface SanitizedCheckout {
  root: string;
  env: Readonly<Record<string, string>>;
}

/** Builds the engine with the sanitizer and copies what a worker needs to `folder`. */
export async function sanitizedCheckout(folder: string): Promise<SanitizedCheckout> {
  const root = projectRoot();
  const request = { backend: "cpu", sanitize: "address", target: ADDON_TARGET, ifNeeded: false } as const;
  const addon = await buildTarget(buildPaths(root), request);
  await Deno.mkdir(folder, { recursive: true });
  for (const part of PARTS) await copy(join(root, part), join(folder, part));
  await Deno.mkdir(join(folder, NATIVE, "build"), { recursive: true });
  await Deno.copyFile(addon, join(folder, NATIVE, "build/rbee_engine.node"));
  return {
    root: folder,
    env: {
      LD_PRELOAD: (await Promise.all(["libasan.so", "libubsan.so"].map(library))).join(":"),
      // V8 handles faults itself, and memory that it keeps until exit is not a leak. Our operator new stands on malloc, and
      // those of its kinds that we do not have are the sanitizer's own.
      ASAN_OPTIONS: "detect_leaks=0:handle_segv=1:allow_user_segv_handler=1:quarantine_size_mb=32:" +
        "abort_on_error=0:alloc_dealloc_mismatch=0",
      UBSAN_OPTIONS: "print_stacktrace=1",
    },
  };
}

/** The reports that a worker has written. */
export function findingsIn(logs: string): string[] {
  return [...logs.matchAll(REPORT)].map(([line]) => line.slice(0, 300));
}

/** Of `worker/native` only the modules: the rest is large, and not needed. */
async function copy(from: string, to: string): Promise<void> {
  if (!(await Deno.stat(from)).isDirectory) return await Deno.copyFile(from, to);
  await Deno.mkdir(to, { recursive: true });
  const native = from.endsWith(NATIVE);
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (native && isDirectory) continue;
    await copy(join(from, name), join(to, name));
  }
}

async function library(name: string): Promise<string> {
  const { stdout } = await new Deno.Command("g++", { args: [`-print-file-name=${name}`] }).output();
  return await Deno.realPath(new TextDecoder().decode(stdout).trim());
}
