/** Completions for shells, made from the command table: words, flags, and the values that a flag may have. Pure. */
import type { FlagSpec } from "../home/flags.ts";
import type { Command } from "./cli.ts";
import { PROGRAM } from "./command_table.ts";

/** Shells that are known. */
export const SHELLS = ["bash", "zsh", "fish"] as const;
/** See {@linkcode SHELLS}. */
export type Shell = typeof SHELLS[number];

/** Something that may come next, and what it is. */
interface Candidate {
  word: string;
  what: string;
}

/** The program's script for a shell. */
export function completionScript(shell: Shell, commands: readonly Command[]): string {
  const { nodes, values } = planOf(commands);
  return { bash, zsh, fish }[shell](nodes, values);
}

/** What follows after each run of command words, and the values of flags. */
interface Node {
  /** `models list`; empty for the program alone. */
  path: string;
  next: Candidate[];
}

/** The values of one flag of one command; a file's name when there are no words. */
interface Values {
  path: string;
  flag: string;
  words: readonly string[];
}

function planOf(commands: readonly Command[]): { nodes: Node[]; values: Values[] } {
  const nodes = new Map<string, Map<string, string>>([["", new Map()]]);
  for (const { path, summary } of commands) {
    path.forEach((word, depth) => {
      const before = path.slice(0, depth).join(" ");
      if (!nodes.has(before)) nodes.set(before, new Map());
      const last = depth === path.length - 1;
      const known = nodes.get(before)!;
      if (last || !known.has(word)) {
        known.set(word, last ? summary : `${[...path.slice(0, depth + 1)].join(" ")} ...`);
      }
    });
  }
  const values: Values[] = [];
  for (const { path, flags, bare } of commands) {
    const name = path.join(" ");
    const own = new Map(Object.entries(flags).map(([flag, { help }]) => [`--${flag}`, help]));
    if (bare !== undefined) {
      for (const choice of flags[bare].choices ?? []) own.set(choice, flags[bare].help);
    }
    nodes.set(name, own.set("--help", "show all flags"));
    for (const [flag, spec] of Object.entries(flags)) {
      const words = wordsOf(spec);
      if (words !== undefined) values.push({ path: name, flag: `--${flag}`, words });
    }
  }
  return {
    nodes: [...nodes].map(([path, next]) => ({
      path,
      next: [...next].map(([word, what]) => ({ word, what })),
    })),
    values,
  };
}

/** Undefined for what only the person can know, and for flags without a value. */
function wordsOf(spec: FlagSpec): readonly string[] | undefined {
  if (spec.type === "boolean") return undefined;
  return spec.choices ?? (spec.value === "FILE" ? [] : undefined);
}

/** In single quotes, for every shell there is; fish and zsh read `\'` in them in their own ways, so there is none. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "’").replaceAll("\\", "")}'`;
}

const paths = (nodes: readonly Node[]) => nodes.map(({ path }) => path).filter((path) => path !== "");

function bash(nodes: readonly Node[], values: readonly Values[]): string {
  return `# Completions of ${PROGRAM} for bash.
_rbee_keeper() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} path= next i
  for ((i = 1; i < COMP_CWORD; i++)); do
    next="\${path:+$path }\${COMP_WORDS[i]}"
    case $next in
      ${paths(nodes).map(quoted).join(" | ")}) path=$next ;;
      *) break ;;
    esac
  done
  COMPREPLY=()
  case "$path $prev" in
${
    values.map(({ path, flag, words }) => {
      const reply = words.length > 0
        ? `compgen -W ${quoted(words.join(" "))} -- "$cur"`
        : 'compgen -f -- "$cur"';
      return `    ${quoted(`${path} ${flag}`)}) mapfile -t COMPREPLY < <(${reply}); return ;;`;
    }).join("\n")
  }
  esac
  case $path in
${
    nodes.map(({ path, next }) =>
      `    ${quoted(path)}) next=${quoted(next.map(({ word }) => word).join(" "))} ;;`
    ).join("\n")
  }
  esac
  mapfile -t COMPREPLY < <(compgen -W "$next" -- "$cur")
}
complete -F _rbee_keeper ${PROGRAM}
`;
}

function zsh(nodes: readonly Node[], values: readonly Values[]): string {
  const described = ({ word, what }: Candidate) =>
    quoted(`${word.replaceAll(":", "\\:")}:${what.replaceAll(":", ";")}`);
  return `#compdef ${PROGRAM}
# Completions of ${PROGRAM} for zsh.
_rbee_keeper() {
  local found='' next i prev=\${words[CURRENT - 1]}
  local -a candidates
  for ((i = 2; i < CURRENT; i++)); do
    next="\${found:+$found }\${words[i]}"
    case $next in
      ${paths(nodes).map(quoted).join(" | ")}) found=$next ;;
      *) break ;;
    esac
  done
  case "$found $prev" in
${
    values.map(({ path, flag, words }) => {
      const reply = words.length > 0 ? `compadd -- ${words.join(" ")}` : "_files";
      return `    ${quoted(`${path} ${flag}`)}) ${reply}; return ;;`;
    }).join("\n")
  }
  esac
  case $found in
${
    nodes.map(({ path, next }) => `    ${quoted(path)}) candidates=(${next.map(described).join(" ")}) ;;`)
      .join("\n")
  }
  esac
  _describe ${PROGRAM} candidates
}
compdef _rbee_keeper ${PROGRAM}
`;
}

function fish(nodes: readonly Node[], values: readonly Values[]): string {
  const known = paths(nodes).map(quoted).join(" ");
  const at = (path: string) => `-n ${quoted(`__rbee_keeper_at "${path}"`)}`;
  const complete = `complete -c ${PROGRAM} -f`;
  return `# Completions of ${PROGRAM} for fish.
function __rbee_keeper_path
    set -l path
    for word in (commandline -opc)[2..]
        set -l next (string join -- ' ' $path $word)
        contains -- $next ${known}; or break
        set path $next
    end
    echo $path
end

function __rbee_keeper_at
    test (__rbee_keeper_path | string collect; or true) = "$argv[1]"
end

function __rbee_keeper_after
    __rbee_keeper_at $argv[1]; and test (commandline -opc)[-1] = $argv[2]
end

complete -c ${PROGRAM} -f
${
    nodes.flatMap(({ path, next }) =>
      next.map(({ word, what }) => `${complete} ${at(path)} -a ${quoted(word)} -d ${quoted(what)}`)
    ).join("\n")
  }
${
    values.map(({ path, flag, words }) => {
      const reply = words.length > 0 ? `-f -a ${quoted(words.join(" "))}` : "-F";
      return `complete -c ${PROGRAM} -n ${quoted(`__rbee_keeper_after "${path}" ${flag}`)} ${reply}`;
    }).join("\n")
  }
`;
}
