import { assert, assertEquals, assertRejects } from "@std/assert";
import { RbeeError } from "./errors.ts";
import { HiveClient } from "./hive_client.ts";
import { DONE_EVENT, formatEvent } from "./sse.ts";
import { WorkerClient } from "./worker_client.ts";

/** A server that notes what it was asked and answers what it was told. */
function serve(answer: () => Response) {
  const asked: string[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const { pathname, search } = new URL(request.url);
    asked.push(`${request.method} ${pathname}${search} ${await request.text()}`.trim());
    return answer();
  });
  const client = { baseUrl: `http://127.0.0.1:${server.addr.port}`, apiKey: "rbee-key" };
  return {
    asked,
    hive: new HiveClient(client),
    worker: new WorkerClient(client),
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

const STATS = {
  total_tokens: 1,
  duration_ms: 1,
  stop_reason: "eos",
  prompt_tokens: 1,
  cached_tokens: 0,
  time_to_first_token_ms: 1,
  resumed_tokens: 0,
  draft_tokens: 0,
  draft_accepted_tokens: 0,
  tokens_per_second: 1,
  seed: 1,
};

Deno.test("a worker's client asks for what its methods promise, by the routes of SPEC §5", async () => {
  let answer: () => Response = () => Response.json({});
  await using server = serve(() => answer());
  const { worker, asked } = server;

  answer = () => Response.json({ status: "alive", version: "1", api_version: "v1" });
  await worker.health();
  answer = () => Response.json({ ready: false, state: "loading", progress_url: "/p" });
  await worker.ready();
  answer = () => new Response(formatEvent({ stage: "ready" }) + DONE_EVENT);
  assertEquals(await Array.fromAsync((await worker.loadingProgress()).events), [{ stage: "ready" }]);
  answer = () => new Response(formatEvent({ token: "x", index: 0, id: 1 }) + DONE_EVENT);
  assertEquals(
    (await Array.fromAsync((await worker.infer({ prompt: "p", stream: false })).events)).length,
    1,
  );
  answer = () => Response.json({ ...STATS, request_id: "r", text: "x", token_ids: [1] });
  assertEquals((await worker.inferWhole({ prompt: "p" })).text, "x");
  answer = () => new Response(null, { status: 204 });
  await worker.cancel("r1");
  answer = () => Response.json({ accepted: true, idle_ms: 0 });
  await worker.shutdown();
  await worker.shutdown({ ifIdleMs: 0 });

  assertEquals(asked, [
    "GET /v1/health",
    "GET /v1/ready",
    "GET /v1/loading/progress",
    'POST /v1/inference {"prompt":"p","stream":true}',
    'POST /v1/inference {"prompt":"p","stream":false}',
    "DELETE /v1/inference/r1",
    "POST /v1/admin/shutdown {}",
    'POST /v1/admin/shutdown {"if_idle_ms":0}',
  ]);
});

Deno.test("a hive's client asks for what its methods promise, by the routes of SPEC §6", async () => {
  let answer: () => Response = () => Response.json({});
  await using server = serve(() => answer());
  const { hive, asked } = server;
  const worker = {
    worker_id: "w/1",
    url: "http://127.0.0.1:1",
    model_ref: "builtin:stories",
    backend: "cpu",
    device: 0,
    state: "idle",
    slots_total: 1,
    slots_available: 1,
    pid: 1,
    started_unix: 1,
    last_activity_unix: 1,
    last_health_unix: 1,
  } as const;

  answer = () => Response.json({ status: "alive", version: "1", api_version: "v1" });
  await hive.health();
  answer = () => Response.json({ download_id: "d1" }, { status: 202 });
  await hive.download("hf:a/b");
  answer = () => new Response(formatEvent({ stage: "verifying" }) + DONE_EVENT);
  assertEquals((await Array.fromAsync((await hive.downloadProgress("d&1")).events)).length, 1);
  answer = () => Response.json({ canceled: true });
  await hive.cancelDownload("d/1");
  answer = () => Response.json({ models: [] });
  await hive.models();
  answer = () => new Response(null, { status: 204 });
  await hive.removeModel("hf:a/b");
  answer = () => new Response(formatEvent({ stage: "verified", sha256: null, files: [] }) + DONE_EVENT);
  assertEquals((await Array.fromAsync((await hive.verifyModel("hf:a/b")).events)).length, 1);
  answer = () => Response.json({ removed: [], kept_bytes: 0, freed_bytes: 0, partial_bytes: 0 });
  await hive.pruneModels({ keep_gb: 1.5 });
  answer = () => Response.json({ ...worker, api_key: "k", reused: false }, { status: 202 });
  assertEquals((await hive.spawn({ model_ref: "builtin:stories" })).api_key, "k");
  answer = () => Response.json({ workers: [worker] });
  assertEquals((await hive.workers()).workers[0].worker_id, "w/1");
  answer = () => Response.json(worker);
  await hive.worker("w/1");
  answer = () => new Response(null, { status: 202 });
  await hive.shutdownWorker("w/1");

  assertEquals(asked, [
    "GET /v1/health",
    'POST /v1/models/download {"model_ref":"hf:a/b"}',
    "GET /v1/models/download/progress?id=d%261",
    "DELETE /v1/models/download/d%2F1",
    "GET /v1/models",
    "DELETE /v1/models/hf%3Aa%2Fb",
    'POST /v1/models/verify {"model_ref":"hf:a/b"}',
    'POST /v1/models/prune {"keep_gb":1.5}',
    'POST /v1/workers/spawn {"model_ref":"builtin:stories"}',
    "GET /v1/workers/list",
    "GET /v1/workers/w%2F1",
    "POST /v1/workers/w%2F1/shutdown {}",
  ]);
});

Deno.test("every method takes a signal and a time limit of its own", async () => {
  const held = Promise.withResolvers<Response>();
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => held.promise);
  const client = { baseUrl: `http://127.0.0.1:${server.addr.port}` };
  const hive = new HiveClient(client);
  const worker = new WorkerClient(client);
  const calls = [
    (options: { signal?: AbortSignal; timeoutMs?: number }) =>
      hive.spawn({ model_ref: "builtin:stories" }, options),
    (options: { signal?: AbortSignal; timeoutMs?: number }) => hive.shutdownWorker("w", options),
    (options: { signal?: AbortSignal; timeoutMs?: number }) => hive.downloadProgress("d", options),
    (options: { signal?: AbortSignal; timeoutMs?: number }) => worker.health(options),
    (options: { signal?: AbortSignal; timeoutMs?: number }) => worker.cancel("r", options),
    (options: { signal?: AbortSignal; timeoutMs?: number }) => worker.infer({ prompt: "p" }, options),
    (options: { signal?: AbortSignal; timeoutMs?: number }) => worker.shutdown({ ...options, ifIdleMs: 1 }),
  ];
  for (const call of calls) {
    const error = await assertRejects(async () => void await call({ timeoutMs: 10 }), RbeeError);
    assertEquals(error.code, "CONNECTION_TIMEOUT");
    const reason = new Error("mine");
    const thrown = await (call({ signal: AbortSignal.abort(reason) }) as Promise<unknown>).catch((error) =>
      error
    );
    assert(thrown === reason);
  }
  held.resolve(new Response());
  await server.shutdown();
});
