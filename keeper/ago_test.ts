import { assertEquals } from "@std/assert";
import { ago } from "./ago.ts";

Deno.test("how long ago something was is said in the largest unit that fits", () => {
  const day = 24 * 3600;
  const cases: [number, string][] = [
    [-30, "just now"],
    [59, "just now"],
    [60, "1 minute ago"],
    [3599, "59 minutes ago"],
    [2 * 3600, "2 hours ago"],
    [3 * day + 5, "3 days ago"],
    [45 * day, "1 month ago"],
    [800 * day, "2 years ago"],
  ];
  for (const [seconds, said] of cases) assertEquals(ago(1_000_000_000 - seconds, 1_000_000_000), said);
  assertEquals(ago(null, 0), "never");
});
