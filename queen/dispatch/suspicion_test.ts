import { assertEquals } from "@std/assert";
import { LOSSES_MAX } from "../limits.ts";
import { judge } from "./suspicion.ts";

Deno.test("every row of the table holds", () => {
  for (const strikes of [0, 1]) {
    const before = { strikes, losses: 2 };
    assertEquals(judge(before, { how: "left", told: false }), { ...before, poisoned: false });
    assertEquals(judge(before, { how: "left", told: true }), { strikes: 0, losses: 2, poisoned: false });
    assertEquals(judge(before, { how: "lost", told: true }), { strikes: 1, losses: 3, poisoned: false });
    assertEquals(judge(before, { how: "lost", told: false }), {
      ...{ strikes: strikes + 1, losses: 3, poisoned: strikes === 1 },
    });
  }
  const often = { strikes: 0, losses: LOSSES_MAX - 1 };
  assertEquals(judge(often, { how: "lost", told: true }).poisoned, true);
  assertEquals(judge(often, { how: "left", told: false }).poisoned, false);
});

Deno.test("the request of a noted key is poisoned by its first loss before a token, and not by one after", () => {
  const before = { strikes: 0, losses: 0 };
  assertEquals(judge(before, { how: "lost", told: false }, 1).poisoned, true);
  assertEquals(judge(before, { how: "lost", told: true }, 1).poisoned, false);
  assertEquals(judge(before, { how: "left", told: false }, 1).poisoned, false);
});
