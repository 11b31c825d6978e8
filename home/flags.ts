/**
 * Flags as data: what they are and how `argv` is read against a table of them. Every mistake is found before anything
 * runs, and all of them are named at once. Keeper and daemons read their command lines this way.
 */
import { parseArgs } from "@std/cli";
import { nearest } from "./near_miss.ts";

/** One flag of a command. */
export interface FlagSpec {
  /** What its value is; `boolean` flags take none. */
  readonly type: "text" | "integer" | "number" | "boolean";
  /** One sentence for the help. */
  readonly help: string;
  /** Name of the value in the help, `N` or `FILE`. */
  readonly value?: string;
  /** Taken when the flag is absent. */
  readonly default?: string | number;
  /** Said in the help where another part chooses the default. */
  readonly otherwise?: string;
  /** The environment variable that says it where the flag does not; the configuration reads it. */
  readonly environment?: string;
  /** The command can't run without it. */
  readonly required?: true;
  /** May be given several times. */
  readonly repeatable?: true;
  /** The only values it takes. */
  readonly choices?: readonly string[];
  /** Smallest value. */
  readonly min?: number;
  /** Largest value. */
  readonly max?: number;
}

/** Flags by name, without the dashes. */
export type FlagTable = Readonly<Record<string, FlagSpec>>;

type Scalar<F extends FlagSpec> = F["type"] extends "text" ? string : number;

/** The values a table of flags gives. */
export type FlagsOf<T extends FlagTable> = {
  [Name in keyof T]: T[Name]["type"] extends "boolean" ? boolean
    : T[Name] extends { repeatable: true } ? Scalar<T[Name]>[]
    : T[Name] extends { required: true } | { default: string | number } ? Scalar<T[Name]>
    : Scalar<T[Name]> | undefined;
};

/**
 * Reads `args` against a table. Flags that are wrong are undefined, and `problems` has a line for each mistake.
 * `bare` is the flag whose value may stand without its name.
 */
export function readFlags<T extends FlagTable>(
  args: readonly string[],
  table: T,
  options: { bare?: string } = {},
): { flags: FlagsOf<T>; problems: string[] } {
  const problems: string[] = [];
  const strangers = new Set<string>();
  const names = Object.keys(table);
  const takesValue = names.filter((name) => table[name].type !== "boolean");
  const parsed = parseArgs(joinValues(args, { takesValue, names, problems }), {
    boolean: names.filter((name) => table[name].type === "boolean"),
    string: takesValue,
    collect: takesValue,
    unknown: (arg, key) => {
      if (key === undefined) return true;
      strangers.add(arg.split("=", 1)[0]);
      return false;
    },
  });
  for (const stranger of strangers) {
    const near = nearest(stranger.replace(/^-+/, ""), names);
    problems.push(`Unknown flag ${stranger}.${near === undefined ? "" : ` Did you mean --${near}?`}`);
  }
  const { bare } = options;
  const words = parsed._.map(String);
  const givenFor = (name: string) => (parsed[name] as string[] | undefined) ?? [];
  const bareWord = bare === undefined || givenFor(bare).length > 0 ? [] : words.splice(0, 1);
  const needed = takesValue.find((name) => table[name].required && name !== bare);
  for (const word of words) {
    problems.push(
      `Unexpected argument "${word}".${needed === undefined ? "" : ` Did you mean --${needed} "${word}"?`}`,
    );
  }
  const flags: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries(table)) {
    const missing = name === bare ? spec.value ?? name : `--${name}`;
    flags[name] = spec.type === "boolean" ? parsed[name] === true : readValues(name, {
      spec,
      given: name === bare ? [...givenFor(name), ...bareWord] : givenFor(name),
      missing,
      problems,
    });
  }
  return { flags: flags as FlagsOf<T>, problems };
}

/**
 * Ties every value to its flag (`--prompt=…`) before the line is taken apart: a value may itself start with a dash,
 * as in `--prompt -` or `--stop "- "`. Only the name of another flag is taken as a sign that the value is missing.
 */
function joinValues(
  args: readonly string[],
  known: { takesValue: readonly string[]; names: readonly string[]; problems: string[] },
): string[] {
  const joined: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i];
    if (arg === "--") return [...joined, ...args.slice(i)];
    const name = arg.slice(2);
    if (!arg.startsWith("--") || !known.takesValue.includes(name)) {
      joined.push(arg);
      continue;
    }
    const next = args[i + 1];
    const nextIsFlag = next?.startsWith("--") && known.names.includes(next.slice(2).split("=", 1)[0]);
    if (next === undefined || nextIsFlag) {
      known.problems.push(`--${name} needs a value.`);
      continue;
    }
    joined.push(`${arg}=${next}`);
    i++;
  }
  return joined;
}

function readValues(
  name: string,
  from: { spec: FlagSpec; given: readonly string[]; missing: string; problems: string[] },
) {
  const { spec, given, problems } = from;
  const values: (string | number)[] = [];
  for (const text of given) {
    const problem = valueProblem(text, spec);
    if (problem === undefined) values.push(spec.type === "text" ? text : Number(text));
    else problems.push(`--${name} ${problem}, not "${text.slice(0, 80)}".`);
  }
  if (spec.repeatable) return values;
  // A flag given without a value has been named already.
  const named = problems.some((problem) => problem.startsWith(`--${name} `));
  if (given.length === 0 && spec.required && !named) problems.push(`${from.missing} is required.`);
  return values.at(-1) ?? spec.default;
}

function valueProblem(text: string, spec: FlagSpec): string | undefined {
  if (spec.choices !== undefined) {
    return spec.choices.includes(text) ? undefined : `takes one of ${spec.choices.join(", ")}`;
  }
  if (spec.type === "text") return undefined;
  const what = spec.type === "integer" ? "a whole number" : "a number";
  const pattern = spec.type === "integer" ? /^-?\d{1,15}$/ : /^-?(\d+\.?\d*|\.\d+)$/;
  const { min = -Infinity, max = Infinity } = spec;
  if (pattern.test(text) && Number(text) >= min && Number(text) <= max) return undefined;
  if (Number.isFinite(min) && Number.isFinite(max)) return `takes ${what} from ${min} to ${max}`;
  return Number.isFinite(min) ? `takes ${what}, at least ${min}` : `takes ${what}`;
}
