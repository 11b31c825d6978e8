import { assertEquals } from "@std/assert";
import { docProblems, lintDocs } from "./doc_lint.ts";

Deno.test("a public name without a comment is a problem, an inferred type is none", async () => {
  const root = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(
      `${root}/inferred.ts`,
      "/** Documented. */\nexport const Named = [1].map(String);\n",
    );
    assertEquals(await lintDocs(root, ["inferred.ts"]), undefined);
    await Deno.writeTextFile(`${root}/silent.ts`, "export function silent(): void {}\n");
    const problem = await lintDocs(root, ["inferred.ts", "silent.ts"]);
    assertEquals(problem?.match(/error\[[\w-]+\]/g), ["error[missing-jsdoc]"]);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("a failure that is no finding is not swallowed", () => {
  assertEquals(docProblems("error: Module not found"), "error: Module not found");
});
