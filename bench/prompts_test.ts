import { assert, assertEquals } from "@std/assert";
import { editPrompt, freshPrompt, prompt } from "./prompts.ts";

Deno.test("a prompt has a word for each token but the first, and is another one each time", () => {
  assertEquals(prompt(512).split(" ").length, 511);
  assert(prompt(64) !== prompt(64));
});

Deno.test("an edit leaves four of five words as they will be written", () => {
  const words = editPrompt(200).split(" ");
  assertEquals(words.length, 201);
  // The kept blocks of one text follow each other in the vocabulary; none of their words comes twice.
  const kept = words.slice(0, 200).filter((_, i) => i % 50 < 20 || i % 50 >= 30);
  assertEquals(new Set(kept).size, 160);
});

Deno.test("fresh prompts are three different words", () => {
  assertEquals(new Set(freshPrompt(100).split(" ")).size, 3);
});
