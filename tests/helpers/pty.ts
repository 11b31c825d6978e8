/** A program on a pseudo-terminal (script(1)), as a person sits before it. */
import { eventually } from "./eventually.ts";
import { shellWord } from "../../home/ssh.ts";

/** Time for something to show. */
const SHOW_TIMEOUT_MS = 30_000;

/** A running session. */
export interface Terminal extends AsyncDisposable {
  /** Types. */
  type(text: string): Promise<void>;
  /** Waits until what was shown since the last such wait matches, and returns it. */
  shows(wanted: string | RegExp): Promise<string>;
  /** Everything that was shown, escape sequences included. */
  screen(): string;
  /** The program's exit code. */
  readonly code: Promise<number>;
}

/** Whether this machine can do it. */
export const canUseTerminals: boolean = await new Deno.Command("script", {
  args: ["-qec", "true", "/dev/null"],
  stdin: "null",
  stdout: "null",
  stderr: "null",
}).output().then(({ success }) => success, () => false);

/** Ctrl and a letter, as the keyboard sends it. */
export function ctrl(letter: string): string {
  return String.fromCharCode(letter.toUpperCase().charCodeAt(0) - 64);
}

/** Starts a program; `columns` is the window's width. */
export function startTerminal(
  command: readonly string[],
  options: { env: Record<string, string>; columns?: number },
): Terminal {
  const { env, columns = 80 } = options;
  const quoted = command.map(shellWord).join(" ");
  const child = new Deno.Command("script", {
    args: ["-qec", `stty cols ${columns} rows 24; exec ${quoted}`, "/dev/null"],
    env: { TERM: "xterm", SHELL: "/bin/sh", ...env },
    clearEnv: true,
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  let screen = "";
  let seen = 0;
  const reading = (async () => {
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) screen += text;
  })();
  const keyboard = child.stdin.getWriter();
  const code = Promise.all([child.status, reading]).then(([status]) => status.code);
  return {
    code,
    screen: () => screen,
    async type(text) {
      await keyboard.write(new TextEncoder().encode(text));
    },
    async shows(wanted) {
      const pattern = typeof wanted === "string" ? new RegExp(RegExp.escape(wanted)) : wanted;
      try {
        return await eventually(`${wanted} on the terminal`, () => {
          const match = pattern.exec(screen.slice(seen));
          if (match === null) return undefined;
          const shown = screen.slice(seen, seen + match.index + match[0].length);
          seen += match.index + match[0].length;
          return shown;
        }, SHOW_TIMEOUT_MS);
      } catch (error) {
        throw new Error(`The terminal shows: ${JSON.stringify(screen)}`, { cause: error });
      }
    },
    async [Symbol.asyncDispose]() {
      await keyboard.close().catch(() => {});
      try {
        child.kill("SIGTERM");
      } catch {
        // It has ended.
      }
      await code;
    },
  };
}
