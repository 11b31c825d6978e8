/** Entrants that several rows are made of. */
import type { Entrant, RunningContender, Target } from "./row.ts";
import { type InferenceServer, type ServerSetup, startPeer, startWorker } from "./server.ts";

/** What is done with a running server for one figure. */
export type Load = (server: InferenceServer) => Promise<number>;

/** Where a row tries each program at its best: with one core and with both. */
export const BOTH_THREADS: readonly number[] = [1, 2];

/** How a server takes part. */
export interface ServerEntrant {
  load: Load;
  /** Beside the model and the threads. */
  setup?: Omit<ServerSetup, "model" | "threads">;
  threads?: readonly number[];
  target?: Target;
  /** What sets it apart from another entry of the same program. */
  detail?: string;
}

/** Our worker, started once for all rounds. */
export function rbee(entrant: ServerEntrant): Entrant {
  return serverEntrant("rbee", startWorker, entrant);
}

/** llama-server, started once for all rounds. */
export function llamaServer(entrant: ServerEntrant): Entrant {
  return serverEntrant("llama-server", startPeer, entrant);
}

function serverEntrant(
  name: string,
  startServer: typeof startWorker,
  { load, setup, threads, target, detail }: ServerEntrant,
): Entrant {
  return {
    program: named(name, detail),
    threads,
    target,
    async start(given): Promise<RunningContender> {
      const server = await startServer({ ...given, ...setup });
      return {
        command: server.command,
        run: () => load(server),
        [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
      };
    },
  };
}

function named(program: string, detail?: string): string {
  return detail === undefined ? program : `${program}, ${detail}`;
}
