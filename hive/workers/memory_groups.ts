/**
 * A limit of memory that the kernel itself keeps: a control group (cgroup v2) for each worker. A group that has
 * controllers for its children may hold no processes of its own, so the hive must have been started in a group below
 * one that was given to it; systemd does that with `Delegate=` and `DelegateSubgroup=`. The hive never moves itself.
 */
import type { Logger } from "../../daemon/log.ts";
import { WORKER_OOM_SCORE_ADJ } from "../limits.ts";

const MB = 1_000_000;
const GROUP_PREFIX = "rbee-worker-";
/** Groups of systemd's own: what lies beside them is systemd's as well. */
const OF_SYSTEMD = /\.(service|scope|slice)$/;

/** Where groups can be made, or why not. */
export type GroupHome = { path: string } | { reason: string };

/**
 * The group that the hive's own one lies in, from `/proc/self/cgroup` and `/proc/self/mountinfo`. Pure: whether it was
 * really given to the hive shows when it is used.
 */
export function findGroupHome(cgroup: string, mountinfo: string): GroupHome {
  const own = /^0::(.*)$/m.exec(cgroup)?.[1];
  const mount = mountinfo.split("\n").map((line) => line.split(" ")).find((fields) =>
    fields[fields.indexOf("-") + 1] === "cgroup2"
  )?.[4];
  if (own === undefined || mount === undefined) return { reason: "there are no control groups of version 2" };
  const leaf = own.slice(own.lastIndexOf("/") + 1);
  if (leaf === "" || OF_SYSTEMD.test(leaf)) {
    return { reason: "the hive was not started in a subgroup of its own (DelegateSubgroup= of systemd 254)" };
  }
  return { path: `${mount}${own.slice(0, -leaf.length - 1)}` };
}

/** Takes the home over: nobody else in it, the memory controller there, groups of workers that are gone removed. */
const PREPARE = `cd "$1" || exit
[ -z "$(cat cgroup.procs)" ] || { echo "$1 holds processes of its own" >&2; exit 1; }
grep -qw memory cgroup.controllers || { echo "$1 has no memory controller" >&2; exit 1; }
echo +memory > cgroup.subtree_control || exit
for group in ${GROUP_PREFIX}*; do rmdir "$group" 2> /dev/null; done
exit 0`;

/** The limit stands before the process comes. Swap would only hide that it has been reached. */
const ENTER = `mkdir -p "$1" || exit
echo "$2" > "$1/memory.max" || exit
echo 1 > "$1/memory.oom.group"
[ ! -e "$1/memory.swap.max" ] || echo 0 > "$1/memory.swap.max"
[ ! -e "/proc/$3" ] || echo "$3" > "$1/cgroup.procs"`;

const LIMIT = `echo "$2" > "$1/memory.max"`;

const EVENTS = `cat "$1/memory.events"`;

/** A process that has just ended may be in it for a moment still; what stays is removed by the next hive. */
const REMOVE = `for wait in 0 0.05 0.2 1; do sleep $wait; rmdir "$1" 2> /dev/null && break; done
exit 0`;

const RAISE_OOM_SCORE = `[ ! -e "/proc/$1" ] || echo "$2" > "/proc/$1/oom_score_adj"`;

/** Options of {@linkcode MemoryGroups}. */
export interface MemoryGroupsOptions {
  /** Where groups are made. Default: looked for, see {@linkcode findGroupHome}. */
  home?: () => Promise<GroupHome>;
  log: Logger;
}

/** The groups of this hive's workers. Nothing here throws: without them the hive's own looks at memory remain. */
export class MemoryGroups {
  readonly #options: MemoryGroupsOptions;
  #home: Promise<GroupHome> | undefined;

  /** Nothing happens before the first call. */
  constructor(options: MemoryGroupsOptions) {
    this.#options = options;
  }

  /** Where they are made, or why there are none; found out and logged once. */
  home(): Promise<GroupHome> {
    return this.#home ??= this.#prepare();
  }

  /** Makes a worker the first that the kernel ends when memory runs out, and gives it a group with a limit. */
  async enter(worker: { id: string; pid: number; limitMb: number }): Promise<void> {
    const { id, pid, limitMb } = worker;
    if (Deno.build.os !== "linux") return;
    await this.#try(id, RAISE_OOM_SCORE, [String(pid), String(WORKER_OOM_SCORE_ADJ)]);
    const path = await this.#pathOf(id);
    if (path !== undefined) await this.#try(id, ENTER, [path, bytesOf(limitMb), String(pid)]);
  }

  /** Another limit, now that more is known of the worker. */
  async limit(id: string, limitMb: number): Promise<void> {
    const path = await this.#pathOf(id);
    if (path !== undefined) await this.#try(id, LIMIT, [path, bytesOf(limitMb)]);
  }

  /** Whether the kernel has ended a worker at its limit. */
  async hasKilled(id: string): Promise<boolean> {
    const path = await this.#pathOf(id);
    return path !== undefined && /^oom_kill [1-9]/m.test((await shell(EVENTS, [path])).output);
  }

  /** Removes the group of a worker that is over. */
  async remove(id: string): Promise<void> {
    const path = await this.#pathOf(id);
    if (path !== undefined) await shell(REMOVE, [path]);
  }

  async #pathOf(id: string): Promise<string | undefined> {
    const home = await this.home();
    return "path" in home ? `${home.path}/${GROUP_PREFIX}${id}` : undefined;
  }

  async #prepare(): Promise<GroupHome> {
    const home = await (this.#options.home ?? ownGroupHome)();
    const failed = "path" in home ? (await shell(PREPARE, [home.path])).error : home.reason;
    if (failed === undefined) {
      this.#options.log.info("the kernel limits the memory of workers", home);
      return home;
    }
    this.#options.log.info("the kernel does not limit the memory of workers: the hive watches it alone", {
      reason: failed,
    });
    return { reason: failed };
  }

  async #try(id: string, script: string, args: readonly string[]): Promise<void> {
    const { error } = await shell(script, args);
    if (error === undefined) return;
    this.#options.log.warn("a worker's memory is not limited as it should be", { worker_id: id, error });
  }
}

async function ownGroupHome(): Promise<GroupHome> {
  if (Deno.build.os !== "linux") return { reason: "only Linux has control groups" };
  const [cgroup, mountinfo] = await Promise.all(
    ["/proc/self/cgroup", "/proc/self/mountinfo"].map(async (path) =>
      (await shell('cat "$1"', [path])).output
    ),
  );
  return findGroupHome(cgroup, mountinfo);
}

function bytesOf(mb: number): string {
  return String(Math.ceil(mb * MB));
}

/** A shell, because Deno opens `/proc` and `/sys` to nobody but a program with all permissions. Never throws. */
async function shell(
  script: string,
  args: readonly string[],
): Promise<{ output: string; error: string | undefined }> {
  try {
    const { success, code, stdout, stderr } = await new Deno.Command("sh", {
      args: ["-c", script, "sh", ...args],
      stdin: "null",
    }).output();
    const decoder = new TextDecoder();
    const error = success ? undefined : decoder.decode(stderr).trim() || `exit code ${code}`;
    return { output: decoder.decode(stdout), error };
  } catch (error) {
    return { output: "", error: String(error) };
  }
}
