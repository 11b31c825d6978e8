/** The worker's self-test with the real engine and the story model. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { createLogger } from "../daemon/log.ts";
import { RbeeError } from "../protocol/errors.ts";
import { InferenceRequest } from "../protocol/worker_requests.ts";
import type { InferenceStats } from "../protocol/worker_schemas.ts";
import { loadEngine } from "../tests/helpers/engine.ts";
import { STORIES } from "../tests/helpers/test_models.ts";
import { WorkerMetrics } from "./metrics.ts";
import { Worker } from "./worker.ts";

const log = createLogger({ part: "test", level: "error", format: "json", write: () => {} });

async function loaded(slots: number) {
  const metrics = new WorkerMetrics();
  const worker = new Worker({
    modelRef: "builtin:stories",
    fingerprint: () => Promise.resolve("x"),
    metrics,
    log,
  });
  await worker.load(() => loadEngine(STORIES, { slots }));
  return {
    ...{ worker, metrics },
    async [Symbol.asyncDispose]() {
      await worker.drain(AbortSignal.timeout(5_000));
      await worker.close();
    },
  };
}

/** Starts an answer; `first` settles with its first token, `ended` with its end. */
async function generate(worker: Worker, maxTokens: number, requestId = crypto.randomUUID() as string) {
  const first = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<InferenceStats>();
  const work = InferenceRequest.parse({ prompt: "The bee", max_tokens: maxTokens, temperature: 1 });
  await worker.run(work, {
    requestId,
    sink: { tokens: () => first.resolve(), done: ended.resolve, failed: ended.reject },
  });
  return { requestId, first: first.promise, ended: ended.promise };
}

Deno.test("the token is the same each time, whatever was generated in between", async () => {
  await using at = await loaded(2);
  const first = await at.worker.selfTest(0);
  assert(first.ran && typeof first.token_id === "number");
  for (let round = 0; round < 3; round++) {
    await (await generate(at.worker, 8)).ended;
    assertEquals(await at.worker.selfTest(0), first);
  }
});

Deno.test("a self-test is no activity: it leaves idle time, state and metrics as they are", async () => {
  await using at = await loaded(2);
  const { worker, metrics } = at;
  const before = worker.idleMs;
  const testing = worker.selfTest(0);
  assertEquals(worker.status().state, "idle");
  await testing;
  assert(worker.idleMs > before);
  const text = await (await metrics.response(worker)).text();
  assert(!/rbee_worker_requests_total\{.*\} (?!0\n)/.test(text), text);
  assert(text.includes("rbee_worker_generated_tokens_total 0"), text);
});

Deno.test("a request that comes during a self-test is not refused, also when there is one slot only", async () => {
  await using at = await loaded(1);
  for (let round = 0; round < 20; round++) {
    const testing = at.worker.selfTest(0);
    const { ended } = await generate(at.worker, 2);
    assertEquals((await ended).total_tokens, 2);
    await testing;
  }
  assertEquals((await at.worker.selfTest(0)).ran, true);
});

Deno.test("nothing is tested while anything runs, nor sooner after it than was asked for", async () => {
  await using at = await loaded(2);
  const { requestId, first, ended } = await generate(at.worker, 400);
  await first;
  assertEquals(await at.worker.selfTest(0), { ran: false });
  at.worker.cancel(requestId);
  await ended;
  assertEquals(await at.worker.selfTest(60_000), { ran: false });
  assertEquals((await at.worker.selfTest(0)).ran, true);
});

Deno.test("a worker that is loading or leaving says so", async () => {
  const metrics = new WorkerMetrics();
  const loading = new Worker({ modelRef: "x", fingerprint: () => Promise.resolve("x"), metrics, log });
  assertEquals((await assertRejects(() => loading.selfTest(0), RbeeError)).code, "NOT_READY");
  await using at = await loaded(1);
  await at.worker.drain(AbortSignal.timeout(5_000));
  assertEquals((await assertRejects(() => at.worker.selfTest(0), RbeeError)).code, "SHUTTING_DOWN");
});
