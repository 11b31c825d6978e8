/**
 * The command line as data: what a command is, and how `argv` is read against a table of them. How flags are read
 * stands in `home/flags.ts`.
 */
import { type FlagsOf, type FlagTable, readFlags } from "../home/flags.ts";
import { nearest } from "../home/near_miss.ts";
import type { CommandContext } from "./context.ts";

/** A command's code, loaded only when it is the one asked for. */
export interface LoadedCommand<Flags> {
  /** What the table can't say about the flags: one line per mistake. Flags that are wrong already are undefined. */
  check?(flags: Partial<Flags>): string[] | Promise<string[]>;
  /** Ctrl+C is its own business: the context's signal never aborts. */
  ownInterrupts?: true;
  /** Does it; resolves to the exit code. */
  run(context: CommandContext, flags: Flags): Promise<number>;
}

/** One command: `infer`, `workers list`. */
export interface Command {
  /** Its words. */
  readonly path: readonly string[];
  /** One line, lower case, no full stop. */
  readonly summary: string;
  /** More of it, for its own help. */
  readonly details?: string;
  /** By name, without the dashes. */
  readonly flags: FlagTable;
  /** The flag whose value may stand without its name: `models rm REF`. */
  readonly bare?: string;
  /** Another name for a command that is listed; found, completed and explained, but not listed itself. */
  readonly unlisted?: true;
  /** What people type who come from another program. */
  readonly soughtAs?: readonly string[];
  /** Command lines worth showing, without the program's name. */
  readonly examples: readonly string[];
  /** Loads the code. Its flags are of the type that {@linkcode flags} gives, see {@linkcode defineCommand}. */
  readonly load: () => Promise<LoadedCommand<never>>;
}

/** Ties a table of flags to code that takes just those flags. */
export function defineCommand<const T extends FlagTable>(
  command: Omit<Command, "flags" | "bare" | "load"> & {
    flags: T;
    bare?: keyof T & string;
    load: () => Promise<LoadedCommand<FlagsOf<T>>>;
  },
): Command {
  return command;
}

/** What a command line asks for. */
export type Invocation =
  | { kind: "version" }
  /** Help for everything that starts with `path`. */
  | { kind: "help"; path: readonly string[] }
  | { kind: "command"; command: Command; flags: Record<string, unknown>; problems: string[] };

/** A command line that can't be carried out. Exit code 2. */
export class UsageError extends Error {
  /** One line per mistake. */
  readonly problems: readonly string[];
  /** Which help to point to. */
  readonly path: readonly string[];

  /** `problems` must not be empty. */
  constructor(problems: readonly string[], path: readonly string[] = []) {
    super(problems.join("\n"));
    this.name = "UsageError";
    this.problems = problems;
    this.path = path;
  }
}

/**
 * Reads a command line against the table.
 *
 * @throws {UsageError} when there is no such command. Wrong flags are in the result's `problems`.
 */
export function parseCommandLine(args: readonly string[], commands: readonly Command[]): Invocation {
  if (args[0] === "help") args = [...args.slice(1), "--help"];
  const end = args.findIndex((arg) => arg.startsWith("-"));
  const words = end < 0 ? args : args.slice(0, end);
  const wantsHelp = flagsOf(args).some((arg) => arg === "--help" || arg === "-h");

  const command = commands.find((each) => each.path.every((word, i) => word === words[i]));
  if (command !== undefined) {
    if (wantsHelp) return { kind: "help", path: command.path };
    const { path, flags, bare } = command;
    return { kind: "command", command, ...readFlags(args.slice(path.length), flags, { bare }) };
  }
  if (words.length === 0) {
    if (args.length === 0 || wantsHelp) return { kind: "help", path: [] };
    if (args[0] === "--version" || args[0] === "-V") return { kind: "version" };
    throw new UsageError([`"${args[0]}" came before any command. Name the command first.`]);
  }
  let depth = 0;
  let below = commands;
  for (; depth < words.length; depth++) {
    const next = below.filter((each) => each.path[depth] === words[depth]);
    if (next.length === 0) break;
    below = next;
  }
  const group = words.slice(0, depth);
  const known = [...new Set(below.map((each) => each.path[depth]))];
  if (depth < words.length) {
    const meant = depth === 0 ? commandsMeantBy(words[0], commands) : [];
    throw new UsageError([unknown(words.slice(0, depth + 1), { known, meant })], group);
  }
  if (wantsHelp) return { kind: "help", path: group };
  throw new UsageError([`"${group.join(" ")}" needs one of: ${known.join(", ")}.`], group);
}

/** Up to `--`: what comes after is never a flag. */
function flagsOf(args: readonly string[]): readonly string[] {
  const end = args.indexOf("--");
  return end < 0 ? args : args.slice(0, end);
}

/** Commands that a word alone may mean: by their last word, or by what other programs call them. */
function commandsMeantBy(word: string, commands: readonly Command[]): string[] {
  return commands
    .filter(({ path, unlisted, soughtAs = [] }) =>
      !unlisted && (soughtAs.includes(word) || path.length === 2 && path[1] === word)
    )
    .map(({ path }) => path.join(" "));
}

function unknown(
  given: readonly string[],
  { known, meant }: { known: readonly string[]; meant: readonly string[] },
): string {
  const near = nearest(given[given.length - 1], known);
  const likely = meant.length > 0 || near === undefined ? meant : [[...given.slice(0, -1), near].join(" ")];
  const advice = likely.length === 0
    ? `Known: ${known.join(", ")}.`
    : `Did you mean ${likely.map((command) => `"${command}"`).join(" or ")}?`;
  return `Unknown command "${given.join(" ")}". ${advice}`;
}
