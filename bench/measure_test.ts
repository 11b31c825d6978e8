import { assertEquals } from "@std/assert";
import { alternate, type Contender, difference, figureOf, median, percentile, ratio } from "./measure.ts";

Deno.test("the median is the middle, or lies between the two in the middle", () => {
  assertEquals(median([5]), 5);
  assertEquals(median([9, 1, 5]), 5);
  assertEquals(median([4, 1, 100, 2]), 3);
});

Deno.test("a percentile is one of the samples", () => {
  const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
  assertEquals(percentile(hundred, 99), 99);
  assertEquals(percentile(hundred, 50), 50);
  assertEquals(percentile(hundred.slice(50), 99), 50);
  assertEquals(percentile([7], 99), 7);
  assertEquals(percentile([7, 8], 0), 7);
});

Deno.test("a figure is made by the statistic asked for", () => {
  assertEquals(figureOf([1, 2, 9], "median"), 2);
  assertEquals(figureOf([1, 2, 9], "p99"), 9);
});

Deno.test("ratios and differences compare what was measured in the same round", () => {
  // The machine became half as fast; who is compared with whom did not change.
  assertEquals(ratio([200, 100, 100], [100, 50, 50]), 2);
  assertEquals(difference([20, 10, 10], [15, 5, 5]), 5);
});

Deno.test("taking samples leaves their order alone", () => {
  const samples = [3, 1, 2];
  median(samples);
  percentile(samples, 99);
  assertEquals(samples, [3, 1, 2]);
});

Deno.test("contenders take turns, and the warm-up is not counted", async () => {
  const order: string[] = [];
  const contender = (name: string): Contender => ({
    command: name,
    run: () => Promise.resolve(order.push(name)),
  });
  const outcomes = await alternate([contender("a"), contender("b")], 2);
  assertEquals(order, ["a", "b", "a", "b", "a", "b"]);
  assertEquals(outcomes, [{ samples: [3, 5] }, { samples: [4, 6] }]);
});

Deno.test("a contender that fails is left out of the rounds that follow", async () => {
  const failure = new Error("out of memory");
  let runs = 0;
  const failing: Contender = {
    command: "failing",
    run: () => ++runs === 2 ? Promise.reject(failure) : Promise.resolve(runs),
  };
  const steady: Contender = { command: "steady", run: () => Promise.resolve(1) };
  const outcomes = await alternate([failing, steady], 3);
  assertEquals(runs, 2);
  assertEquals(outcomes, [{ samples: [], failure }, { samples: [1, 1, 1] }]);
});
