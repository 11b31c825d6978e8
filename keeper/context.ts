/** What every command is given, and what it hands on to its phases. */
import type { Output } from "./output.ts";

/** A command's surroundings. */
export interface CommandContext {
  /** Where results and narration go. */
  output: Output;
  /** Aborts at Ctrl+C, with an `Interrupted` as its reason. */
  signal: AbortSignal;
}

/** A phase's surroundings. The signal may also stand for `--timeout`. */
export interface PhaseContext extends CommandContext {
  /** One for the whole command: found again in the log of every hop. */
  correlationId: string;
}
