import { assertEquals } from "@std/assert";
import { BuildProgress, parseBuildStep } from "./build_progress.ts";

Deno.test("ninja's lines are steps with a count", () => {
  const line = "[33/132] Building CXX object llama.cpp/common/CMakeFiles/llama-common.dir/chat.cpp.o";
  assertEquals(parseBuildStep(line), { percent: 25, count: "33/132", what: "llama.cpp/common/chat.cpp" });
});

Deno.test("make's lines are steps without a count", () => {
  assertEquals(parseBuildStep("[  7%] Linking CXX static library libllama.a"), {
    percent: 7,
    what: "Linking CXX static library libllama.a",
  });
});

Deno.test("what is not progress is no step", () => {
  const lines = [
    "-- Configuring done",
    "[0/2] Re-checking globbed directories...",
    "a[3] = 4",
    "",
    "[x/3] y",
  ];
  for (const line of lines) assertEquals(parseBuildStep(line), undefined, line);
});

Deno.test("without a terminal there is one line for every ten percent, and no control sequences", () => {
  const text = draw({ terminal: false }, (progress) => {
    for (let done = 1; done <= 200; done++) {
      progress.step({ percent: done / 2 | 0, count: `${done}/200`, what: "x.cpp" });
    }
  });
  assertEquals(text.split("\n").slice(0, 2), [
    "Building the engine:  10 % (20/200)",
    "Building the engine:  20 % (40/200)",
  ]);
  assertEquals(text.split("\n").length, 11);
  assertEquals(text.includes("\x1b"), false);
});

Deno.test("on a terminal the line is redrawn, never wider than the terminal, and gone before a line that stays", () => {
  const text = draw({ terminal: true }, (progress) => {
    progress.step({ percent: 5, count: "5/100", what: "a/very/long/path/to/some/file.cpp" });
    progress.step({ percent: 6, count: "6/100", what: "b.cpp" });
    progress.say("Done.");
  });
  const drawn = text.split("\r\x1b[2K");
  assertEquals(drawn.length, 4);
  assertEquals(drawn[1], "Building the engine:   5 % (5/100)  a/v");
  assertEquals(drawn[3], "Done.\n");
});

function draw(options: { terminal: boolean }, work: (progress: BuildProgress) => void): string {
  let text = "";
  work(new BuildProgress({ ...options, columns: 40, write: (part) => text += part }));
  return text;
}
