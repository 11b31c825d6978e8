/** What the doctor found, and how facts are judged. Pure. */
import type { SandboxSupport, WorkerInfo } from "../../protocol/hive_schemas.ts";
import { CLOCK_SKEW_SECONDS, DISK_LOW_MB, MEMORY_LOW_MB } from "../limits.ts";
import { bytes } from "../progress.ts";

/** One of them. */
export interface Finding {
  /** What was looked at: `home`, `engine`, `node mac`. */
  check: string;
  level: "ok" | "warning" | "problem";
  /** What is so. */
  what: string;
  /** What to do about it; absent when all is well. */
  remedy?: string;
}

/** All is well. */
export function ok(check: string, what: string): Finding {
  return { check, level: "ok", what };
}

/** It works, but perhaps not for long, or not as one would wish. */
export function warning(check: string, what: string, remedy: string): Finding {
  return { check, level: "warning", what, remedy };
}

/** It does not work. */
export function problem(check: string, what: string, remedy: string): Finding {
  return { check, level: "problem", what, remedy };
}

const BYTES_PER_MB = 1e6;

/** Free memory of a machine. */
export function judgeMemory(check: string, memory: { free_mb: number; total_mb: number }): Finding {
  const what = `${bytes(memory.free_mb * BYTES_PER_MB)} of ${
    bytes(memory.total_mb * BYTES_PER_MB)
  } of memory are free`;
  if (memory.free_mb >= MEMORY_LOW_MB) return ok(check, what);
  return warning(check, what, "Close other programs, or use small models and a small --ctx-size.");
}

/** Free disk where models lie. */
export function judgeDisk(check: string, disk: { free_mb: number; models_dir: string }): Finding {
  const what = `${bytes(disk.free_mb * BYTES_PER_MB)} are free for models in ${disk.models_dir}`;
  if (disk.free_mb >= DISK_LOW_MB) return ok(check, what);
  return warning(
    check,
    what,
    "Make room: rbee-keeper models prune --keep-gb N removes what was not used for longest.",
  );
}

/** Another machine's clock, by what it and we say at the same moment. */
export function judgeClock(check: string, clocks: { theirsMs: number; oursMs: number }): Finding {
  const seconds = Math.round((clocks.theirsMs - clocks.oursMs) / 1000);
  if (Math.abs(seconds) <= CLOCK_SKEW_SECONDS) return ok(check, "its clock and this machine's agree");
  const how = seconds > 0 ? "ahead of" : "behind";
  return warning(
    check,
    `its clock is ${Math.abs(seconds)} s ${how} this machine's`,
    "Let both follow a time server (on Linux: timedatectl set-ntp true).",
  );
}

/** A hive's version beside this keeper's. */
export function judgeVersion(check: string, versions: { theirs: string; ours: string }): Finding {
  if (versions.theirs === versions.ours) return ok(check, `version ${versions.theirs}`);
  return problem(
    check,
    `its version is ${versions.theirs}, this keeper's is ${versions.ours}`,
    "Upgrade the older one and restart its hive.",
  );
}

/** What a machine's kernel has to confine workers with; undefined: its hive doesn't say. */
export function judgeSandboxSupport(check: string, support: SandboxSupport | undefined): Finding[] {
  if (support === undefined) return [];
  const { landlock_abi: abi, seccomp } = support;
  if (abi > 0 && seccomp) return [ok(check, `its kernel can confine workers (landlock ${abi}, seccomp)`)];
  const missing = [...abi > 0 ? [] : ["landlock"], ...seccomp ? [] : ["seccomp"]].join(" and no ");
  return [warning(
    check,
    `its kernel cannot confine workers fully: it has no ${missing}`,
    "On Linux, use 5.13 or later with landlock among its security modules (lsm=); a container's profile must allow " +
      "landlock and seccomp. No other system has them: load only models that you trust there.",
  )];
}

/** Whether a worker is confined, as its hive last heard. */
export function judgeWorkerSandbox(check: string, worker: WorkerInfo): Finding[] {
  const { sandbox } = worker;
  if (sandbox === undefined || sandbox.state === "on") return [];
  const how = sandbox.state === "partial" ? "only partly confined" : "not confined";
  return [warning(
    check,
    `worker ${worker.worker_id} (${worker.model_ref}) is ${how}: ${sandbox.problems.join("; ")}`,
    sandbox.state === "off"
      ? "Take worker_sandbox: off out of that node's configuration, restart its hive, and stop the worker."
      : "See SECURITY.md, Containment of the engine. Load only models that you trust there.",
  )];
}

/** The mode of what only its owner may open. */
export function judgeMode(check: string, file: { path: string; mode: number | null }): Finding {
  const { path, mode } = file;
  if (mode === null || (mode & 0o077) === 0) return ok(check, `${path} is closed to others`);
  return problem(
    check,
    `${path} is open to others (mode 0${(mode & 0o777).toString(8)})`,
    `Run: chmod go= ${path}`,
  );
}
