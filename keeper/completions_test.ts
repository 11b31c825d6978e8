/** Completions in the real shells; a shell that is not on this machine is skipped by name. */
import { assert, assertEquals } from "@std/assert";
import { canUseTmux, openWindow } from "../tests/helpers/tmux.ts";
import { COMMANDS } from "./command_table.ts";
import { completionScript, type Shell } from "./completions.ts";

/** What a person has typed up to the cursor, and what comes next. */
const CASES: [typed: string[], expected: string[]][] = [
  [["mod"], ["models"]],
  [["models", "p"], ["prune", "pull"]],
  [["pool", "worker", ""], ["list", "spawn", "stop"]],
  [["infer", "--prompt", "x", "--max"], ["--max-tokens"]],
  [["infer", "--backend", "c"], ["cpu", "cuda"]],
  [["completions", "f"], ["fish"]],
  [["daemon", "sta"], ["start", "status"]],
];

async function isThere(program: string): Promise<boolean> {
  try {
    return (await new Deno.Command(program, { args: ["--version"], stdout: "null", stderr: "null" }).output())
      .success;
  } catch {
    return false;
  }
}

async function outputOf(program: string, args: string[], env: Record<string, string> = {}): Promise<string> {
  const { stdout, stderr } = await new Deno.Command(program, { args, env }).output();
  assertEquals(new TextDecoder().decode(stderr), "");
  return new TextDecoder().decode(stdout);
}

/** The words that `shell` offers. */
const COMPLETE: Record<Shell, (script: string, typed: readonly string[]) => Promise<string[]>> = {
  async bash(script, typed) {
    const words = ["rbee-keeper", ...typed].map((word) => `'${word}'`).join(" ");
    const run =
      `${script}\nCOMP_WORDS=(${words}); COMP_CWORD=${typed.length}; _rbee_keeper; printf '%s\\n' "\${COMPREPLY[@]}"`;
    return lines(await outputOf("bash", ["--norc", "-c", run]));
  },
  async fish(script, typed) {
    const run = `${script}\ncomplete -C 'rbee-keeper ${typed.join(" ")}'`;
    const home = await Deno.makeTempDir();
    try {
      return lines(await outputOf("fish", ["--no-config", "-c", run], { HOME: home }))
        .map((line) => line.split("\t")[0]);
    } finally {
      await Deno.remove(home, { recursive: true });
    }
  },
  async zsh(script, typed) {
    // The words are offered to the line editor; a function of ours takes its place and prints them.
    const words = ["rbee-keeper", ...typed].map((word) => `'${word}'`).join(" ");
    const run = `
      compdef() { }
      compadd() { shift; print -l -- "$@"; }
      _describe() { local name; for name in "\${(@P)2}"; print -r -- "\${name%%:*}"; }
      words=(${words}); CURRENT=${typed.length + 1}
      ${script}
      _rbee_keeper`;
    return lines(await outputOf("zsh", ["-f", "-c", run])).filter((word) => word.startsWith(typed.at(-1)!));
  },
};

function lines(text: string): string[] {
  return text.split("\n").filter((line) => line !== "");
}

for (const shell of ["bash", "zsh", "fish"] as const) {
  Deno.test({
    name: `${shell} completes commands, flags and the values of flags`,
    ignore: !await isThere(shell),
    async fn() {
      const script = completionScript(shell, COMMANDS);
      for (const [typed, expected] of CASES) {
        assertEquals((await COMPLETE[shell](script, typed)).sort(), expected, typed.join(" "));
      }
    },
  });

  // zsh's own completion of files works in its line editor alone: the next test sits before that.
  if (shell === "zsh") continue;
  Deno.test({
    name: `${shell} completes the names of files where a file is meant`,
    ignore: !await isThere(shell),
    async fn() {
      const folder = await Deno.makeTempDir();
      try {
        await Deno.writeTextFile(`${folder}/schema.json`, "{}");
        const script = completionScript(shell, COMMANDS);
        const found = await COMPLETE[shell](script, ["infer", "--json-schema", `${folder}/sch`]);
        assertEquals(found, [`${folder}/schema.json`]);
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    },
  });
}

Deno.test({
  name: "zsh completes the names of files where a file is meant",
  ignore: !await isThere("zsh") || !canUseTmux,
  async fn() {
    const folder = await Deno.makeTempDir();
    try {
      await Deno.writeTextFile(`${folder}/schema.json`, "{}");
      await Deno.writeTextFile(`${folder}/completions`, completionScript("zsh", COMMANDS));
      await using pane = await openWindow(["zsh", "-f", "-i"], {
        env: { ZDOTDIR: folder, PS1: "> " },
        columns: 200,
      });
      await pane.press(
        "autoload -Uz compinit && compinit -D -u && source $ZDOTDIR/completions && echo re''ady",
        "Enter",
      );
      await pane.shows(/^ready$/m);
      await pane.press(`rbee-keeper infer --json-schema ${folder}/sch`, "Tab");
      await pane.shows(new RegExp(RegExp.escape(`--json-schema ${folder}/schema.json`)));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test("every flag of every command is in every script", () => {
  for (const shell of ["bash", "zsh", "fish"] as const) {
    const script = completionScript(shell, COMMANDS);
    for (const { flags } of COMMANDS) {
      for (const flag of Object.keys(flags)) assert(script.includes(`--${flag}`), `${shell}: --${flag}`);
    }
  }
});
