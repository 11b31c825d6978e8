import { assertEquals } from "@std/assert";
import { StatusLine } from "./status_line.ts";

function terminal(columns = 40) {
  const written: string[] = [];
  const window = { columns };
  return {
    written,
    window,
    line: new StatusLine({ write: (text) => written.push(text), columns: () => window.columns }),
  };
}

Deno.test("a line is drawn over, and the cursor comes back at the end", () => {
  const { written, line } = terminal();
  line.update("one");
  line.update("two");
  line.finish();
  assertEquals(written, ["\x1b[?25l\x1b[?7lone", "\r\x1b[Jtwo", "\n\x1b[?7h\x1b[?25h"]);
});

Deno.test("a line longer than the window is cut", () => {
  const { written, line } = terminal(6);
  line.update("abcdefgh");
  assertEquals(written, ["\x1b[?25l\x1b[?7labcde"]);
});

Deno.test("a window made narrower has folded the line: all of its rows are cleared", () => {
  const { written, window, line } = terminal(31);
  line.update("x".repeat(30));
  window.columns = 10;
  line.update("y");
  assertEquals(written[1], "\x1b[2A\r\x1b[Jy");
});

Deno.test("the same line is not drawn twice, and ending nothing writes nothing", () => {
  const { written, line } = terminal();
  line.finish();
  line.update("one");
  line.update("one");
  line.clear();
  line.finish();
  assertEquals(written, ["\x1b[?25l\x1b[?7lone", "\r\x1b[J\x1b[?7h\x1b[?25h"]);
});
