import { assertEquals } from "@std/assert";
import { NOTED_AFTER_POISONED, NOTED_FOR_MS, POISONED_STRIKES } from "../limits.ts";
import { Offenders } from "./offenders.ts";

Deno.test("a key is noted while its last few poisoned requests are recent, and its next may cost one worker", () => {
  const offenders = new Offenders((key) => key === "owner");
  for (let i = 0; i < NOTED_AFTER_POISONED; i++) {
    assertEquals(offenders.limitOf("ada", i), POISONED_STRIKES);
    for (const key of ["ada", "owner"]) offenders.add(key, i);
  }
  const limits = (nowMs: number) => ["ada", "owner", "bob"].map((key) => offenders.limitOf(key, nowMs));
  assertEquals(limits(NOTED_FOR_MS - 1), [1, POISONED_STRIKES, POISONED_STRIKES]);
  assertEquals(limits(NOTED_FOR_MS), [POISONED_STRIKES, POISONED_STRIKES, POISONED_STRIKES]);
  // One more, and the last few are recent again.
  offenders.add("ada", NOTED_FOR_MS);
  assertEquals(limits(NOTED_FOR_MS), [1, POISONED_STRIKES, POISONED_STRIKES]);
  assertEquals([...offenders.totals], [["ada", NOTED_AFTER_POISONED + 1], ["owner", NOTED_AFTER_POISONED]]);
});
