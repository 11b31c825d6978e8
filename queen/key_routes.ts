/** Keys, what they have used, and the configuration that some of them stand in: the owner's alone. */
import type { Route } from "../daemon/serve.ts";
import { queryOf } from "../daemon/query.ts";
import { AddKeyRequest, ChangeKeyRequest, UsageQuery, type UsageRow } from "../protocol/key_schemas.ts";
import { QUEEN_ROUTES } from "../protocol/routes.ts";
import * as z from "zod";
import type { Keys } from "./keys.ts";
import { USAGE_TOLD_DAYS } from "./limits.ts";
import type { LiveConfig } from "./live_config.ts";
import { DAY_MS, dayOf, type UsageCounts } from "./usage.ts";

const Nothing = z.strictObject({});

/** What these routes are about. */
export interface KeyRoutesOptions {
  keys: Keys;
  usage: UsageCounts;
  live: LiveConfig;
}

/** The routes. */
export function keyRoutes({ keys, usage, live }: KeyRoutesOptions): Route[] {
  return [
    {
      spec: QUEEN_ROUTES.keys,
      handle: ({ query }) => {
        queryOf(query, Nothing);
        return Response.json({ keys: keys.list() });
      },
    },
    {
      spec: QUEEN_ROUTES.addKey,
      handle: async ({ body }) => secret(await keys.add(await body(AddKeyRequest)), 201),
    },
    {
      spec: QUEEN_ROUTES.changeKey,
      handle: async ({ params, body }) =>
        Response.json(await keys.change(params.name, await body(ChangeKeyRequest))),
    },
    {
      spec: QUEEN_ROUTES.rotateKey,
      handle: async ({ params }) => secret(await keys.rotate(params.name), 200),
    },
    {
      spec: QUEEN_ROUTES.removeKey,
      handle: async ({ params }) => {
        await keys.remove(params.name);
        return new Response(null, { status: 204 });
      },
    },
    {
      spec: QUEEN_ROUTES.usage,
      handle: async ({ query }) => {
        const { key, from, to } = queryOf(query, UsageQuery);
        const nowMs = Date.now();
        const rows = await usage.between({
          key,
          fromDay: from ?? dayOf(nowMs - (USAGE_TOLD_DAYS - 1) * DAY_MS),
          toDay: to ?? dayOf(nowMs),
        });
        return Response.json({
          usage: rows.map(({ read, cached, made, seconds, ...row }): UsageRow => ({
            ...row,
            ...{ tokens_read: read, tokens_cached: cached, tokens_made: made },
            seconds: Math.round(seconds * 1000) / 1000,
          })),
        });
      },
    },
    { spec: QUEEN_ROUTES.reloadConfig, handle: async () => Response.json(await live.reload()) },
  ];
}

/** An answer with a key in it: nobody on the way may keep it. */
function secret(body: unknown, status: number): Response {
  return Response.json(body, { status, headers: { "Cache-Control": "no-store" } });
}
