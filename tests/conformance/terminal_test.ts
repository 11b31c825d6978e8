/** `infer` as a person sees it on a terminal: bars, a window that changes its size, Ctrl+C. */
import { assert, assertEquals } from "@std/assert";
import { keeperCommand } from "../../keeper/testing/keeper_process.ts";
import { STORIES } from "../helpers/test_models.ts";
import { canUseTmux, openWindow, type Window } from "../helpers/tmux.ts";
import { type Given, given, INFER, masked, STORY, type World } from "./scenario.ts";

const BEE = [...INFER, "--model", "hf:acme/bee"];
const SLOW_HUB = {
  repos: { "acme/bee": { files: { "bee-Q4_K_M.gguf": { path: STORIES } } } },
  bytesPerSecond: 150_000,
};

function onTerminal(
  name: string,
  what: Given & { type: readonly string[] },
  then: (window: Window, world: World) => Promise<void>,
): void {
  Deno.test({
    name: `terminal: ${name}`,
    ignore: !canUseTmux,
    fn: () =>
      given(what, async (world) => {
        const env = { RBEE_HOME: world.home.path, TMPDIR: world.home.path };
        await using window = await openWindow([...keeperCommand(), ...what.type], { env, columns: 100 });
        await then(window, world);
      }),
  });
}

/** What is on the screen, figures masked; a line that is none of those is torn. */
async function seen(window: Window): Promise<string[]> {
  return (await window.lines()).map((line) =>
    masked(line).replace(/\d+% \(.*$/, "N% …").replace(/\[[█-]+\]/, "[BAR]").trimEnd()
  );
}

onTerminal(
  "given a window that changes its size during a bar, no line is torn",
  { type: BEE, hub: SLOW_HUB, worker: { loadMs: 500 } },
  async (window) => {
    await window.shows(/Downloading model\.\.\. \[█+-+\] \d+%/);
    assertEquals(await window.cursor(), false);
    await window.resize(40);
    await window.shows(/^Downloading model\.\.\. \[█{3,}/);
    assertEquals((await window.lines()).length, 1, (await window.lines()).join("\n"));
    await window.resize(120);
    await window.shows(/exit code 0/);
    assertEquals(await seen(window), [
      "Downloading model... [BAR] N% …",
      "Verifying model...",
      "Starting worker WORKER on mac (cpu device 0, chosen automatically).",
      "Loading model to VRAM... [BAR] N% …",
      "Model ready!",
      STORY.trimEnd(),
      "exit code 0",
    ]);
    assertEquals(await window.cursor(), true);
  },
);

onTerminal(
  "given a bar, Ctrl+C ends it, gives the cursor back and exits with 130",
  { type: BEE, hub: SLOW_HUB },
  async (window) => {
    await window.shows(/Downloading model\.\.\. \[█+-+\] \d+%/);
    await window.press("C-c");
    await window.shows(/exit code 130/);
    assertEquals(await seen(window), [
      "Downloading model... [BAR] N% …",
      "Canceled. What was downloaded is kept for the next try.",
      "exit code 130",
    ]);
    assertEquals(await window.cursor(), true);
  },
);

onTerminal(
  "given an answer, Ctrl+C once cancels it and exits with 130",
  { type: INFER, worker: { tokenMs: 100 } },
  async (window) => {
    await window.shows(/Once upon a/);
    await window.press("C-c");
    await window.shows(/exit code 130/);
    const lines = await seen(window);
    assertEquals(lines.slice(-2).map((line) => line.replace("^C", "")), ["Canceled.", "exit code 130"]);
    assertEquals(await window.cursor(), true);
  },
);

onTerminal(
  "given a worker that does not react, Ctrl+C twice leaves at once",
  { type: INFER, worker: { tokenMs: 100 } },
  async (window, { hive }) => {
    await window.shows(/Once upon a/);
    const [pid] = hive.workerPids();
    Deno.kill(pid, "SIGSTOP");
    try {
      await window.press("C-c");
      await window.shows(/\^C/);
      await window.press("C-c");
      await window.shows(/exit code 130/);
      assert(!(await window.lines()).some((line) => line.includes("Canceled")), "It waited for the worker.");
      assertEquals(await window.cursor(), true);
    } finally {
      Deno.kill(pid, "SIGKILL");
    }
  },
);
