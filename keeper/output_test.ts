import { assertEquals, assertStringIncludes } from "@std/assert";
import { Output, type OutputOptions, type Sink } from "./output.ts";

function sink(terminal: boolean): Sink & { text: string } {
  return {
    terminal,
    text: "",
    write(text) {
      this.text += text;
      return Promise.resolve();
    },
    writeSync(text) {
      this.text += text;
    },
  };
}

function setup(options: OutputOptions & { terminal?: boolean } = {}) {
  const [stdout, stderr] = [sink(options.terminal ?? false), sink(options.terminal ?? false)];
  return { stdout, stderr, output: new Output({ ...options, stdout, stderr }) };
}

Deno.test("answers go to stdout, narration and errors to stderr", async () => {
  const { output, stdout, stderr } = setup();
  output.say("Starting.");
  await output.text("Once");
  await output.endText();
  output.error("It failed", ["Do this."]);
  assertEquals(stdout.text, "Once\n");
  assertEquals(stderr.text, "Starting.\nError: It failed\n  Do this.\n");
});

Deno.test("without a terminal each stage is one plain line", () => {
  const { output, stderr } = setup();
  output.progress("Downloading model...", "Downloading model... 10%");
  output.progress("Downloading model...", "Downloading model... 20%");
  output.progress("Loading model to VRAM...", "Loading model to VRAM... 5%");
  output.ready();
  assertEquals(stderr.text, "Downloading model...\nLoading model to VRAM...\nModel ready!\n");
});

Deno.test("on a terminal progress is redrawn, and whatever follows begins a line of its own", () => {
  const { output, stderr } = setup({ terminal: true });
  output.progress("Downloading model...", "10%");
  output.progress("Downloading model...", "20%");
  output.say("Retry 2/6");
  assertStringIncludes(stderr.text, "10%\r\x1b[J20%\n");
  assertEquals(stderr.text.endsWith("Retry 2/6\n"), true);
});

Deno.test("quiet leaves results, errors and what was asked for", async () => {
  const { output, stdout, stderr } = setup({ quiet: true });
  output.say("narration");
  output.progress("stage", "stage 10%");
  output.ready();
  await output.line("result");
  output.insist("Timings: 1 ms");
  output.error("It failed");
  assertEquals([stdout.text, stderr.text], ["result\n", "Timings: 1 ms\nError: It failed\n"]);
});

Deno.test("a message does not begin in the middle of the answer's line on a terminal", async () => {
  const { output, stderr } = setup({ terminal: true });
  await output.text("Once upon");
  output.say("Canceled.");
  assertEquals(stderr.text, "\nCanceled.\n");
});

Deno.test("a model can't steer the terminal, but a pipe gets its bytes as they are", async () => {
  const [shown, piped] = [setup({ terminal: true }), setup()];
  await shown.output.text("a\x1b[2Jb\tc\n\u009b");
  await piped.output.text("a\x1b[2Jb");
  assertEquals(shown.stdout.text, "a\ufffd[2Jb\tc\n\ufffd");
  assertEquals(piped.stdout.text, "a\x1b[2Jb");
});
