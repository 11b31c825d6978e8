/** `rbee-hive`'s command line. */
import { LOG_LEVELS } from "../daemon/log.ts";
import { type FlagTable, readFlags } from "../home/flags.ts";
import { nearest } from "../home/near_miss.ts";

const JSON_FLAG = { json: { type: "boolean", help: "One JSON document instead of text." } } as const;

const COMMANDS = {
  daemon: {
    help: "Serve this machine until told to leave.",
    flags: {
      listen: { type: "text", value: "HOST:PORT", help: "Address to listen on; port 0 is any free one." },
      advertise: { type: "text", value: "HOST", help: "Name under which others reach this machine." },
      "keep-workers": { type: "boolean", help: "Leave the workers running for the next hive." },
      "log-level": { type: "text", choices: LOG_LEVELS, help: "Least severe lines that are logged." },
    },
  },
  detect: { help: "Show backends, devices, memory and disk.", flags: JSON_FLAG },
  status: { help: "Show whether the hive of this machine runs, and its workers.", flags: JSON_FLAG },
} as const satisfies Record<string, { help: string; flags: FlagTable }>;

/** What the command line asks for. */
export type HiveInvocation =
  | { kind: "help"; text: string }
  | { kind: "version" }
  | { kind: "usage"; problems: string[] }
  /** `configFlags` are values of configuration keys. */
  | { kind: "daemon"; keepWorkers: boolean; configFlags: Record<string, string | undefined> }
  | { kind: "detect"; json: boolean }
  | { kind: "status"; json: boolean };

/** Reads the command line; every mistake is named at once. */
export function parseHiveArgs(args: readonly string[]): HiveInvocation {
  const before = args.indexOf("--") < 0 ? args : args.slice(0, args.indexOf("--"));
  if (before.includes("--help") || before.includes("-h")) return { kind: "help", text: helpText() };
  if (before.includes("--version")) return { kind: "version" };
  const [name = "", ...rest] = args;
  switch (name) {
    case "daemon": {
      const { flags, problems } = readFlags(rest, COMMANDS.daemon.flags);
      if (problems.length > 0) return { kind: "usage", problems };
      const configFlags = {
        "hive.listen": flags.listen,
        "hive.advertise": flags.advertise,
        "log.level": flags["log-level"],
      };
      return { kind: "daemon", keepWorkers: flags["keep-workers"], configFlags };
    }
    case "detect":
    case "status": {
      const { flags, problems } = readFlags(rest, COMMANDS[name].flags);
      return problems.length > 0 ? { kind: "usage", problems } : { kind: name, json: flags.json };
    }
    default:
      return { kind: "usage", problems: [unknownCommand(name)] };
  }
}

function unknownCommand(name: string): string {
  const known = Object.keys(COMMANDS);
  if (name === "" || name.startsWith("-")) return `Name a command first: ${known.join(", ")}.`;
  const near = nearest(name, known);
  return `Unknown command ${JSON.stringify(name.slice(0, 80))}.${
    near === undefined ? ` There are ${known.join(", ")}.` : ` Did you mean ${near}?`
  }`;
}

function helpText(): string {
  const lines = Object.entries(COMMANDS).flatMap(([name, command]) => [
    `  rbee-hive ${name.padEnd(10)} ${command.help}`,
    ...Object.entries<FlagTable[string]>(command.flags).map(([flag, spec]) => {
      const takes = spec.choices?.join("|") ?? spec.value;
      return `    ${`--${flag}${takes === undefined ? "" : ` ${takes}`}`.padEnd(38)} ${spec.help}`;
    }),
  ]);
  return [
    "rbee-hive: downloads models and runs workers on this machine.",
    "",
    ...lines,
    "",
    "  rbee-hive --help | --version",
    "",
    "Settings come from flags, the environment (RBEE_…), and config.yaml in the rbee home, in this order.",
  ].join("\n");
}
