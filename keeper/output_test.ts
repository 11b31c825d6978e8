import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { bold, red } from "@std/fmt";
import fc from "fast-check";
import { explain } from "./explain.ts";
import { reportFailure } from "./failure.ts";
import { Output, type OutputOptions, type Sink } from "./output.ts";
import { textTable } from "./text_table.ts";
import { RbeeError } from "../protocol/errors.ts";

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
  await output.answer("Once");
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
  await output.answer("Once upon");
  output.say("Canceled.");
  assertEquals(stderr.text, "\nCanceled.\n");
});

Deno.test("a model can't steer the terminal, but a pipe gets its bytes as they are", async () => {
  const [shown, piped] = [setup({ terminal: true }), setup()];
  await shown.output.answer("a\x1b[2Jb\tc\n\u009b");
  await piped.output.answer("a\x1b[2Jb");
  assertEquals(shown.stdout.text, "a\ufffd[2Jb\tc\n\ufffd");
  assertEquals(piped.stdout.text, "a\x1b[2Jb");
});

Deno.test("an answer keeps the characters of its language on a terminal, but not the marks that reverse it", async () => {
  const { output, stdout } = setup({ terminal: true });
  await output.answer("می‌خواهم 👩‍🚀 ก\u200bข\r\n\u202eevil\u2069 \u{e0041}");
  assertEquals(stdout.text, "می‌خواهم 👩‍🚀 ก\u200bข\n\ufffdevil\ufffd \ufffd");
});

Deno.test("somebody else's lines are set in: none of them passes for one of the program's", () => {
  const { output, stderr } = setup();
  output.error("It failed\nError: all keys are lost", ["Do this.\nThen rm -rf /"]);
  output.say("one\ntwo");
  assertEquals(
    stderr.text,
    "Error: It failed\n  Error: all keys are lost\n  Do this.\n  Then rm -rf /\none\n  two\n",
  );
});

Deno.test("a line that is painted has no colours but the program's own", async () => {
  const [shown, piped] = [setup({ terminal: true }), setup()];
  for (const { output } of [shown, piped]) {
    await output.painted({ text: "\x1b[32mok", paint: red }, { text: "\n" });
  }
  assertEquals(shown.stdout.text, `${red("\\u001b[32mok")}\\u000a\n`);
  assertEquals(piped.stdout.text, "\\u001b[32mok\\u000a\n");
});

Deno.test("a document is the same JSON, and nothing in it reaches a terminal as it is", async () => {
  const value = { "k\u009b": ["\u001b]52;c;eA==\u0007", "\u202e\u200b\u{e0041}", "\ud800", "é 🐝"] };
  const { output, stdout } = setup();
  await output.document(value);
  assertEquals(JSON.parse(stdout.text), value);
  assert(unsteered(stdout.text), stdout.text);
});

/** What the program itself may write: line feeds, colours, and how the status line is drawn. */
// deno-lint-ignore no-control-regex
const OWN = /\x1b\[(?:\?(?:25|7)[hl]|J|\d+A|\d+m)|\r(?=\x1b\[J)/g;

/** Whether nothing is left that steers a terminal, its own sequences aside. */
function unsteered(text: string): boolean {
  return text.isWellFormed() &&
    !/(?!\n)[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f]/u.test(
      text.replaceAll(OWN, ""),
    );
}

/** Any UTF-16 there is, and much of what terminals understand. */
const hostile = fc.array(
  fc.oneof(
    fc.integer({ min: 0, max: 0xffff }).map((unit) => String.fromCharCode(unit)),
    fc.integer({ min: 0, max: 0x9f }).map((unit) => String.fromCharCode(unit)),
    fc.constantFrom(
      "\x1b]0;title\x07",
      "\x1b[2J",
      "\x1bP+q\x1b\\",
      "\x1b]52;c;eA==\x1b\\",
      "\u009d0;t\u009c",
      "\r\n",
    ),
    fc.constantFrom("\u2028", "\u202e", "\u2066", "\u200b", "\ufeff", "\u{e0041}", "\ud800", "é🐝"),
  ),
  { maxLength: 30 },
).map((parts) => parts.join(""));

Deno.test("whatever others say, in whatever way it leaves, a terminal sees only what the program writes itself", async () => {
  await fc.assert(
    fc.asyncProperty(hostile, fc.boolean(), async (text, terminal) => {
      const ways: ((output: Output) => unknown)[] = [
        (output) => output.line(text),
        (output) => output.document({ [text]: text }),
        (output) => output.painted({ text, paint: bold }, { text }),
        (output) => output.say(text),
        (output) => output.progress(text, text),
        (output) => output.error(text, [text, text]),
        (output) => output.text(textTable([{ NODE: text, WORKER: "w" }, { NODE: "n", WORKER: text }])),
        (output) => reportFailure(new Error(text), output),
        (output) => reportFailure(new RbeeError("INTERNAL", text, { details: { log_tail: [text] } }), output),
        (output) => terminal && output.answer(text.replaceAll("\t", "")),
      ];
      for (const [at, way] of ways.entries()) {
        const { output, stdout, stderr } = setup({ terminal });
        await way(output);
        const written = stdout.text + stderr.text;
        assert(unsteered(written), `way ${at}: ${JSON.stringify(written)}`);
        assert(!written.includes("\x1b") || terminal, `way ${at}: ${JSON.stringify(written)}`);
      }
    }),
    { numRuns: 300 },
  );
});

Deno.test("a table has one line for each row, and a line is one line", async () => {
  await fc.assert(fc.asyncProperty(hostile, async (text) => {
    const { output, stdout } = setup();
    await output.text(textTable([{ A: text, B: text }, { A: "x", B: text }]));
    await output.line(text);
    await output.painted({ text });
    await output.document(text);
    assertEquals(stdout.text.split("\n").length, 3 + 3 + 1);
  }));
});

Deno.test("an explanation says what was said, and is escaped where it leaves", () => {
  const { headline } = explain(new RbeeError("WORKER_START_FAILED", "It died\x1b[2J"));
  const { output, stderr } = setup({ terminal: true });
  output.error(headline);
  assertStringIncludes(stderr.text, "It died\\u001b[2J");
});
