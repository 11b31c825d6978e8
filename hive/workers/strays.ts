/**
 * Workers that this home's hives started and no row tells of: the registry was lost. Without their keys they can't be
 * adopted, and holding memory that nobody knows of they must not stay.
 */
import type { Logger } from "../../daemon/log.ts";
import type { Clock } from "../../daemon/clock.ts";
import { findLogs } from "../logs/old_logs.ts";
import type { Processes } from "./process.ts";
import { stopProcess } from "./stop.ts";

/** Ends them all, by SIGTERM: what they generate is finished. Waits until they are over. */
export async function endStrays(
  options: { home: string; known: ReadonlySet<string>; processes: Processes; clock: Clock; log: Logger },
): Promise<void> {
  const { home, known, processes, clock } = options;
  // An id is random: a process that has one on its command line whose log is in this home is this home's.
  const logs = new Set((await findLogs(home, known)).map(({ workerId }) => workerId));
  if (logs.size === 0) return;
  const strays = (await processes.workers()).filter(({ workerId }) => logs.has(workerId));
  await Promise.all(strays.map(async ({ pid, workerId }) => {
    const log = options.log.child({ worker_id: workerId });
    const process = await processes.attach(pid, { clock });
    if (process === undefined) return;
    log.warn("worker that no registry knows has to go", { pid });
    await stopProcess(process, { busy: true, hurry: new AbortController().signal, clock, log });
  }));
}
