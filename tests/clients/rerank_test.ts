/** `/v1/rerank`, for which no client is as common as its shape. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { writeRankerGguf } from "../helpers/gguf_ranker.ts";
import { startWorker } from "../helpers/worker_process.ts";
import { call, json } from "./openai_bed.ts";

const DOCUMENTS = ["a bee is an insect", "the sea is wide", "bees make honey.", "how to build a wall?"];

Deno.test("documents come by their scores, each with where it stood", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const model = `${folder}/ranker.gguf`;
    await writeRankerGguf(model);
    await using worker = await startWorker({ model });
    const ask = { query: "what makes honey", documents: DOCUMENTS };
    const { results, usage } = await json(worker, "/v1/rerank", ask) as {
      results: { index: number; relevance_score: number }[];
      usage: { total_tokens: number };
    };
    assertEquals(results.map(({ index }) => index).sort(), [0, 1, 2, 3]);
    const scores = results.map((result) => result.relevance_score);
    assertEquals(scores, scores.toSorted((a, b) => b - a));
    assertEquals(new Set(scores).size, DOCUMENTS.length);
    assert(usage.total_tokens > 50);
    const first = await json(worker, "/v1/rerank", { ...ask, top_n: 1 }) as { results: unknown[] };
    assertEquals(first.results, results.slice(0, 1));
    const none = await call(worker, "/v1/rerank", { ...ask, documents: [] });
    assertEquals(none.status, 400);
    assertMatch((await none.json()).error.param, /documents/);
    const product = { query: "x".repeat(100_000), documents: new Array(1000).fill("x") };
    const large = await call(worker, "/v1/rerank", product);
    assertEquals(large.status, 400);
    assertMatch((await large.json()).error.message, /100001000 characters/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
