/** `GET /openapi.json` of every daemon. */
import type { API_DOCUMENTS } from "../protocol/api_docs.ts";
import { OPENAPI_ROUTE } from "../protocol/routes.ts";
import type { Route } from "./serve.ts";

/** The route; the document is made when first asked for, because its making loads every schema there is. */
export function openApiRoute(part: keyof typeof API_DOCUMENTS): Route {
  let document: Promise<string> | undefined;
  const make = async () => {
    const { API_DOCUMENTS: documents } = await import("../protocol/api_docs.ts");
    return JSON.stringify(documents[part]());
  };
  return {
    spec: OPENAPI_ROUTE,
    handle: async () =>
      new Response(await (document ??= make()), { headers: { "Content-Type": "application/json" } }),
  };
}
