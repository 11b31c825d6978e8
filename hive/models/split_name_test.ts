import { assertEquals } from "@std/assert";
import { splitNameOf, splitPaths } from "./split_name.ts";

Deno.test("a part knows its model and all its siblings", () => {
  assertEquals(splitNameOf("d/m-00002-of-00003.gguf"), { stem: "d/m", part: 2, parts: 3 });
  assertEquals(splitPaths("d/m-00002-of-00003.gguf"), [
    "d/m-00001-of-00003.gguf",
    "d/m-00002-of-00003.gguf",
    "d/m-00003-of-00003.gguf",
  ]);
});

Deno.test("a file that is no part stands for itself", () => {
  assertEquals(splitNameOf("m.GGUF"), { stem: "m", part: 1, parts: 1 });
  for (const path of ["m.gguf", "m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-00001-of-99999.gguf"]) {
    assertEquals(splitPaths(path), [path]);
  }
});
