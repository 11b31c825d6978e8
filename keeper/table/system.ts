/** What concerns the programs themselves: their logs, this machine's hive, the shell. */
import type { FlagsOf } from "../../home/flags.ts";
import { type Command, defineCommand } from "../cli.ts";
import { BY_QUEEN, JSON_DOCUMENT, NODE, QUIET } from "./shared.ts";

const LOGS_FLAGS = {
  node: NODE,
  queen: BY_QUEEN,
  worker: { type: "text", value: "ID", help: "only what this worker says and what is said of it" },
  follow: { type: "boolean", help: "go on with the lines that come, until Ctrl+C or the end of the worker" },
  since: {
    type: "text",
    value: "SPAN|TIME",
    help: "only lines of the last 10m (s, m, h, d), or from this time on",
  },
  tail: { type: "integer", value: "N", min: 0, max: 10_000, help: "only the last of the lines there are" },
  json: { type: "boolean", help: "print one JSON object per line" },
  quiet: QUIET,
} as const;
/** Values of the flags of `logs`. */
export type LogsFlags = FlagsOf<typeof LOGS_FLAGS>;

const DAEMON_FLAGS = { json: JSON_DOCUMENT, quiet: QUIET } as const;
/** Values of the flags of `daemon …`. */
export type DaemonFlags = FlagsOf<typeof DAEMON_FLAGS>;

const DAEMON_JOIN_FLAGS = {
  queen: { type: "text", value: "URL", required: true, help: "where the queen answers" },
  name: {
    type: "text",
    value: "NAME",
    otherwise: "the host's name",
    help: "what this machine is called in the queen's cluster",
  },
  "key-file": {
    type: "text",
    value: "FILE|-",
    otherwise: "this machine's own key",
    help: "holds the key for the queen; - reads it from stdin and keeps it",
  },
  "no-start": { type: "boolean", help: "don't start or restart the hive" },
  ...DAEMON_FLAGS,
} as const;
/** Values of the flags of `daemon join`. */
export type DaemonJoinFlags = FlagsOf<typeof DAEMON_JOIN_FLAGS>;

const DOCTOR_FLAGS = { json: JSON_DOCUMENT, quiet: QUIET } as const;
/** Values of the flags of `doctor`. */
export type DoctorFlags = FlagsOf<typeof DOCTOR_FLAGS>;

const COMPLETIONS_FLAGS = {
  shell: {
    type: "text",
    value: "SHELL",
    required: true,
    choices: ["bash", "zsh", "fish"],
    help: "for which shell",
  },
} as const;
/** Values of the flags of `completions`. */
export type CompletionsFlags = FlagsOf<typeof COMPLETIONS_FLAGS>;

/** See the file's head. */
export const SYSTEM_COMMANDS: readonly Command[] = [
  defineCommand({
    path: ["logs"],
    summary: "show what a machine's hive and its workers write",
    details:
      "With --queen, --node is not needed where --worker says enough. A queen keeps no log of its own.",
    flags: LOGS_FLAGS,
    examples: ["logs --tail 20 --follow", "logs --node mac --since 10m", "logs --worker 3f9a12bc4d5e"],
    load: () => import("../commands/logs.ts").then((module) => module.LOGS),
  }),
  defineCommand({
    path: ["daemon", "start"],
    soughtAs: ["serve"],
    summary: "start this machine's hive in the background",
    details: "Commands that need it start it by themselves.",
    flags: DAEMON_FLAGS,
    examples: ["daemon start"],
    load: () => import("../commands/daemon.ts").then((module) => module.DAEMON_START),
  }),
  defineCommand({
    path: ["daemon", "stop"],
    summary: "stop this machine's hive and its workers",
    details: "What they generate is finished first, for at most 30 s.",
    flags: DAEMON_FLAGS,
    examples: ["daemon stop"],
    load: () => import("../commands/daemon.ts").then((module) => module.DAEMON_STOP),
  }),
  defineCommand({
    path: ["daemon", "restart"],
    summary: "replace this machine's hive by one of this version",
    details: "Its workers and their answers go on; the new hive adopts them. Starts one when none runs.",
    flags: DAEMON_FLAGS,
    examples: ["daemon restart"],
    load: () => import("../commands/daemon.ts").then((module) => module.DAEMON_RESTART),
  }),
  defineCommand({
    path: ["daemon", "status"],
    summary: "say whether this machine's hive runs, and what on it",
    details: "Exit code 1 when none runs.",
    flags: DAEMON_FLAGS,
    examples: ["daemon status", "daemon status --json"],
    load: () => import("../commands/daemon.ts").then((module) => module.DAEMON_STATUS),
  }),
  defineCommand({
    path: ["daemon", "join"],
    summary: "have this machine's hive report to a queen, from now on",
    details:
      "Writes queen, name and key file into config.yaml, so that a restart and a reboot change nothing. A hive that runs " +
      "is replaced; its workers and their answers go on.",
    flags: DAEMON_JOIN_FLAGS,
    examples: ["daemon join --queen http://queen.lan:8080 --name mac --key-file ~/queen.key"],
    load: () => import("../commands/daemon_join.ts").then((module) => module.DAEMON_JOIN),
  }),
  defineCommand({
    path: ["doctor"],
    summary: "look for what is wrong, here and on every node, and say what to do about it",
    details: "Changes nothing and starts no hive. Exit code 1 when something is wrong.",
    flags: DOCTOR_FLAGS,
    examples: ["doctor", "doctor --json"],
    load: () => import("../commands/doctor.ts").then((module) => module.DOCTOR),
  }),
  defineCommand({
    path: ["completions"],
    summary: "print what makes a shell complete this program's commands and flags",
    details:
      "bash: put it into ~/.local/share/bash-completion/completions/rbee-keeper. zsh: into a file _rbee-keeper in a " +
      "folder of $fpath. fish: into ~/.config/fish/completions/rbee-keeper.fish.",
    flags: COMPLETIONS_FLAGS,
    bare: "shell",
    examples: ["completions bash"],
    load: () => import("../commands/completions.ts").then((module) => module.COMPLETIONS),
  }),
  defineCommand({
    path: ["man"],
    summary: "print the manual page",
    flags: {},
    examples: ["man"],
    load: () => import("../commands/man.ts").then((module) => module.MAN),
  }),
];
