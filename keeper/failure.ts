/** The last stop of everything thrown: shown once, mapped to an exit code once. */
import { newCorrelationId } from "../protocol/correlation.ts";
import { RbeeError } from "../protocol/errors.ts";
import { UsageError } from "./cli.ts";
import { PROGRAM } from "./command_table.ts";
import { explain, type Place } from "./explain.ts";
import { Interrupted } from "./interrupt.ts";
import type { Output } from "./output.ts";

/** An error of the catalogue together with where it happened. */
export class PlacedError extends Error {
  /** What happened. */
  readonly error: RbeeError;
  /** Where. */
  readonly place: Place;

  /** Carries both to {@linkcode reportFailure}. */
  constructor(error: RbeeError, place: Place) {
    super(error.message, { cause: error });
    this.name = "PlacedError";
    this.error = error;
    this.place = place;
  }
}

/** Runs `work`; errors of the catalogue leave it with `place`, as far as that was filled in by then. */
export async function withPlace<T>(place: Place, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof RbeeError ? new PlacedError(error, place) : error;
  }
}

/** Shows what was thrown and returns the exit code: 1 failure, 2 usage, 130 Ctrl+C. */
export async function reportFailure(thrown: unknown, output: Output): Promise<number> {
  output.restore();
  if (thrown instanceof Interrupted) {
    output.insist(thrown.message);
    return thrown.exitCode;
  }
  if (thrown instanceof UsageError) {
    const [first, ...others] = thrown.problems;
    const help = [PROGRAM, ...thrown.path, "--help"].join(" ");
    output.error(first, [...others, `See: ${help}`]);
    return 2;
  }
  // Whoever read the answer has had enough.
  if (thrown instanceof Deno.errors.BrokenPipe) return 1;
  const placed = thrown instanceof PlacedError ? thrown : undefined;
  const error = placed?.error ?? (thrown instanceof RbeeError ? thrown : undefined);
  if (error === undefined) {
    output.error(thrown instanceof Error ? thrown.message : String(thrown));
    return 1;
  }
  if (output.json) await output.document({ error: error.toBody(newCorrelationId()) });
  const { headline, notes } = explain(error, placed?.place);
  output.error(headline, notes);
  return 1;
}
