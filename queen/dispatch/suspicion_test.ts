import { assertEquals } from "@std/assert";
import { judge } from "./suspicion.ts";

Deno.test("every row of the table holds", () => {
  const again = (strikes: number) => ({ strikes, poisoned: false });
  for (const before of [0, 1]) {
    assertEquals(judge(before, { how: "left", told: false }), again(before));
    assertEquals(judge(before, { how: "left", told: true }), again(0));
    assertEquals(judge(before, { how: "lost", told: true }), again(1));
  }
  assertEquals(judge(0, { how: "lost", told: false }), again(1));
  assertEquals(judge(1, { how: "lost", told: false }), { strikes: 2, poisoned: true });
});

Deno.test("the request of a noted key is poisoned by its first loss before a token, and not by one after", () => {
  assertEquals(judge(0, { how: "lost", told: false }, 1), { strikes: 1, poisoned: true });
  assertEquals(judge(0, { how: "lost", told: true }, 1), { strikes: 1, poisoned: false });
  assertEquals(judge(0, { how: "left", told: false }, 1), { strikes: 0, poisoned: false });
});
