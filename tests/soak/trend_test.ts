import { assertEquals } from "@std/assert";
import { memoryTrend, slope, trendProblems } from "./trend.ts";

/** Samples of a run of ten thousand requests. */
function samples(megabytes: (requests: number) => number) {
  return Array.from({ length: 40 }, (_, i) => (i + 1) * 250)
    .map((requests) => ({ requests, megabytes: megabytes(requests) }));
}

Deno.test("the slope is that of the line of least squares", () => {
  assertEquals(slope([[0, 1], [1, 3], [2, 5]]), 2);
  assertEquals(slope([[0, 1], [1, 1], [2, 4]]), 1.5);
  assertEquals(slope([[10, 7], [30, 7]]), 0);
});

Deno.test("what grows during the warm-up only is no growth", () => {
  const trend = memoryTrend(samples((requests) => requests <= 2000 ? 100 + requests / 100 : 120))!;
  assertEquals(trend, { samples: 32, bytesPerRequest: 0, firstMegabytes: 120, lastMegabytes: 120 });
  assertEquals(trendProblems(trend), []);
});

Deno.test("a steady leak is found by its slope and by its sum", () => {
  const leaks = (bytes: number) => trendProblems(memoryTrend(samples((n) => 100 + n * bytes / 1e6))!);
  assertEquals(leaks(500), []);
  assertEquals(leaks(2000), [
    "memory grows by 2000 bytes a request",
    "memory grew from 106.3 to 118.3 MB",
  ]);
});

Deno.test("noise around a level is no growth", () => {
  const trend = memoryTrend(samples((requests) => 120 + 3 * Math.sin(requests)))!;
  assertEquals(trendProblems(trend), []);
});

Deno.test("too few requests say nothing", () => {
  assertEquals(memoryTrend([]), undefined);
  assertEquals(memoryTrend(samples(() => 1).slice(0, 12)), undefined);
});
