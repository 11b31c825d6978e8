import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { printable, printableText } from "./printable.ts";

/** Any UTF-16 there is, half characters included. */
const anyText = (constraints: fc.ArrayConstraints = {}) =>
  fc.array(fc.integer({ min: 0, max: 0xffff }), constraints).map((units) => String.fromCharCode(...units));

Deno.test("text that people write stays as it is", () => {
  for (const text of ["", "plain", "größer – 日本語 🐝", 'quotes " and \\ slashes', "e\u0301", "a\u00a0b"]) {
    assertEquals(printable(text), text);
  }
});

Deno.test("what would move, colour or reorder a terminal is escaped", () => {
  assertEquals(printable("a\u001b[2Jb"), "a\\u001b[2Jb");
  assertEquals(printable("a\r\nb\tc\u0000"), "a\\u000d\\u000ab\\u0009c\\u0000");
  assertEquals(printable("\u007f\u0085\u009b"), "\\u007f\\u0085\\u009b");
  assertEquals(printable("\u2028\u2029\u202e\u2066\u200f"), "\\u2028\\u2029\\u202e\\u2066\\u200f");
  assertEquals(printable("\ud800x\udc00"), "\\ud800x\\udc00");
  assertEquals(printable("\ud83d\udc1d"), "\ud83d\udc1d");
});

Deno.test("what cannot be seen is escaped, unless it joins characters that are written with it", () => {
  assertEquals(printable("a\u200bb\u00adc\ufeff\u{e0041}"), "a\\u200bb\\u00adc\\ufeff\\udb40\\udc41");
  assertEquals(printable("pay\u200dpal\u200c\ufe0f"), "pay\\u200dpal\\u200c\\ufe0f");
  for (const text of ["👩🏽\u200d🚀", "❤\ufe0f\u200d🔥", "1\ufe0f\u20e3", "می\u200cخواهم"]) {
    assertEquals(printable(text), text);
  }
});

Deno.test("JSON stays the same JSON", () => {
  fc.assert(fc.property(anyText(), (text) => {
    const value = { [text.toWellFormed()]: [text.toWellFormed()] };
    assertEquals(JSON.parse(printable(JSON.stringify(value))), value);
  }));
});

Deno.test("a text keeps its lines, tabs and letters, and nothing else that a terminal would act on", () => {
  assertEquals(
    printableText("a\tb\r\nc\rd\u001b[2J\u009b\u202e\u00ad\u200b"),
    "a\tb\nc\ufffdd\ufffd[2J\ufffd\ufffd\u00ad\u200b",
  );
  fc.assert(fc.property(anyText(), (text) => {
    assert(!/(?![\n\t])[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u.test(printableText(text)));
  }));
});

Deno.test("the result is well-formed, holds no control character and is its own result", () => {
  fc.assert(fc.property(anyText(), (text) => {
    const shown = printable(text);
    assert(shown.isWellFormed());
    assert(!/\p{Cc}/u.test(shown));
    assertEquals(printable(shown), shown);
  }));
});
