import { assertEquals, assertMatch } from "@std/assert";
import { projectFiles, projectRoot } from "./project_files.ts";
import { styleFindings } from "./style.ts";

const ROOT = "/some/where";

Deno.test("the project keeps its rules of style", () => {
  const root = projectRoot();
  const findings = projectFiles(root).flatMap((path) => {
    const bytes = Deno.readFileSync(`${root}/${path}`);
    if (bytes.includes(0)) return [];
    return styleFindings({ path, text: new TextDecoder().decode(bytes) }, root);
  });
  assertEquals(findings.map(({ path, line, message }) => `${path}:${line} ${message}`), []);
});

Deno.test("a part that imports a sibling or a part above it is found", () => {
  const cases: [string, string][] = [
    ["protocol/a.ts", 'import { x } from "../home/x.ts";'],
    ["home/a.ts", 'import type { X } from "../daemon/x.ts";'],
    ["daemon/a.ts", 'export * from "../worker/x.ts";'],
    ["worker/deep/a.ts", 'import {\n  x,\n} from "../../hive/x.ts";'],
    ["hive/a.ts", 'const { x } = await import("../worker/x.ts");'],
    ["queen/a.ts", 'import "../hive/x.ts";'],
    ["keeper/commands/a.ts", 'import { x } from "../../daemon/x.ts";'],
    ["std/a.ts", 'import { x } from "../protocol/x.ts";'],
  ];
  for (const [path, text] of cases) assertOne(path, text, /may not import/);
});

Deno.test("a part may import itself, what is below it, the standard library and packages of deno.json", () => {
  const text = [
    'import { a } from "./a.ts";',
    'import { b } from "../protocol/b.ts";',
    'import { c } from "../home/c.ts";',
    'import { d } from "../daemon/d.ts";',
    'import { e } from "@std/path";',
    'import { f } from "node:sqlite";',
    'import { z } from "zod";',
    'import manifest from "../deno.json" with { type: "json" };',
  ].join("\n");
  assertEquals(styleFindings({ path: "hive/x.ts", text }, ROOT), []);
});

Deno.test("tests, what is made for them, and the folders for tests may import anything of ours", () => {
  const text = 'import { x } from "../worker/x.ts";';
  for (const path of ["hive/x_test.ts", "hive/x_test_bed.ts", "tests/x.ts", "bench/x.ts"]) {
    assertEquals(messages(path, text), []);
  }
  assertEquals(messages("hive/testing/x.ts", 'import { x } from "../../tests/x.ts";'), []);
});

Deno.test("code that imports what is made for tests is found", () => {
  assertOne("hive/x.ts", 'import { y } from "./testing/y.ts";', /made for tests/);
  assertOne("hive/x.ts", 'import { y } from "./y_test_bed.ts";', /made for tests/);
  assertOne("hive/x.ts", 'import { y } from "../tests/helpers/y.ts";', /may not import tests/);
});

Deno.test("packages named outside of deno.json, and the untyped library, are found", () => {
  assertMatch(messages("hive/a.ts", 'import { z } from "npm:zod@4";').join(), /deno\.json/);
  assertOne("hive/a.ts", 'const name = "npm:zod@4";', /deno\.json only/);
  assertOne("hive/a_test.ts", 'import { x } from "https://example.com/x.ts";', /imports of deno\.json/);
  assertOne("hive/a.ts", 'import { x } from "deno-std/path/mod.js";', /no types/);
  assertEquals(messages("std/path.ts", 'export * from "deno-std/path/mod.js";'), []);
});

Deno.test("a file that is too long is found, one that is just not is let be", () => {
  assertOne("hive/a.ts", "x();\n".repeat(401), /401 lines/);
  assertOne("worker/native/src/a.cpp", "x();\n".repeat(401), /401 lines/);
  assertEquals(messages("hive/a.ts", "x();\n".repeat(400)), []);
  assertEquals(messages("README.md", "x\n".repeat(401)), []);
});

Deno.test("names that are not in snake_case or say nothing are found", () => {
  assertOne("hive/camelCase.ts", "", /snake_case/);
  assertOne("hive/kebab-case.ts", "", /snake_case/);
  assertOne("worker/native/src/Engine.cpp", "", /snake_case/);
  for (const path of ["hive/index.ts", "hive/utils.ts", "hive/utils/x.ts", "hive/http_util.ts"]) {
    assertOne(path, "", /says nothing/);
  }
  assertEquals(messages("std/http.d.ts", ""), []);
});

Deno.test("default exports are found", () => {
  assertOne("hive/a.ts", "export default function x() {}", /default export/);
  assertOne("hive/a.ts", "const x = 1;\nexport { x as default };", /default export/);
  assertEquals(messages("hive/a.ts", "// export default is not used here"), []);
});

Deno.test("this machine's path, addresses of registries and notes to oneself are found in any kind of file", () => {
  const words = [`${ROOT}/hive`, ROOT, ["registry", "npmjs", "org"].join("."), "TO" + "DO: later"];
  for (const word of words) {
    assertOne("README.md", `See ${word}.`, /does not belong/);
    assertOne("hive/a.ts", `// see "${word}"`, /does not belong/);
  }
  assertEquals(messages("README.md", `/some/wherever /and${ROOT} TODOS`.replace("TODOS", "to do")), []);
});

Deno.test("an error whose message is no sentence is found", () => {
  assertOne("hive/a.ts", 'throw new RbeeError("INTERNAL", "something broke");', /begins with "something"/);
  assertOne("hive/a.ts", 'throw new RbeeError(\n  "INTERNAL",\n  `no ${x}`,\n);', /begins with "no"/);
  assertOne("hive/a.ts", 'throw new RbeeError(code, "no such thing");', /begins with "no"/);
  assertEquals(messages("hive/a.ts", 'throw new RbeeError("INTERNAL", `${name} is gone.`);'), []);
  assertEquals(messages("hive/a.ts", 'throw new RbeeError("INTERNAL", "Port 80 is taken.");'), []);
  assertEquals(messages("hive/a.ts", 'throw new RbeeError("INTERNAL", "api_key is empty.");'), []);
});

function messages(path: string, text: string): string[] {
  return styleFindings({ path, text }, ROOT).map((finding) => finding.message);
}

function assertOne(path: string, text: string, expected: RegExp): void {
  const found = messages(path, text);
  assertEquals(found.length, 1, `${path}: ${found.join(" | ") || "nothing found"}`);
  assertMatch(found[0], expected);
}

Deno.test("a program that writes past what escapes is found, in both languages", () => {
  const cases: [string, string][] = [
    ["keeper/commands/a.ts", "console.log(name);"],
    ["hive/a.ts", "await Deno.stdout.write(bytes);"],
    ["queen/a.ts", "const { stderr } = process;\nprocess.stderr.write(text);"],
    ["worker/a.ts", 'Deno.openSync("/dev/tty");'],
    ["home/a.ts", "if (confirm(question)) go();"],
    ["worker/native/src/a.cpp", "std::fprintf(stderr, text);"],
    ["worker/native/src/a.cpp", "std::cerr << text;"],
    ["worker/native/src/a.cpp", "std::printf(text);"],
  ];
  for (const [path, text] of cases) assertOne(path, text, /writes past what escapes/);
  const fine: [string, string][] = [
    ["keeper/a_test.ts", "console.log(name);"],
    ["tools/a.ts", "console.log(name);"],
    ["keeper/a.ts", "// as console.log does\nconst { stderr } = await command.output();"],
    ["worker/native/src/a.cpp", "std::snprintf(text, sizeof text, format);"],
  ];
  for (const [path, text] of fine) assertEquals(messages(path, text), []);
});
