import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { printable } from "./printable.ts";

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

Deno.test("the result is well-formed, holds no control character and is its own result", () => {
  fc.assert(fc.property(anyText(), (text) => {
    const shown = printable(text);
    assert(shown.isWellFormed());
    assert(!/\p{Cc}/u.test(shown));
    assertEquals(printable(shown), shown);
  }));
});
