import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { embeddingBatches } from "./embedding_batches.ts";

Deno.test("every text is in one batch, and no batch is larger than a step unless one text is", () =>
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 40 })),
      fc.record({ tokens: fc.integer({ min: 1, max: 100 }), texts: fc.integer({ min: 1, max: 8 }) }),
      (lengths, limits) => {
        const batches = embeddingBatches(lengths, limits);
        assertEquals(batches.reduce((sum, count) => sum + count, 0), lengths.length);
        let from = 0;
        for (const count of batches) {
          const tokens = lengths.slice(from, from += count).reduce((sum, length) => sum + length, 0);
          assertEquals(count >= 1 && count <= limits.texts && (tokens <= limits.tokens || count === 1), true);
        }
      },
    ),
  ));

Deno.test("texts share a step as long as they fit", () => {
  assertEquals(embeddingBatches([5, 5, 5, 20, 1], { tokens: 10, texts: 8 }), [2, 1, 1, 1]);
  assertEquals(embeddingBatches([1, 1, 1], { tokens: 10, texts: 2 }), [2, 1]);
  assertEquals(embeddingBatches([], { tokens: 10, texts: 2 }), []);
});
