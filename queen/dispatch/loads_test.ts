/** What becomes of a load, with a hive and workers that speak just enough HTTP for it. */
import { assertEquals } from "@std/assert";
import { Heartbeat } from "../../protocol/queen_schemas.ts";
import { Cluster } from "../cluster/cluster.ts";
import { Loads } from "./loads.ts";

const MODEL = "builtin:stories";

/** A hive that has a worker which stands still, and that notices it once it is asked for it. */
function hiveWithStuckWorker() {
  const spawned: string[] = [];
  let isStuckAlive = true;
  const server: Deno.HttpServer<Deno.NetAddr> = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: () => {},
  }, async (request): Promise<Response> => {
    const { pathname } = new URL(request.url);
    if (pathname === "/v1/models/download") {
      return Response.json({ download_id: "cached", local_path: "/m.gguf" });
    }
    if (pathname === "/v1/loading/progress") {
      return new Response('data: {"stage":"ready"}\n\ndata: [DONE]\n\n', {
        headers: { "Content-Type": "text/event-stream" },
      });
    }
    if (pathname === "/v1/health") {
      // The key tells the workers apart.
      const status = request.headers.get("Authorization") === "Bearer stuck" ? "degraded" : "alive";
      return Response.json({ status, version: "0", api_version: "v1" });
    }
    if (pathname === "/v1/workers/spawn") {
      await request.body?.cancel();
      const id = isStuckAlive ? "stuck" : "fresh";
      spawned.push(id);
      return Response.json({
        ...{ worker_id: id, url: urlOf(server), state: "idle", api_key: id },
        ...{ backend: "cpu", device: 0, reused: id === "stuck", evicted: [] },
      });
    }
    isStuckAlive = false;
    const error = { code: "WORKER_NOT_FOUND", message: "", details: {}, correlation_id: "" };
    return Response.json({ error }, { status: 404 });
  });
  return { spawned, url: urlOf(server), [Symbol.asyncDispose]: () => server.shutdown() };
}

function urlOf({ addr }: Deno.HttpServer<Deno.NetAddr>): string {
  return `http://127.0.0.1:${addr.port}`;
}

Deno.test("a reused worker that is stuck does not count as loaded: its hive starts another one", async () => {
  await using hive = hiveWithStuckWorker();
  const cluster = new Cluster(0);
  const stop = new AbortController();
  const report = (ids: readonly string[]) =>
    cluster.report(
      Heartbeat.parse({
        ...{ node_name: "mac", instance: "i", hive_url: hive.url, api_key: "k", version: "0" },
        ...{ memory: { total_mb: 1, free_mb: 1, reserve_mb: 0 }, devices: [], models: [] },
        workers: ids.map((id) => ({
          ...{
            worker_id: id,
            url: hive.url,
            api_key: "k",
            model_ref: MODEL,
            backend: "cpu",
            device: 0,
          },
          ...{
            state: "idle",
            slots_total: 1,
            slots_available: 1,
            pinned: false,
            memory_mb: 1,
            last_activity_unix: 0,
          },
        })),
      }),
      0,
    );
  report(["stuck", "fresh"]);
  const [stuck, fresh] = ["stuck", "fresh"].map((id) => cluster.worker(id)!);
  for (const worker of [stuck, fresh]) cluster.suspect(worker, 0);
  const loads = new Loads({ cluster, now: () => 0, signal: stop.signal, kept: () => false });
  const load = {
    kind: "load",
    node: "mac",
    backend: "cpu",
    device: 0,
    evicts: [],
    why: "",
    model: MODEL,
  } as const;
  await loads.start({ ...load, evicts: [] }, () => {});
  assertEquals(hive.spawned, ["stuck", "fresh"]);
  assertEquals([stuck.suspectUntilMs > 0, fresh.suspectUntilMs > 0], [true, false]);
  stop.abort();
});
