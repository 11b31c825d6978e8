import { assertEquals } from "@std/assert";
import { HIVE_ROUTES } from "../protocol/routes.ts";
import { API_VERSION, VERSION } from "../protocol/version.ts";
import { HealthResponse } from "../protocol/worker_schemas.ts";
import { keptLog } from "../tests/helpers/log_lines.ts";
import { healthRoutes } from "./health.ts";
import { createApp } from "./serve.ts";

const KEY = "rbee-key-for-tests";

function daemon() {
  const state: { degraded: boolean; notReady: string | undefined } = { degraded: false, notReady: undefined };
  const routes = healthRoutes(HIVE_ROUTES.v1Health, {
    degraded: () => state.degraded,
    notReady: () => state.notReady,
  });
  const app = createApp({ routes, apiKey: KEY, log: keptLog().log });
  const get = async (path: string, key?: string) => {
    const headers: HeadersInit = key ? { Authorization: `Bearer ${key}` } : {};
    const response = await app(new Request(`http://host${path}`, { headers }));
    return { status: response.status, json: await response.json() };
  };
  return { state, get };
}

Deno.test("health answers without a key, the versioned route only with it, all with the same facts", async () => {
  const { get } = daemon();
  const facts = { status: "alive", version: VERSION, api_version: API_VERSION };
  for (const path of ["/health", "/health/live"]) assertEquals(await get(path), { status: 200, json: facts });
  assertEquals((await get("/v1/health")).status, 401);
  assertEquals(await get("/v1/health", KEY), { status: 200, json: facts });
  assertEquals(HealthResponse.parse(facts), facts as HealthResponse);
});

Deno.test("a degraded daemon says so and is alive", async () => {
  const { state, get } = daemon();
  state.degraded = true;
  for (const path of ["/health", "/health/live"]) {
    const { status, json } = await get(path);
    assertEquals([status, json.status], [200, "degraded"]);
  }
});

Deno.test("readiness is its own question, with the reason, and follows the state", async () => {
  const { state, get } = daemon();
  assertEquals(await get("/health/ready"), { status: 200, json: { ready: true } });
  state.notReady = "the model is loading";
  assertEquals(await get("/health/ready"), {
    status: 503,
    json: { ready: false, reason: "the model is loading" },
  });
  assertEquals((await get("/health/live")).status, 200);
});
