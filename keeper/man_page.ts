/** The manual page, made from the command table (man(7)). Pure. */
import type { FlagSpec } from "../home/flags.ts";
import type { Command } from "./cli.ts";
import { PROGRAM, PROGRAM_SUMMARY } from "./command_table.ts";

/** The whole page as roff. */
export function manPage(commands: readonly Command[], version: string): string {
  const listed = commands.filter(({ unlisted }) => !unlisted);
  return [
    `.TH ${PROGRAM.toUpperCase()} 1 "" "rbee ${version}" "User Commands"`,
    ".SH NAME",
    roff(`${PROGRAM} - ${PROGRAM_SUMMARY}`),
    ".SH SYNOPSIS",
    `.B ${roff(PROGRAM)}`,
    "\\fICOMMAND\\fR [\\fIFLAGS\\fR]",
    ".SH DESCRIPTION",
    roff(
      "Tokens and results go to stdout, everything else to stderr. On a terminal progress is redrawn; elsewhere each " +
        "stage is one line. NO_COLOR turns colours off.",
    ),
    ".SH COMMANDS",
    ...listed.flatMap(commandSection),
    ".SH EXIT STATUS",
    ".TP\n.B 0\nsuccess",
    ".TP\n.B 1\nfailure; the message says what to do",
    ".TP\n.B 2\nthe command line is wrong",
    ".TP\n.B 130\ninterrupted by Ctrl+C",
    ".SH ENVIRONMENT",
    ".TP\n.B RBEE_HOME\nwhere rbee keeps its files (~/.rbee)",
    ".TP\n.B RBEE_CONFIG\nthe configuration (config.yaml in RBEE_HOME)",
    ...environmentOf(listed).map(([name, flag]) =>
      `.TP\n.B ${name}\n${roff(`what --${flag} is when it is not given`)}`
    ),
    ".SH FILES",
    ".TP\n.I ~/.rbee/config.yaml\nthe configuration",
    ".TP\n.I ~/.rbee/logs\nlogs of the hive and its workers",
    "",
  ].join("\n");
}

function commandSection({ path, summary, details, flags, bare, examples }: Command): string[] {
  const words = [PROGRAM, ...path].join(" ");
  const value = bare === undefined
    ? ""
    : flags[bare].required
    ? ` ${flags[bare].value}`
    : ` [${flags[bare].value}]`;
  return [
    `.SS ${roff(words)}${roff(value)}`,
    roff(sentence(summary)),
    ...(details === undefined ? [] : [".PP", roff(details)]),
    ...Object.entries(flags).flatMap(([name, spec]) => [".TP", flagHead(name, spec), roff(flagText(spec))]),
    ...examples.flatMap((example) => [".PP", `.RS\n.nf\n${roff(`${PROGRAM} ${example}`)}\n.fi\n.RE`]),
  ];
}

function flagHead(name: string, spec: FlagSpec): string {
  const value = spec.type === "boolean" ? "" : ` \\fI${roff(spec.value ?? "TEXT")}\\fR`;
  return `\\fB${roff(`--${name}`)}\\fR${value}`;
}

function flagText({ help, required, choices, environment, default: value, otherwise }: FlagSpec): string {
  const notes = [
    ...(required ? ["required"] : []),
    ...(choices === undefined ? [] : [`one of ${choices.join(", ")}`]),
    ...(environment === undefined ? [] : [`environment: ${environment}`]),
    ...(value ?? otherwise) === undefined ? [] : [`default: ${value ?? otherwise}`],
  ];
  return notes.length === 0 ? help : `${help} (${notes.join("; ")})`;
}

function environmentOf(commands: readonly Command[]): [variable: string, flag: string][] {
  const found = commands.flatMap(({ flags }) =>
    Object.entries(flags).flatMap(([flag, { environment }]): [string, string][] =>
      environment === undefined ? [] : [[environment, flag]]
    )
  );
  return [...new Map(found)];
}

function sentence(text: string): string {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

/** Plain text: backslashes and dashes are literal, and no line is a request. */
function roff(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replace(/^(?=[.'])/gm, "\\&");
}
