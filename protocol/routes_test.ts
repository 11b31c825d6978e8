import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { RbeeError } from "./errors.ts";
import { HIVE_ROUTES, routePath, type RouteSpec, WORKER_ROUTES } from "./routes.ts";

const TABLES: Record<string, Record<string, RouteSpec>> = { hive: HIVE_ROUTES, worker: WORKER_ROUTES };

/** Any UTF-16 there is, half characters included. */
const anyText = (constraints: fc.ArrayConstraints = {}) =>
  fc.array(fc.integer({ min: 0, max: 0xffff }), constraints).map((units) => String.fromCharCode(...units));

Deno.test("parameters are escaped: no value leaves its segment", () => {
  const model = HIVE_ROUTES.deleteModel;
  assertEquals(routePath(model, { ref: "hf:a/b:Q4@x y" }), "/v1/models/hf%3Aa%2Fb%3AQ4%40x%20y");
  assertEquals(routePath(model, { ref: "../health" }), "/v1/models/..%2Fhealth");
  assertEquals(routePath(model, { ref: "a?b#c\\d" }), "/v1/models/a%3Fb%23c%5Cd");
  assertEquals(routePath(HIVE_ROUTES.shutdownWorker, { id: "..." }), "/v1/workers/.../shutdown");
});

Deno.test("whatever the value, the server gets exactly this value on exactly this route", () => {
  const route = HIVE_ROUTES.shutdownWorker;
  const pattern = new URLPattern({ pathname: route.path });
  fc.assert(
    fc.property(anyText({ minLength: 1 }), (id) => {
      fc.pre(id.isWellFormed() && id !== "." && id !== "..");
      const { pathname } = new URL(routePath(route, { id }), "http://host:1");
      const found = pattern.exec({ pathname });
      assert(found !== null, `${JSON.stringify(id)} became ${pathname}`);
      assertEquals(decodeURIComponent(found.pathname.groups.id!), id);
    }),
    { numRuns: 1000 },
  );
});

Deno.test("a value that no escape can hold in its segment is refused, and so is one that is missing", () => {
  for (const id of ["", ".", "..", "\ud800"]) {
    const error = assertThrows(() => routePath(HIVE_ROUTES.shutdownWorker, { id }), RbeeError);
    assertEquals(error.code, "INVALID_REQUEST");
  }
  assertThrows(() => routePath(HIVE_ROUTES.worker), RbeeError);
  assertThrows(() => routePath(HIVE_ROUTES.worker, { other: "x" }), RbeeError);
  assertEquals(routePath(HIVE_ROUTES.workers), "/v1/workers/list");
});

Deno.test("only health answers without a key, and only the worker's callback by token", () => {
  for (const [part, routes] of Object.entries(TABLES)) {
    for (const [name, { path, auth = "key" }] of Object.entries(routes)) {
      const expected = path.startsWith("/health")
        ? "none"
        : part === "hive" && path === "/v1/workers/ready"
        ? "token"
        : "key";
      assertEquals(auth, expected, `${part}.${name}`);
    }
  }
});

Deno.test("no two routes of one part are the same, and all that take prompts allow the large body", () => {
  for (const [part, routes] of Object.entries(TABLES)) {
    const keys = Object.values(routes).map(({ method, path }) => `${method} ${path}`);
    assertEquals(new Set(keys).size, keys.length, part);
  }
  const large = Object.values<RouteSpec>(WORKER_ROUTES).filter(({ body }) => body === "prompt");
  assertEquals(large.map(({ path }) => path), ["/v1/inference", "/execute"]);
});
