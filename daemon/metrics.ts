/** Prometheus metrics of one daemon. */
import { Registry } from "prom-client";

/** A registry of its own: tests and daemons never share one. */
export function createRegistry(): Registry {
  return new Registry();
}

/** `GET /metrics`. */
export async function metricsResponse(registry: Registry): Promise<Response> {
  return new Response(await registry.metrics(), { headers: { "Content-Type": registry.contentType } });
}
