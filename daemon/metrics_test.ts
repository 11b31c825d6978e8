import { assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { Histogram, metricsResponse, Tally } from "./metrics.ts";

async function textOf(...metrics: Parameters<typeof metricsResponse>[0]): Promise<string> {
  return await (await metricsResponse(metrics)).text();
}

Deno.test("metrics are Prometheus text", async () => {
  const outcomes = new Tally<"stop" | "length">();
  outcomes.add("stop");
  outcomes.add("length", 2);
  outcomes.add("stop");
  const response = await metricsResponse([
    { name: "rbee_x_total", type: "counter", help: "X.", value: 3 },
    { name: "rbee_y_total", type: "counter", help: "Y.", label: "outcome", values: outcomes },
  ]);
  assertEquals(response.status, 200);
  assertStringIncludes(response.headers.get("Content-Type")!, "text/plain; version=0.0.4");
  assertEquals(
    await response.text(),
    "# HELP rbee_x_total X.\n# TYPE rbee_x_total counter\nrbee_x_total 3\n\n" +
      "# HELP rbee_y_total Y.\n# TYPE rbee_y_total counter\n" +
      'rbee_y_total{outcome="stop"} 2\nrbee_y_total{outcome="length"} 2\n',
  );
});

Deno.test("a histogram shows how many values were not above each bound", async () => {
  const histogram = new Histogram([0.1, 1]);
  histogram.observe(0.1);
  histogram.observe(0.5, 3);
  histogram.observe(7);
  const metric = { name: "rbee_s", type: "histogram", help: "S.", label: "backend" } as const;
  assertEquals(
    (await textOf({ ...metric, values: [["cpu", histogram]] })).split("\n").slice(2, 7),
    [
      'rbee_s_bucket{backend="cpu",le="0.1"} 1',
      'rbee_s_bucket{backend="cpu",le="1"} 4',
      'rbee_s_bucket{backend="cpu",le="+Inf"} 5',
      'rbee_s_sum{backend="cpu"} 8.6',
      'rbee_s_count{backend="cpu"} 5',
    ],
  );
});

Deno.test("whatever is measured, each value is in exactly the buckets that it does not exceed", () => {
  const bounds = [1, 2, 4, 8];
  fc.assert(fc.property(fc.array(fc.tuple(fc.nat({ max: 10 }), fc.integer({ min: 1, max: 3 }))), (values) => {
    const histogram = new Histogram(bounds);
    for (const [value, times] of values) histogram.observe(value, times);
    const upTo = (bound: number) =>
      values.reduce((sum, [value, times]) => sum + (value <= bound ? times : 0), 0);
    assertEquals(histogram.cumulative(), [...bounds, Infinity].map(upTo));
    assertEquals(histogram.sum, values.reduce((sum, [value, times]) => sum + value * times, 0));
  }));
});
