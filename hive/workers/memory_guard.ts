/** Keeps every worker within its limit of memory: one look at all of them, time and again. */
import type { Logger } from "../../daemon/log.ts";
import { type Clock, sleep } from "../../daemon/clock.ts";
import { WORKER_MEMORY_INTERVAL_MS } from "../limits.ts";
import type { Processes } from "./process.ts";

/** Options of {@linkcode guardMemory}. */
export interface GuardMemoryOptions {
  workers: {
    /** Ids of the processes of all workers that are alive. */
    readonly pids: readonly number[];
    /** A worker holds so much memory of its own, in MB. */
    sawMemory(pid: number, privateMb: number): void;
  };
  processes: Pick<Processes, "privateMemory">;
  /** Ends the guard; it then resolves. */
  signal: AbortSignal;
  /** For pauses. */
  clock: Clock;
  /** Told what went wrong. */
  log: Logger;
}

/** Looks every {@linkcode WORKER_MEMORY_INTERVAL_MS} until the signal ends it. Never throws. */
export async function guardMemory(options: GuardMemoryOptions): Promise<void> {
  const { workers, processes, signal, clock, log } = options;
  let told: string | undefined;
  while (!signal.aborted) {
    const { pids } = workers;
    try {
      const held = pids.length === 0 ? new Map<number, number>() : await processes.privateMemory(pids);
      if (signal.aborted) return;
      for (const [pid, privateMb] of held) workers.sawMemory(pid, privateMb);
      told = undefined;
    } catch (error) {
      if (String(error) !== told) log.error("memory of the workers cannot be watched", { error });
      told = String(error);
    }
    await sleep(clock, WORKER_MEMORY_INTERVAL_MS, signal).catch(() => {});
  }
}
