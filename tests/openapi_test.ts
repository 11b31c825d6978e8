/** The documents that daemons tell of themselves: valid, complete, and true. */
import { assert, assertEquals } from "@std/assert";
import { Validator } from "@seriousme/openapi-schema-validator";
import {
  FOREIGN_ROUTES,
  FRONT_DOOR_ROUTES,
  HIVE_ROUTES,
  NODE_ROUTES,
  QUEEN_ROUTES,
  type RouteSpec,
  WORKER_ROUTES,
} from "../protocol/routes.ts";
import { CLUSTER_KEY, startQueen } from "./helpers/cluster.ts";
import { startHive } from "./helpers/daemons.ts";
import { tempHome } from "./helpers/temp_home.ts";
import { startWorker } from "./helpers/worker_process.ts";

interface Operation {
  security?: unknown[];
  requestBody?: { content: Record<string, { schema?: { required?: string[] } }> };
  responses: Record<string, { content?: Record<string, unknown> }>;
}

interface Document {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
}

async function checked(
  daemon: { url: string; key: string },
  tables: readonly Record<string, RouteSpec>[],
): Promise<void> {
  const headers = { Authorization: `Bearer ${daemon.key}` };
  const response = await fetch(`${daemon.url}/openapi.json`, { headers });
  assertEquals(response.headers.get("Content-Type"), "application/json");
  const document: Document = await response.json();
  const { valid, errors } = await new Validator().validate(structuredClone(document) as never);
  assert(valid, JSON.stringify(errors));
  assertEquals(document.openapi, "3.1.0");

  // Names of two tables may be the same.
  const specs = tables.flatMap((table) => Object.values(table));
  const told = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) =>
      `${method.toUpperCase()} ${path.replaceAll(/\{([a-z_]+)\}/g, ":$1")}`
    )
  );
  assertEquals(told.sort(), specs.map(({ method, path }) => `${method} ${path}`).sort());

  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, { security, requestBody }] of Object.entries(methods)) {
      const ask = (body: string | undefined, headers: Record<string, string>) =>
        fetch(`${daemon.url}${path}`, { method: method.toUpperCase(), body, headers });
      const strange = await ask(method === "post" ? "{}" : undefined, {});
      await strange.body?.cancel();
      assertEquals(strange.status === 401, security?.length !== 0, `${method} ${path} without a key`);
      const required = requestBody?.content["application/json"]?.schema?.required ?? [];
      if (required.length === 0) continue;
      const empty = await ask("{}", headers);
      const text = await empty.text();
      assertEquals(empty.status, 400, `${method} ${path} with nothing: ${text}`);
      for (const field of required) assert(text.includes(field), `${method} ${path} needs ${field}: ${text}`);
    }
  }
}

Deno.test("a worker's document is valid, names every route, and its schemas are those that are checked", async () => {
  await using worker = await startWorker();
  await checked(worker, [WORKER_ROUTES, FOREIGN_ROUTES]);
});

Deno.test("a hive's document is valid, names every route, and its schemas are those that are checked", async () => {
  await using home = await tempHome();
  await using hive = await startHive({ home });
  await checked(hive, [HIVE_ROUTES]);
});

Deno.test("a queen's document is valid, names every route, and its schemas are those that are checked", async () => {
  await using home = await tempHome();
  await using queen = await startQueen({ home });
  await checked({ url: queen.url, key: CLUSTER_KEY }, [QUEEN_ROUTES, NODE_ROUTES, FRONT_DOOR_ROUTES]);
});
