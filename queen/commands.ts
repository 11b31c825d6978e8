/** `queen-rbee`'s command line. */
import { LOG_LEVELS } from "../daemon/log.ts";
import { type FlagTable, readFlags } from "../home/flags.ts";

const FLAGS = {
  listen: { type: "text", value: "HOST:PORT", help: "Address to listen on; port 0 is any free one." },
  "stop-hives": { type: "boolean", help: "At the end, stop the hives that it started on other machines." },
  "log-level": { type: "text", choices: LOG_LEVELS, help: "Least severe lines that are logged." },
} as const satisfies FlagTable;

/** What the command line asks for. */
export type QueenInvocation =
  | { kind: "help"; text: string }
  | { kind: "version" }
  | { kind: "usage"; problems: string[] }
  /** `configFlags` are values of configuration keys. */
  | { kind: "daemon"; configFlags: Record<string, string | undefined>; stopHives: boolean };

/** Reads the command line; nothing happens yet. `daemon` may be said and need not. */
export function parseQueenArgs(args: readonly string[]): QueenInvocation {
  if (args.some((arg) => arg === "--help" || arg === "-h")) return { kind: "help", text: helpText() };
  if (args.some((arg) => arg === "--version" || arg === "-V")) return { kind: "version" };
  const { flags, problems } = readFlags(args[0] === "daemon" ? args.slice(1) : args, FLAGS);
  if (problems.length > 0) return { kind: "usage", problems };
  return {
    kind: "daemon",
    configFlags: { "queen.listen": flags.listen, "log.level": flags["log-level"] },
    stopHives: flags["stop-hives"],
  };
}

function helpText(): string {
  return [
    "queen-rbee: one address for all machines of a house. Hives report to it, and it sends each request to a",
    "worker that has its model, or loads it where it fits. What it started on other machines outlives it.",
    "",
    "  queen-rbee [daemon]",
    ...Object.entries<FlagTable[string]>(FLAGS).map(([flag, spec]) => {
      const takes = spec.choices?.join("|") ?? spec.value;
      return `    ${`--${flag}${takes === undefined ? "" : ` ${takes}`}`.padEnd(38)} ${spec.help}`;
    }),
    "  queen-rbee --help | --version",
    "",
    "A hive reports to it when hive.queen in its config.yaml (or RBEE_HIVE_QUEEN) names its address; both need",
    "the same key, or hive.queen_key_file. Settings come from flags, the environment (RBEE_…), and config.yaml",
    "in the rbee home, in this order.",
  ].join("\n");
}
