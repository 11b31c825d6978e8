import { assertEquals, assertStringIncludes } from "@std/assert";
import { Counter } from "prom-client";
import { createRegistry, metricsResponse } from "./metrics.ts";

Deno.test("metrics are Prometheus text, and each daemon has its own", async () => {
  const registry = createRegistry();
  const requests = new Counter({ name: "rbee_requests_total", help: "Requests", registers: [registry] });
  requests.inc(3);
  const response = await metricsResponse(registry);
  assertEquals(response.status, 200);
  assertStringIncludes(response.headers.get("Content-Type")!, "text/plain; version=0.0.4");
  assertEquals(
    await response.text(),
    "# HELP rbee_requests_total Requests\n# TYPE rbee_requests_total counter\nrbee_requests_total 3\n",
  );
  assertEquals((await (await metricsResponse(createRegistry())).text()).trim(), "");
});
