import { assert, assertEquals, assertRejects } from "@std/assert";
import { hasProgram, runCommand } from "./command.ts";

/** After this time a program that was left behind is ended by the test that finds it. */
const RESCUE_MS = 5_000;

Deno.test("a program's status and output come back, standard output on its own as well", async () => {
  const result = await runCommand(["sh", "-c", "echo out; echo err >&2; exit 3"]);
  assertEquals(result.code, 3);
  assertEquals(result.stdout, "out");
  assertEquals(result.output.split("\n").sort(), ["err", "out"]);
});

Deno.test("a program that does not exist is status 127, not an exception", async () => {
  const result = await runCommand(["rbee-no-such-program"]);
  assertEquals(result.code, 127);
  assertEquals(result.output, "rbee-no-such-program: not found");
});

Deno.test("lines are handed over whole, the last one without a line break too", async () => {
  const lines: string[] = [];
  await runCommand(["printf", "a\\nb\\n\\nlast"], { onLine: (line) => lines.push(line) });
  assertEquals(lines, ["a", "b", "", "last"]);
});

Deno.test("an abort ends what the program started, not only the program", async () => {
  const stop = new AbortController();
  let grandchild = 0;
  // The grandchild holds the output open: the call can only end once that one is gone as well.
  const running = runCommand(["sh", "-c", "sleep 600 & echo $!; wait"], {
    signal: stop.signal,
    onLine: (line) => {
      grandchild = Number(line);
      stop.abort();
    },
  });
  let isLeftBehind = false;
  const rescue = setTimeout(() => {
    isLeftBehind = true;
    Deno.kill(grandchild, "SIGKILL");
  }, RESCUE_MS);
  await assertRejects(() => running, DOMException);
  clearTimeout(rescue);
  assert(!isLeftBehind);
});

Deno.test("variables that git sets for hooks do not reach our own git commands", async () => {
  const script = 'import { runCommand } from "./command.ts";' +
    'console.log((await runCommand(["sh", "-c", "echo ${GIT_DIR:-none}"])).stdout);';
  const child = await new Deno.Command(Deno.execPath(), {
    args: ["eval", script],
    cwd: import.meta.dirname,
    env: { GIT_DIR: "/elsewhere" },
  }).output();
  assertEquals(new TextDecoder().decode(child.stdout), "none\n");
});

Deno.test("programs are found on the search path: files that can be run, not folders and not texts", async () => {
  const folder = await Deno.makeTempDir();
  const before = Deno.env.get("PATH") ?? "";
  try {
    await Deno.mkdir(`${folder}/a-folder`);
    await Deno.writeTextFile(`${folder}/a-text`, "", { mode: 0o644 });
    await Deno.writeTextFile(`${folder}/a-program`, "", { mode: 0o755 });
    // Added at the end, for tests of other files run beside this one.
    Deno.env.set("PATH", `${before}:${folder}`);
    assertEquals(["a-folder", "a-text", "a-program", "none"].map(hasProgram), [false, false, true, false]);
  } finally {
    Deno.env.set("PATH", before);
    await Deno.remove(folder, { recursive: true });
  }
});
