/** Ctrl+C: the first one asks politely, the second one leaves at once. */

/** Exit code after Ctrl+C. */
export const INTERRUPTED_EXIT_CODE = 130;
/** Exit code after SIGTERM, which is otherwise treated the same. */
const TERMINATED_EXIT_CODE = 143;

/** Thrown by whatever was going on; its message is shown as it stands. */
export class Interrupted extends Error {
  /** What the process exits with. */
  readonly exitCode: number;

  /** `message` tells what became of the work. */
  constructor(message = "Canceled.", exitCode: number = INTERRUPTED_EXIT_CODE) {
    super(message);
    this.name = "Interrupted";
    this.exitCode = exitCode;
  }
}

/** Turns signals into an abort. Disposing gives the signals back to the system. */
export interface InterruptWatch extends Disposable {
  /** Aborts with an {@linkcode Interrupted}. */
  readonly signal: AbortSignal;
}

/** Watches for Ctrl+C and SIGTERM. `beforeLeaving` runs when the second one ends the process. */
export function watchInterrupts(beforeLeaving: () => void): InterruptWatch {
  const controller = new AbortController();
  const handlers = ([["SIGINT", INTERRUPTED_EXIT_CODE], ["SIGTERM", TERMINATED_EXIT_CODE]] as const).map(
    ([name, exitCode]) => {
      const handler = () => {
        if (controller.signal.aborted) {
          beforeLeaving();
          Deno.exit(exitCode);
        }
        controller.abort(new Interrupted(undefined, exitCode));
      };
      Deno.addSignalListener(name, handler);
      return [name, handler] as const;
    },
  );
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const [name, handler] of handlers) Deno.removeSignalListener(name, handler);
    },
  };
}
