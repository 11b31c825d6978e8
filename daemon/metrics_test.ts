import { assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { Histogram, metricsResponse, Tally } from "./metrics.ts";
import { readMetrics } from "./metrics_text.ts";

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

Deno.test("what is known beforehand is shown before it happens", () => {
  const ends = new Tally(["done", "failed"]);
  ends.add("failed");
  assertEquals([...ends], [["done", 0], ["failed", 1]]);
});

Deno.test("what was written is read again, whatever labels hold", () =>
  fc.assert(fc.asyncProperty(
    fc.uniqueArray(fc.string({ unit: "grapheme" }), { minLength: 1, maxLength: 5 }),
    fc.array(fc.double({ noNaN: true, noDefaultInfinity: true })),
    async (models, times) => {
      const histogram = new Histogram([0.1, 1]);
      for (const time of times) histogram.observe(time);
      const text = await textOf(
        {
          ...{ name: "rbee_n", type: "gauge", help: "N." },
          series: models.map((model, i) => [{ model, priority: "batch" }, i]),
        },
        { name: "rbee_s", type: "histogram", help: "S, in seconds.", value: histogram },
      );
      const [gauge, seconds] = readMetrics(text);
      assertEquals(
        gauge.samples,
        models.map((model, i) => ({ metricName: "rbee_n", labels: { model, priority: "batch" }, value: i })),
      );
      assertEquals([seconds.type, seconds.help], ["histogram", "S, in seconds."]);
      const counts = histogram.cumulative();
      assertEquals(seconds.samples.map(({ value }) => value), [...counts, histogram.sum, counts.at(-1)!]);
    },
  )));

Deno.test("samples of undeclared metrics, and values that are not numbers, are skipped", () => {
  const told = readMetrics(
    "rbee_a 1\n# HELP rbee_b B.\n# TYPE rbee_b counter\nrbee_b 1\nrbee_b no\nrbee_bc 2\nrbee_b_bucket 3\n" +
      "nonsense\n# TYPE rbee_c summary\nrbee_c 1\n# TYPE rbee_d gauge\nrbee_d +Inf\nrbee_d NaN\n",
  );
  assertEquals(told.map(({ name, samples }) => [name, samples.map(({ value }) => value)]), [
    ["rbee_b", [1]],
    ["rbee_d", [Infinity, NaN]],
  ]);
  const [{ samples }] = readMetrics('# TYPE rbee_e gauge\nrbee_e{__name__="rbee_f",a="1",_b="2"} 1\n');
  assertEquals(samples.map(({ labels }) => labels), [{ a: "1", _b: "2" }]);
});
