/** A terminal whose screen can be read and whose window can be resized while a program runs in it: tmux. */
import { join } from "@std/path";
import { eventually } from "./eventually.ts";
import { shellWord } from "../../home/ssh.ts";

const SHOW_TIMEOUT_MS = 30_000;

/** Whether this machine can do it. */
export const canUseTmux: boolean = await new Deno.Command("tmux", {
  args: ["-V"],
  stdout: "null",
  stderr: "null",
}).output().then(({ success }) => success, () => false);

/** A window with a program in it. */
export interface Window extends AsyncDisposable {
  /** Presses keys, by tmux's names. */
  press(...keys: string[]): Promise<void>;
  resize(columns: number): Promise<void>;
  /** The lines that a person sees, without the empty ones at the end. */
  lines(): Promise<string[]>;
  /** Waits until the screen matches. */
  shows(wanted: RegExp): Promise<void>;
  /** Whether there is a cursor. */
  cursor(): Promise<boolean>;
}

/** Opens a window on a command; when that has ended, the last line is its exit code. */
export async function openWindow(
  command: readonly string[],
  options: { env: Record<string, string>; columns: number },
): Promise<Window> {
  const folder = await Deno.makeTempDir({ prefix: "rbee-tmux-" });
  const run = async (...args: string[]) => {
    const { success, stdout, stderr } = await new Deno.Command("tmux", {
      args: ["-f", "/dev/null", "-S", join(folder, "socket"), ...args],
      env: { TERM: "xterm", LC_ALL: "C.UTF-8" },
      stdin: "null",
    }).output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
    return new TextDecoder().decode(stdout);
  };
  const quoted = command.map(shellWord).join(" ");
  const env = Object.entries(options.env).flatMap(([name, value]) => ["-e", `${name}=${value}`]);
  await run(
    ...["-u", "new-session", "-d", "-x", String(options.columns), "-y", "30", ...env],
    // The shell must outlive a Ctrl+C that is meant for the program.
    `trap : INT; ${quoted}; echo "exit code $?"; exec sleep 600`,
  );
  const lines = async () => (await run("capture-pane", "-p")).trimEnd().split("\n");
  return {
    lines,
    press: async (...keys) => void await run("send-keys", ...keys),
    resize: async (columns) => void await run("resize-window", "-x", String(columns)),
    async shows(wanted) {
      await eventually(
        `${wanted} on the screen`,
        async () => wanted.test((await lines()).join("\n")),
        SHOW_TIMEOUT_MS,
      )
        .catch(async (error) => {
          throw new Error(`The screen shows:\n${(await lines()).join("\n")}`, { cause: error });
        });
    },
    cursor: async () => (await run("display-message", "-p", "#{cursor_flag}")).trim() === "1",
    async [Symbol.asyncDispose]() {
      await run("kill-server");
      await Deno.remove(folder, { recursive: true });
    },
  };
}
