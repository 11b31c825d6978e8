import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { createLogger } from "../../daemon/log.ts";
import type { App } from "../../daemon/serve.ts";
import { BLOCK_TOKENS, decodeBlocks } from "../../protocol/prefix_blocks.ts";
import { readRelay, RelayProgress } from "../../protocol/relay_reader.ts";
import type { BegunAnswer, RelayedPath } from "../../protocol/relay_schemas.ts";
import { loadEngine } from "../../tests/helpers/engine.ts";
import { STORIES } from "../../tests/helpers/test_models.ts";
import { createWorkerApp } from "../app.ts";
import { WorkerMetrics } from "../metrics.ts";
import { Worker } from "../worker.ts";

const KEY = "key-of-the-worker";

async function startApp(): Promise<{ app: App } & AsyncDisposable> {
  const log = createLogger({ part: "test", level: "error", format: "json", write: () => {} });
  const metrics = new WorkerMetrics();
  const worker = new Worker({
    modelRef: "builtin:stories",
    fingerprint: () => Promise.resolve(""),
    metrics,
    log,
  });
  await worker.load(() => loadEngine(STORIES));
  return {
    app: createWorkerApp({ worker, metrics, apiKey: KEY, log }),
    async [Symbol.asyncDispose]() {
      await worker.drain(AbortSignal.abort());
      await worker.close();
    },
  };
}

interface Asked {
  path: RelayedPath;
  request: Record<string, unknown>;
  begun?: BegunAnswer[];
}

function relayed(app: App, asked: Asked): Promise<Response> {
  return app(
    new Request("http://worker/v1/relay", {
      method: "POST",
      headers: { Authorization: `Bearer ${KEY}` },
      body: JSON.stringify({ ...asked, id: "answer-1", started_unix: 1_900_000_000 }),
    }),
  );
}

/** The text that a client has seen, and where the answer stood, behind every piece. */
async function followed(
  app: App,
  asked: Asked,
): Promise<{ text: string; begun?: BegunAnswer[]; over: boolean }[]> {
  const response = await relayed(app, asked);
  assertEquals(response.status, 200, await (response.ok ? "" : response.text()));
  const progress = new RelayProgress();
  const points: { text: string; begun?: BegunAnswer[]; over: boolean }[] = [];
  let text = "";
  for await (const piece of readRelay(response.body!)) {
    text += piece.text;
    piece.marks.forEach((mark) => progress.add(mark));
    points.push({ text, begun: structuredClone(progress.begun), over: progress.stats !== undefined });
  }
  return points;
}

/**
 * Times differ from run to run, and tokens that were cached or told elsewhere are counted as such. Two answers are told
 * in any order.
 */
function masked(text: string): string {
  const choiceOf = (block: string) => /"choices":\[\{"index":(\d)/.exec(block)?.[1] ?? "9";
  const blocks = text.split("\n\n").filter((block) => block !== "");
  return blocks.toSorted((a, b) => choiceOf(a).localeCompare(choiceOf(b))).join("\n").replace(
    /"(\w*(_ms|_per_second)|cached_tokens|cache_n|prompt_n|input_tokens|cache_read_input_tokens|resumed_tokens|draft\w*)":[\d.]+/g,
    '"$1":0',
  );
}

const MESSAGES = [{ role: "user", content: "Write a short story." }];
const SEEDED = { seed: 7, temperature: 0.9 };
const SCHEMA = {
  type: "object",
  properties: { name: { type: "string", maxLength: 12 }, age: { type: "integer" } },
  required: ["name", "age"],
};

const ASKED: Record<string, Asked> = {
  "a prompt": {
    path: "/v1/inference",
    request: { prompt: "Once upon a time", max_tokens: 80, ...SEEDED, stop: ["\n\n", " zebra"] },
  },
  "a prompt with log probabilities": {
    path: "/v1/inference",
    request: { prompt: "Once upon a time", max_tokens: 80, ...SEEDED, logprobs: 2 },
  },
  "a whole answer to a prompt": {
    path: "/v1/inference",
    request: { prompt: "Once upon a time", max_tokens: 80, ...SEEDED, stream: false },
  },
  "a chat": {
    path: "/v1/chat/completions",
    request: {
      ...{ messages: MESSAGES, max_tokens: 80, stream: true, n: 2, ...SEEDED },
      stream_options: { include_usage: true },
    },
  },
  "a chat bound by a schema": {
    path: "/v1/chat/completions",
    request: {
      ...{ messages: MESSAGES, max_tokens: 60, stream: true, ...SEEDED },
      response_format: { type: "json_schema", json_schema: { name: "person", schema: SCHEMA } },
    },
  },
  "a whole chat": {
    path: "/v1/chat/completions",
    request: { messages: MESSAGES, max_tokens: 80, ...SEEDED },
  },
  "a completion with an echo and log probabilities": {
    path: "/v1/completions",
    request: { prompt: "Once", echo: true, max_tokens: 60, stream: true, logprobs: 1, ...SEEDED },
  },
  "a response": {
    path: "/v1/responses",
    request: { input: "Write a short story.", max_output_tokens: 80, stream: true, temperature: 0 },
  },
  "a message": {
    path: "/v1/messages",
    request: { messages: MESSAGES, max_tokens: 80, stream: true, temperature: 0, model: "builtin:stories" },
  },
};

for (const [name, asked] of Object.entries(ASKED)) {
  Deno.test(`${name}, cut behind any of its marks, is told as if it had not been`, async () => {
    await using first = await startApp();
    await using second = await startApp();
    const points = await followed(first.app, asked);
    const whole = masked(points.at(-1)!.text);
    const cuts = points.filter(({ over }) => !over);
    assert(cuts.length > 1, "there must be marks to be cut at");
    for (const { text, begun } of cuts) {
      assertNotEquals(begun, undefined);
      const rest = await followed(second.app, { ...asked, begun });
      assertEquals(masked(text + rest.at(-1)!.text), whole);
    }
  });
}

Deno.test("what is wrong with a relayed request is said before the stream, in every mode", async () => {
  await using worker = await startApp();
  for (const stream of [true, false]) {
    const response = await relayed(worker.app, {
      path: "/v1/chat/completions",
      request: { messages: [], stream },
    });
    assertEquals(response.status, 400);
    assertEquals((await response.json()).error.code, "INVALID_REQUEST");
  }
});

Deno.test("what a worker still holds of a prompt is told by the hashes that were told with its answer", async () => {
  await using worker = await startApp();
  const prompt = "Once upon a time there was a little girl who lived in a small house near the woods. "
    .repeat(20);
  const ask = async (text: string) => {
    const response = await relayed(worker.app, {
      path: "/v1/inference",
      request: { prompt: text, max_tokens: 4 },
    });
    const progress = new RelayProgress();
    for await (const { marks } of readRelay(response.body!)) marks.forEach((mark) => progress.add(mark));
    return progress;
  };
  const { blocks, promptTokens } = await ask(prompt);
  assertEquals(blocks.length, Math.floor(promptTokens / BLOCK_TOKENS));
  assert(blocks.length >= 2);
  const other = await ask(
    prompt.slice(0, prompt.length / 2) + "And then the big dog came along. ".repeat(10),
  );
  const shared = other.blocks.findIndex((block, i) => block !== blocks[i]);
  assert(shared > 0 && shared < other.blocks.length, `${shared} of ${other.blocks.length} blocks are shared`);
  const ready = await worker.app(
    new Request("http://worker/v1/ready?blocks=true", { headers: { Authorization: `Bearer ${KEY}` } }),
  );
  const held = new Set(decodeBlocks((await ready.json()).blocks));
  // The slot that held the first has taken the second.
  assert(other.blocks.every((block) => held.has(block)));
  assert(!held.has(blocks.at(-1)! + 1));
});
