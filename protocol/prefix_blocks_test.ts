import { assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { decodeBlocks, encodeBlocks } from "./prefix_blocks.ts";

Deno.test("hashes come back from their text as they were, whatever they are", () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 2 ** 48 - 1 })), (blocks) => {
    assertEquals(decodeBlocks(encodeBlocks(blocks)), Float64Array.from(blocks));
  }));
});

Deno.test("text that is no base64 holds no hashes", () => {
  assertEquals(decodeBlocks("§"), new Float64Array());
});
