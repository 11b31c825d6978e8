import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { RbeeError } from "../../protocol/errors.ts";
import { parseModelRef } from "../../protocol/model_ref.ts";
import { chooseModel, type HubRef } from "./model_files.ts";

function choose(paths: string[], ref: string): string[] {
  const files = paths.map((path) => ({ path }));
  return chooseModel(files, parseModelRef(ref) as HubRef).files.map((file) => file.path);
}

function refused(paths: string[], ref: string): RbeeError {
  return assertThrows(() => choose(paths, ref), RbeeError);
}

const USUAL = ["README.md", "m-F16.gguf", "m-Q2_K.gguf", "m-Q4_0.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"];

Deno.test("a bare reference takes the first quantisation of the preference that is there", () => {
  assertEquals(choose(USUAL, "hf:a/m"), ["m-Q4_K_M.gguf"]);
  assertEquals(choose(["m-Q8_0.gguf", "m.Q6_K.gguf", "m-Q2_K.gguf"], "hf:a/m"), ["m.Q6_K.gguf"]);
  assertEquals(choose(["m-Q2_K.gguf", "m-f16.gguf"], "hf:a/m"), ["m-f16.gguf"]);
});

Deno.test("the only model of a repository needs no usual name", () => {
  assertEquals(choose(["mmproj-m-f16.gguf", "m.gguf"], "hf:a/m"), ["m.gguf"]);
  const error = refused(["m-Q2_K.gguf", "m-IQ1_S.gguf"], "hf:a/m");
  assertEquals(error.code, "MODEL_NOT_FOUND");
  assertStringIncludes(error.message, "Q2_K, IQ1_S");
});

Deno.test("a quantisation is matched whatever its case, before .gguf and after - or .", () => {
  assertEquals(choose(USUAL, "hf:a/m:q8_0"), ["m-Q8_0.gguf"]);
  assertEquals(choose(["m.Q4_K_S.gguf", "m-iq4_xs.gguf"], "hf:a/m:IQ4_XS"), ["m-iq4_xs.gguf"]);
  assertEquals(choose(["m-BF16.gguf", "m-F16.gguf"], "hf:a/m:F16"), ["m-F16.gguf"]);
});

Deno.test("the plain quantisation goes before the one with more in front", () => {
  const paths = ["m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf"];
  assertEquals(choose(paths, "hf:a/m"), ["m-Q4_K_M.gguf"]);
  assertEquals(choose(paths, "hf:a/m:UD-Q4_K_M"), ["m-UD-Q4_K_M.gguf"]);
  assertEquals(choose(["m-UD-Q4_K_M.gguf", "x-Q2_K.gguf"], "hf:a/m:Q4_K_M"), ["m-UD-Q4_K_M.gguf"]);
});

Deno.test("a file is named with or without folder, part number and .gguf", () => {
  const paths = ["big/x-00001-of-00002.gguf", "big/x-00002-of-00002.gguf", "y.gguf", "sub/y.gguf"];
  const parts = paths.slice(0, 2);
  for (const name of ["x", "big/x", "x-00002-of-00002", "big/x-00001-of-00002.gguf"]) {
    assertEquals(choose(paths, `hf:a/m:${name}`), parts);
  }
  assertEquals(choose(paths, "hf:a/m:y.gguf"), ["y.gguf"]);
  assertEquals(choose(paths, "hf:a/m:sub/y"), ["sub/y.gguf"]);
});

Deno.test("split parts are one model, in order", () => {
  const paths = ["m-Q4_0-00002-of-00003.gguf", "m-Q4_0-00003-of-00003.gguf", "m-Q4_0-00001-of-00003.gguf"];
  assertEquals(choose(paths, "hf:a/m"), [paths[2], paths[0], paths[1]]);
  const error = refused(paths.slice(0, 2), "hf:a/m");
  assertEquals(error.code, "INVALID_MODEL");
  assertStringIncludes(error.message, "2 of 3 parts");
});

Deno.test("companions are only taken by name", () => {
  const paths = ["mmproj-Q4_K_M.gguf", "m-mmproj-Q4_0.gguf", "m-Q8_0.gguf", "m.imatrix.gguf"];
  assertEquals(choose(paths, "hf:a/m"), ["m-Q8_0.gguf"]);
  assertEquals(choose(paths, "hf:a/m:mmproj-Q4_K_M"), ["mmproj-Q4_K_M.gguf"]);
});

Deno.test("what fits several models is refused with their names", () => {
  const error = refused(["7b-Q4_K_M.gguf", "13b-Q4_K_M.gguf"], "hf:a/m");
  assertEquals(error.code, "INVALID_REQUEST");
  assertEquals(error.details.available, ["7b-Q4_K_M", "13b-Q4_K_M"]);
  assertEquals(choose(["7b-Q4_K_M.gguf", "13b-Q4_K_M.gguf"], "hf:a/m:13b-Q4_K_M"), ["13b-Q4_K_M.gguf"]);
});

Deno.test("what is not there is refused with what is", () => {
  const error = refused(USUAL, "hf:a/m:Q3_K_L");
  assertEquals(error.code, "MODEL_NOT_FOUND");
  assertEquals(error.details.available, ["F16", "Q2_K", "Q4_0", "Q8_0", "Q4_K_M"]);
  assertStringIncludes(refused(["README.md"], "hf:a/m").message, "no GGUF file");
});
