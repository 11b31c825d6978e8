import { assertEquals, assertThrows } from "@std/assert";
import { RbeeError } from "../protocol/errors.ts";
import type { ListedModel } from "../protocol/hive_schemas.ts";
import { referenceOf, unknownModel } from "./known_models.ts";

const TINY = "hf:TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF";
const MODELS = [TINY, `${TINY}:Q8_0`, "builtin:stories"].map((reference) => ({ reference }) as ListedModel);

Deno.test("a part of a name leads to all models that hold it, whatever the case", () => {
  const error = assertThrows(() => referenceOf("tinyllama", MODELS), RbeeError);
  assertEquals([error.code, error.details.near], ["MODEL_NOT_FOUND", [TINY, `${TINY}:Q8_0`]]);
});

Deno.test("a slip leads to what was meant, another quantisation to those there are", () => {
  assertEquals(unknownModel("builtin:storys", MODELS).details.near, ["builtin:stories"]);
  assertEquals(unknownModel(`${TINY}:Q4_0`, MODELS).details.near, [TINY]);
});

Deno.test("what is like nothing is refused for what it is", () => {
  assertEquals(assertThrows(() => referenceOf("wasp", MODELS), RbeeError).code, "INVALID_REQUEST");
  const error = unknownModel("hf:acme/wasp", MODELS);
  assertEquals(error.details.near, []);
  assertEquals((error.details.advice as string[]).length, 1);
});

Deno.test("a reference is taken in its normal form, known or not", () => {
  assertEquals(referenceOf("file:/m/./x.gguf", MODELS), "file:/m/x.gguf");
});
