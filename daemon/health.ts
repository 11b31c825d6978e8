/** The health routes that every daemon answers the same way. */
import { OPEN_HEALTH_ROUTES, type RouteSpec } from "../protocol/routes.ts";
import { API_VERSION, VERSION } from "../protocol/version.ts";
import type { EngineHeartbeat, HealthResponse } from "../protocol/worker_schemas.ts";
import type { Route } from "./serve.ts";

/**
 * `/health`, `/health/live` and `/health/ready` without a key, and the keyed `v1Health`. `notReady` says why the
 * daemon cannot work at present, or undefined; `onAsked` is told of each question with the key.
 */
export function healthRoutes(
  v1Health: RouteSpec,
  state: {
    degraded: () => boolean;
    notReady: () => string | undefined;
    onAsked?: () => void;
    /** Told with the key only. */
    engine?: () => EngineHeartbeat | undefined;
  },
): Route[] {
  const health = (engine?: EngineHeartbeat) => {
    const body: HealthResponse = {
      status: state.degraded() ? "degraded" : "alive",
      version: VERSION,
      api_version: API_VERSION,
      engine,
    };
    return Response.json(body);
  };
  const readiness = () => {
    const reason = state.notReady();
    return Response.json({ ready: reason === undefined, reason }, {
      status: reason === undefined ? 200 : 503,
    });
  };
  return [
    { spec: OPEN_HEALTH_ROUTES.health, handle: () => health() },
    { spec: OPEN_HEALTH_ROUTES.live, handle: () => health() },
    { spec: OPEN_HEALTH_ROUTES.readiness, handle: readiness },
    {
      spec: v1Health,
      handle: () => {
        state.onAsked?.();
        return health(state.engine?.());
      },
    },
  ];
}
