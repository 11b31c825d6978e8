/** What the tasks that build something have in common: usage, Ctrl+C, and how a failure is told. */
import { BuildError } from "./build_error.ts";

/** Exit status for a command line that makes no sense. */
export const USAGE_STATUS = 2;
/** Exit status after Ctrl+C, as shells have it. */
export const INTERRUPTED_STATUS = 130;

/**
 * Does what `request` asks for, telling a person on standard error; returns the exit status. A request that is a text
 * says why it can't be one, and is followed by `usage`.
 */
export async function taskMain<Request extends object>(
  request: Request | string,
  { usage, work }: { usage: string; work: (request: Request, signal: AbortSignal) => Promise<void> },
): Promise<number> {
  if (typeof request === "string") {
    console.error(`${request}\n\n${usage}`);
    return USAGE_STATUS;
  }
  const interrupt = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(name, () => interrupt.abort());
  try {
    await work(request, interrupt.signal);
    return 0;
  } catch (error) {
    if (interrupt.signal.aborted) return INTERRUPTED_STATUS;
    if (!(error instanceof BuildError)) throw error;
    console.error(error.message);
    return 1;
  }
}
