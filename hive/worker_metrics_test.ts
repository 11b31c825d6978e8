import { assertEquals, assertStringIncludes } from "@std/assert";
import { metricsResponse } from "../daemon/metrics.ts";
import { WORKER_METRICS_MAX_CHARS } from "./limits.ts";
import { type AskedWorker, workerMetrics } from "./worker_metrics.ts";

const HEAD = "# HELP rbee_worker_slots Slots.\n# TYPE rbee_worker_slots gauge\n";

/** Workers that say just that, at the ports that are given to `run`. */
async function withWorkers(
  answers: readonly (() => Response)[],
  run: (workers: (AskedWorker & { port: string })[]) => Promise<void>,
): Promise<void> {
  const servers = answers.map((answer) =>
    Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, answer)
  );
  try {
    await run(servers.map(({ addr: { port } }) => ({
      ...{ url: `http://127.0.0.1:${port}`, apiKey: "k", port: String(port) },
    })));
  } finally {
    await Promise.all(servers.map((server) => server.shutdown()));
  }
}

async function textOf(workers: readonly AskedWorker[]): Promise<string> {
  const { signal } = new AbortController();
  return await (await metricsResponse(await workerMetrics(workers, { signal }))).text();
}

Deno.test("each worker's numbers are told under one head, with the worker's port", () =>
  withWorkers(
    [() => new Response(`${HEAD}rbee_worker_slots 2\n`), () =>
      new Response(`${HEAD}rbee_worker_slots{port="1"} 3\n`)],
    async (workers) => {
      assertEquals(
        await textOf(workers),
        `${HEAD}rbee_worker_slots{port="${workers[0].port}"} 2\nrbee_worker_slots{port="${
          workers[1].port
        }"} 3\n`,
      );
    },
  ));

Deno.test("what workers can't tell, or may not, keeps no other from telling", () =>
  withWorkers(
    [
      () => new Response("nothing", { status: 500 }),
      () => new Response(`# TYPE rbee_hive_slots gauge\nrbee_hive_slots 9\n`),
      () => new Response(`${HEAD}rbee_worker_slots 7\n${"x".repeat(WORKER_METRICS_MAX_CHARS)}`),
      () => new Response(`${HEAD}rbee_worker_slots 2\n`),
    ],
    async (workers) => {
      const text = await textOf([...workers, { url: null, apiKey: "k" }]);
      assertEquals(text.match(/^rbee_.*$/gm), [`rbee_worker_slots{port="${workers[3].port}"} 2`]);
      assertStringIncludes(text, HEAD);
    },
  ));
