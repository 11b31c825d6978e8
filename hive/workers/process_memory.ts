/** What worker processes hold of the machine's memory, as the kernel counts it. */
import { WORKER_MEMORY_LOOK_TIMEOUT_MS } from "../limits.ts";

const LINE = /^\/proc\/(\d+)\/status:(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB$/;
const BYTES_PER_KB = 1_024;
const MB = 1_000_000;

/** Whether {@linkcode privateMemory} can tell on this system. macOS does not tell the pages of mapped files apart. */
export const TELLS_PRIVATE_MEMORY = Deno.build.os === "linux";

/**
 * MB that no file stands behind, by pid: anonymous and shared memory, in RAM or swapped out. Processes that are over
 * are left out.
 *
 * @throws {Error} when nobody can look.
 */
export async function privateMemory(pids: readonly number[]): Promise<Map<number, number>> {
  if (!TELLS_PRIVATE_MEMORY || pids.length === 0) return new Map();
  // Deno opens `/proc` to nobody but a program with all permissions; one small program looks at all of them.
  const { stdout } = await new Deno.Command("grep", {
    args: ["-sHE", "^(RssAnon|RssShmem|VmSwap):", ...pids.map((pid) => `/proc/${pid}/status`)],
    env: { LC_ALL: "C" },
    clearEnv: true,
    stdin: "null",
    stderr: "null",
    signal: AbortSignal.timeout(WORKER_MEMORY_LOOK_TIMEOUT_MS),
  }).output();
  return parsePrivateMemory(new TextDecoder().decode(stdout));
}

/** Reads what {@linkcode privateMemory} asks for. */
export function parsePrivateMemory(text: string): Map<number, number> {
  const found = new Map<number, number>();
  for (const line of text.split("\n")) {
    const [, pid, kb] = LINE.exec(line) ?? [];
    if (pid === undefined) continue;
    found.set(Number(pid), (found.get(Number(pid)) ?? 0) + Number(kb) * BYTES_PER_KB / MB);
  }
  return found;
}
