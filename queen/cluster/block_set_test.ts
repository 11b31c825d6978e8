import { assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { BlockSet } from "./block_set.ts";

const BLOCK = fc.oneof(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 2 ** 48 - 1 }));

Deno.test("whatever is put in, it holds what a set holds", () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(BLOCK, { maxLength: 40 }), { maxLength: 8 }),
      fc.array(BLOCK),
      (lists, others) => {
        const [first = [], ...more] = lists;
        const held = new BlockSet(first);
        for (const list of more) held.addAll(Float64Array.from(list));
        const naive = new Set(lists.flat());
        assertEquals(held.size, naive.size);
        for (const block of [...lists.flat(), ...others]) assertEquals(held.has(block), naive.has(block));
      },
    ),
  );
});

Deno.test("a hundred thousand are found again, whether they differ in their high or in their low bits", () => {
  for (const step of [1, 2 ** 16, 2 ** 31]) {
    const blocks = Array.from({ length: 100_000 }, (_, i) => i * step);
    const held = new BlockSet(blocks);
    assertEquals(held.size, blocks.length);
    assertEquals(blocks.findIndex((block) => !held.has(block)), -1);
    assertEquals(held.has(blocks.length * step), false);
  }
});
