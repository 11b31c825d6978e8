import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { RbeeError } from "./errors.ts";
import { DEFAULT_MODEL_REF, type ModelRef, ModelRefText, parseModelRef } from "./model_ref.ts";

const VALID: [string, Partial<ModelRef> & Record<string, unknown>][] = [
  ["builtin:stories", { provider: "builtin", name: "stories" }],
  ["hf:a/b", { provider: "hf", repo: "a/b", selector: undefined, revision: undefined }],
  ["hf:TheBloke/Llama-2-7B_x.GGUF", { repo: "TheBloke/Llama-2-7B_x.GGUF" }],
  ["hf:a/b:Q4_K_M", { selector: "Q4_K_M", revision: undefined }],
  ["hf:a/b@v1.0", { selector: undefined, revision: "v1.0" }],
  ["hf:a/b:Q8_0@refs/pr/3", { selector: "Q8_0", revision: "refs/pr/3" }],
  ["hf:a/b:sub/dir/model-00001-of-00003.gguf@main", { selector: "sub/dir/model-00001-of-00003.gguf" }],
  ["hf:a/b@0123456789abcdef0123456789abcdef01234567", {
    revision: "0123456789abcdef0123456789abcdef01234567",
  }],
  ["file:/models/x.gguf", { provider: "file", path: "/models/x.gguf" }],
  ["file:/models/With Space/Größe – 7B.GGUF", { path: "/models/With Space/Größe – 7B.GGUF" }],
  ["file:/models/..x/a..b.gguf", { path: "/models/..x/a..b.gguf" }],
  ["file:/模型/🐝.gguf", { path: "/模型/🐝.gguf" }],
  ["file:/odd:name@home.gguf", { path: "/odd:name@home.gguf" }],
];

const HOSTILE = [
  "",
  " ",
  "stories",
  "builtin:",
  "builtin:other",
  "BUILTIN:stories",
  "builtin:stories ",
  " builtin:stories",
  "builtin:stories\n",
  "builtin:stories@main",
  "hf:",
  "hf:a",
  "hf:/b",
  "hf:a/",
  "hf:a/b/c",
  "hf:a//b",
  "hf:../b",
  "hf:a/..",
  "hf:./b",
  "hf:.a/b",
  "hf:-a/b",
  "hf:a--b/c",
  "hf:a/b--c",
  "hf:a/b..c",
  "hf:a/b:",
  "hf:a/b@",
  "hf:a/b:@main",
  "hf:a/b:x:y",
  "hf:a/b@m@n",
  "hf:a/b@m:q",
  "hf:a/b:../x.gguf",
  "hf:a/b:x/../y.gguf",
  "hf:a/b:x//y.gguf",
  "hf:a/b:x/./y.gguf",
  "hf:a/b@x/./y",
  "hf:a/b:/etc/passwd",
  "hf:a/b:x/",
  "hf:a/b:.hidden",
  "hf:a/b:x\\y",
  "hf:a\\b/c",
  "hf:a/b:q 4",
  "hf:a/b:q?x=1",
  "hf:a/b:q#x",
  "hf:a/b:q%2e%2e",
  "hf:a/b@../x",
  "hf:a/b@x/../../y",
  "hf:a/b@x//y",
  "hf:a/b@-x",
  "hf:a/b@x?y",
  "hf:a b/c",
  "hf:ä/b",
  "hf:a/b\u0000",
  "hf:a/b\n",
  `hf:${"a".repeat(97)}/b`,
  `hf:a/b:${"q".repeat(256)}`,
  "https://huggingface.co/a/b",
  "file:",
  "file:x.gguf",
  "file:./x.gguf",
  "file:../x.gguf",
  "file:~/x.gguf",
  "file:C:\\x.gguf",
  "file:/",
  "file:/models",
  "file:/models/x.bin",
  "file:/models/x.gguf/",
  "file:/models/../etc/x.gguf",
  "file:/..",
  "file:/a/..",
  "file:/x\u0000.gguf",
  "file:/x\u001b[31m.gguf",
  "file:/x\u007f.gguf",
  "file:/x\u009b31m.gguf",
  "file:/x\u2028.gguf",
  "file:/x\u202efugg.gguf",
  "file:/x\ud800.gguf",
  `file:/${"a".repeat(600)}.gguf`,
  "x".repeat(1_000_000),
];

/** Any UTF-16 there is, half characters included. */
const anyText = (constraints: fc.ArrayConstraints = {}) =>
  fc.array(fc.integer({ min: 0, max: 0xffff }), constraints).map((units) => String.fromCharCode(...units));

Deno.test("the three forms are understood in all their parts", () => {
  for (const [text, expected] of VALID) {
    const ref = parseModelRef(text);
    assertEquals(ref.text, text);
    for (const [field, value] of Object.entries(expected)) {
      assertEquals((ref as unknown as Record<string, unknown>)[field], value, `${text}: ${field}`);
    }
    assertEquals(ModelRefText.parse(text), text);
  }
  assertEquals(parseModelRef(DEFAULT_MODEL_REF).provider, "builtin");
});

Deno.test("anything else is refused, by the function and by the schema, with the reference and the forms", () => {
  for (const text of HOSTILE) {
    const error = assertThrows(() => parseModelRef(text), RbeeError);
    assertEquals(error.code, "INVALID_REQUEST", text);
    assertEquals((error.details.errors as { field: string }[])[0].field, "model_ref");
    assert(error.message.length < 500, `${error.message.length} characters for ${text.slice(0, 40)}`);
    assert(
      !/[\p{Cc}\p{Cs}\p{Zl}\u202e]/u.test(error.message),
      `not printable: ${JSON.stringify(error.message)}`,
    );
    assertEquals(ModelRefText.safeParse(text).success, false, text.slice(0, 40));
  }
  assertStringIncludes(assertThrows(() => parseModelRef("storys")).message, '"storys"');
  assertStringIncludes(assertThrows(() => parseModelRef("storys")).message, "hf:OWNER/REPO[:QUANT_OR_FILE]");
});

Deno.test("one file has one text, however its path was written", () => {
  for (const path of ["//models/x.gguf", "/./models/x.gguf", "/models/././/x.gguf", "/models///x.gguf"]) {
    const ref = parseModelRef(`file:${path}`);
    assertEquals(ref, { provider: "file", text: "file:/models/x.gguf", path: "/models/x.gguf" });
  }
});

Deno.test("whatever the text, parsing gives a reference or an RbeeError, and what it gives stays the same", () => {
  const alphabet = [
    ..."hfile:builtin/@.-_aZ09 \\%?~",
    "..",
    "hf:",
    "file:/",
    ".gguf",
    "\u0000",
    "é",
    "\ud800",
    "🐝",
  ];
  const nearly = fc.array(fc.constantFrom(...alphabet), { maxLength: 24 }).map((parts) => parts.join(""));
  const shaped = fc.tuple(nearly, nearly).map(([a, b]) => `hf:o${a}/r${b}`);
  const file = nearly.map((middle) => `file:/${middle}.gguf`);
  let accepted = 0;
  fc.assert(
    fc.property(fc.oneof(anyText(), nearly, shaped, file), (text) => {
      let ref: ModelRef;
      try {
        ref = parseModelRef(text);
      } catch (error) {
        assert(error instanceof RbeeError, `${error}`);
        assertEquals(error.code, "INVALID_REQUEST");
        return;
      }
      accepted++;
      assertEquals(parseModelRef(ref.text), ref);
      const places = ref.provider === "file"
        ? [ref.path]
        : ref.provider === "hf"
        ? [ref.repo, ref.selector ?? "x", ref.revision ?? "x"]
        : [];
      for (const place of places) {
        assert(!place.split("/").includes(".."), `climbs: ${place}`);
        assert(!place.includes("\u0000"), "holds a zero byte");
      }
      if (ref.provider === "hf") assert(!ref.repo.includes("--"), ref.repo);
    }),
    { numRuns: 5000 },
  );
  assert(accepted > 100, `only ${accepted} were valid: the test tests little`);
});

Deno.test("a hostile text costs no time: the patterns do not backtrack", () => {
  const started = performance.now();
  for (
    const text of ["hf:" + "a-".repeat(250), `hf:a/b:${"a/".repeat(120)}!`, `hf:a/b@${"a/".repeat(120)}!`]
  ) {
    assertThrows(() => parseModelRef(text), RbeeError);
  }
  assertThrows(() => parseModelRef(`file:${"/.".repeat(250)}`), RbeeError);
  assert(performance.now() - started < 500, `${performance.now() - started} ms`);
});
