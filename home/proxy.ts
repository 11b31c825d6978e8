/** Proxies of the environment are for the hub, not for this machine's own daemons. */

/** What only this machine can reach. */
const LOOPBACK = ["localhost", "127.0.0.0/8", "::1"];

/**
 * Keeps calls to loopback off `HTTP_PROXY`, which would be handed their keys; Deno sends them there unless `NO_PROXY`
 * says otherwise. Call it before the first `fetch`.
 */
export function keepLoopbackOffProxies(env: Pick<Deno.Env, "get" | "set"> = Deno.env): void {
  const excepted = (env.get("NO_PROXY") || env.get("no_proxy") || "").split(",").filter((entry) =>
    entry !== ""
  );
  env.set("NO_PROXY", [...new Set([...excepted, ...LOOPBACK])].join(","));
}
