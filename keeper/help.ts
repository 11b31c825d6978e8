/** The help of every level, rendered from the command table. */
import type { FlagSpec } from "../home/flags.ts";
import type { Command } from "./cli.ts";
import { PROGRAM, PROGRAM_SUMMARY } from "./command_table.ts";

const WIDTH = 100;
/** Of a list of commands, the first ones. */
const MAX_LISTED_EXAMPLES = 6;
/** A name longer than this puts its text on the next line. */
const MAX_NAME_CHARS = 26;

/** Help for the whole program (`path` empty), a group of commands, or one command. */
export function renderHelp(path: readonly string[], commands: readonly Command[]): string {
  const under = commands.filter((command) => path.every((word, i) => word === command.path[i]));
  const below = path.length > 0 ? under : under.filter(({ unlisted }) => !unlisted);
  return below.length === 1 && below[0].path.length === path.length
    ? commandHelp(below[0])
    : listHelp(path, below);
}

function listHelp(path: readonly string[], commands: readonly Command[]): string {
  const program = [PROGRAM, ...path].join(" ");
  const general = [["--help", "show this; after a command, show its flags"]];
  if (path.length === 0) general.push(["--version", "show the version"]);
  return [
    ...(path.length === 0 ? [`${PROGRAM}: ${PROGRAM_SUMMARY}`, ""] : []),
    `Usage: ${program} COMMAND [FLAGS]`,
    "",
    "Commands",
    ...table(commands.map((command) => [command.path.slice(path.length).join(" "), command.summary])),
    "",
    "Flags",
    ...table(general),
    "",
    "Examples",
    ...commands.slice(0, MAX_LISTED_EXAMPLES).map((command) => `  ${PROGRAM} ${command.examples[0]}`),
    "",
    `${program} COMMAND --help tells more.`,
  ].join("\n");
}

function commandHelp(command: Command): string {
  const name = `${PROGRAM} ${command.path.join(" ")}`;
  const flags = Object.entries(command.flags);
  const required = flags.filter(([flag, spec]) => spec.required || flag === command.bare).map(
    ([flag, spec]) => {
      if (flag !== command.bare) return ` ${synopsis(flag, spec)}`;
      return spec.required ? ` ${spec.value}` : ` [${spec.value}]`;
    },
  );
  return [
    `${name}: ${command.summary}`,
    ...(command.details === undefined ? [] : ["", ...wrap(command.details, WIDTH)]),
    "",
    `Usage: ${name}${required.join("")} [FLAGS]`,
    "",
    "Flags",
    ...table([...flags.map(([flag, spec]) => [synopsis(flag, spec), flagText(spec)]), [
      "--help",
      "show this",
    ]]),
    "",
    "Examples",
    ...command.examples.map((example) => `  ${PROGRAM} ${example}`),
  ].join("\n");
}

function synopsis(flag: string, spec: FlagSpec): string {
  return spec.type === "boolean" ? `--${flag}` : `--${flag} ${spec.value ?? "TEXT"}`;
}

function flagText(spec: FlagSpec): string {
  const notes: string[] = [];
  if (spec.required) notes.push("required");
  if (spec.choices !== undefined) notes.push(spec.choices.join(", "));
  const otherwise = spec.default ?? spec.otherwise;
  if (spec.environment !== undefined) notes.push(`environment: ${spec.environment}`);
  if (otherwise !== undefined) notes.push(`default: ${otherwise}`);
  return notes.length === 0 ? spec.help : `${spec.help} (${notes.join("; ")})`;
}

function table(rows: readonly (readonly string[])[]): string[] {
  const nameWidth = Math.min(MAX_NAME_CHARS, Math.max(...rows.map(([name]) => name.length)));
  const indent = " ".repeat(nameWidth + 4);
  return rows.flatMap(([name, text]) => {
    const lines = wrap(text, WIDTH - indent.length).map((line) => indent + line);
    if (name.length > nameWidth) return [`  ${name}`, ...lines];
    return [`  ${name.padEnd(nameWidth)}  ${lines[0].trimStart()}`, ...lines.slice(1)];
  });
}

function wrap(text: string, width: number): string[] {
  const lines = [""];
  for (const word of text.split(" ")) {
    const last = lines[lines.length - 1];
    if (last !== "" && last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
  }
  return lines;
}
