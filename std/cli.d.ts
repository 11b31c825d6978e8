/** Options of {@linkcode parseArgs}. */
export interface ParseArgsOptions {
  /** Flags that take no value. */
  boolean?: readonly string[];
  /** Flags whose value stays text. */
  string?: readonly string[];
  /** Flags that may be given several times: their value is a list. */
  collect?: readonly string[];
  /** Other names of a flag. */
  alias?: Record<string, string | readonly string[]>;
  /** Told of what is not declared; `false` leaves it out of the result. `key` is absent for positional arguments. */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

/** Splits a command line; flags by name, the rest under `_`. */
export declare function parseArgs(
  args: readonly string[],
  options?: ParseArgsOptions,
): { _: (string | number)[] } & Record<string, unknown>;
