import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { nearest } from "./near_miss.ts";

const KNOWN = ["prompt", "model", "max-tokens", "temperature", "top-p", "seed"];

Deno.test("a slip finds its word: a letter missing, doubled, swapped, or in the wrong case", () => {
  for (
    const [given, meant] of [["promt", "prompt"], ["modell", "model"], ["mdoel", "model"], ["SEED", "seed"]]
  ) {
    assertEquals(nearest(given, KNOWN), meant);
  }
});

Deno.test("a beginning of three letters finds its word", () => {
  assertEquals(nearest("temp", KNOWN), "temperature");
  assertEquals(nearest("max", KNOWN), "max-tokens");
});

Deno.test("what is not near is not guessed at", () => {
  for (const given of ["zzz", "", "x", "to", "xylophone", "verbose", "temprat"]) {
    assertEquals(nearest(given, KNOWN), undefined);
  }
  assertEquals(nearest("ab", ["cd"]), undefined, "half of a short word wrong is another word");
  assertEquals(nearest("anything", []), undefined);
});

Deno.test("a known word is its own nearest, and any answer is a known word", () => {
  fc.assert(fc.property(fc.string(), fc.array(fc.string({ minLength: 1 })), (given, known) => {
    const near = nearest(given, known);
    assert(near === undefined || known.includes(near));
    if (known.includes(given)) assertEquals(near?.toLowerCase(), given.toLowerCase());
  }));
});
