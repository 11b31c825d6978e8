/** The courtesy to other programs: idle workers leave when free memory sinks below the reserve. */
import type { Logger } from "../daemon/log.ts";
import { type Clock, sleep } from "../daemon/clock.ts";
import type { MachineMemory } from "./hardware.ts";
import { MEMORY_TOLD_CHANGE, MEMORY_WATCH_INTERVAL_MS } from "./limits.ts";

/** Options of {@linkcode watchMemory}. */
export interface WatchMemoryOptions {
  /** MB that stay free for other programs. */
  reserveMb: number;
  /** The machine's memory. */
  memory: () => MachineMemory;
  /** The workers that can give some back. */
  workers: { readonly freeRamMb: number; relieve(missingMb: number): Promise<void> };
  /** Told when free memory has changed noticeably. */
  onChange: (figures: MachineMemory & { reserve_mb: number }) => void;
  /** Ends the watch; it then resolves. */
  signal: AbortSignal;
  /** For pauses. */
  clock: Clock;
  /** Told what went wrong. */
  log: Logger;
}

/** Looks every {@linkcode MEMORY_WATCH_INTERVAL_MS} until the signal ends it. Never throws. */
export async function watchMemory(options: WatchMemoryOptions): Promise<void> {
  const { workers, reserveMb, signal, clock, log } = options;
  let toldMb = NaN;
  while (!signal.aborted) {
    const { total_mb, free_mb } = options.memory();
    if (!(Math.abs(free_mb - toldMb) <= MEMORY_TOLD_CHANGE * total_mb)) {
      toldMb = free_mb;
      options.onChange({ total_mb, free_mb, reserve_mb: reserveMb });
    }
    const missingMb = reserveMb - workers.freeRamMb;
    if (missingMb > 0) {
      await workers.relieve(missingMb).catch((error) => log.error("no memory given back", { error }));
    }
    await sleep(clock, MEMORY_WATCH_INTERVAL_MS, signal).catch(() => {});
  }
}
