/** A queen's door for clients of others: what they may, what they are told, and which model answers. */
import Anthropic from "@anthropic-ai/sdk";
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { createHash } from "node:crypto";
import OpenAI from "openai";
import { type Cluster, CLUSTER_KEY, spawned, startCluster } from "../helpers/cluster.ts";
import { eventually } from "../helpers/eventually.ts";
import { sharedModel } from "../helpers/test_models.ts";

const STORIES = "builtin:stories";
const USER = [{ role: "user" as const, content: "Write a short story." }];

function openaiOf({ queen }: Cluster, apiKey = CLUSTER_KEY): OpenAI {
  return new OpenAI({ baseURL: `${queen.url}/v1`, apiKey, maxRetries: 0 });
}

Deno.test({
  name: "openai's client works for every model of the cluster: those that write, and those that embed",
  ignore: sharedModel("stories260K-Q8_0.gguf") === undefined,
  async fn() {
    await using cluster = await startCluster({ nodes: ["mac", "workstation"] });
    const writers = ["stories260K-Q8_0.gguf", "stories260K-chat-F32.gguf", "tiny-rwkv-7v0-834K-F32.gguf"];
    const names = writers.map((name) => `file:${sharedModel(name)!}`);
    const embedder = `file:${sharedModel("glove-6b-100d-bow-40k-Q8_0.gguf")!}`;
    // A hive knows a file once it was asked for it.
    for (const [i, model_ref] of [...names, embedder].entries()) {
      await Object.values(cluster.hives)[i % 2].client.download(model_ref);
    }
    const openai = openaiOf(cluster);
    for (const model of [...names, STORIES]) {
      const { choices, model: answered } = await openai.chat.completions.create({
        model,
        messages: USER,
        max_tokens: 8,
      });
      assertEquals([choices[0].finish_reason, answered], ["length", model]);
      let streamed = "";
      const stream = await openai.completions.create({ model, prompt: "Once", max_tokens: 8, stream: true });
      for await (const chunk of stream) streamed += chunk.choices[0].text;
      assert(streamed.length > 0, model);
    }
    const { data } = await openai.embeddings.create({ model: embedder, input: ["a dog", "a cat"] });
    assertEquals(data.map(({ embedding }) => embedding.length), [128, 128]);
    // Files are told with the next heartbeat.
    await eventually("all models", async () => {
      const listed = (await Array.fromAsync(await openai.models.list())).map(({ id }) => id);
      return listed.toSorted().join() === [...names, embedder, STORIES].toSorted().join();
    });
    // The end of a reference is enough where only one has it.
    const short = await openai.completions.create({ model: "stories", prompt: "Once", max_tokens: 2 });
    assertEquals(short.model, STORIES);
    const wrong = await assertRejects(
      () => openai.chat.completions.create({ model: embedder, messages: USER }),
      OpenAI.BadRequestError,
    );
    assertMatch(wrong.message, /embeddings/);
    const unknown = await assertRejects(
      () => openai.chat.completions.create({ model: "gpt-9", messages: USER }),
      OpenAI.NotFoundError,
    );
    assertEquals(unknown.code, "MODEL_NOT_FOUND");
    assertMatch(unknown.message, /builtin:stories/);
  },
});

Deno.test("anthropic's client and the responses of openai's go through as well", async () => {
  await using cluster = await startCluster({ nodes: ["mac"] });
  const anthropic = new Anthropic({ baseURL: cluster.queen.url, apiKey: CLUSTER_KEY, maxRetries: 0 });
  const ask = { model: STORIES, max_tokens: 10, messages: USER, temperature: 0 };
  const whole = await anthropic.messages.create(ask);
  const streamed = await anthropic.messages.stream(ask).finalMessage();
  assertEquals(streamed.content, whole.content);
  const response = await openaiOf(cluster).responses.create({
    ...{ model: STORIES, input: "Write a short story.", max_output_tokens: 10, temperature: 0 },
  });
  const [block] = whole.content;
  assertEquals(response.output_text, block.type === "text" ? block.text : "");
  const { input_tokens } = await anthropic.messages.countTokens({ model: STORIES, messages: USER });
  assertEquals(input_tokens, whole.usage.input_tokens + (whole.usage.cache_read_input_tokens ?? 0));
});

Deno.test("a client's key opens the door for clients alone, within its limits, and sees its own tasks only", async () => {
  const hash = (key: string) => createHash("sha256").update(key).digest("hex");
  await using cluster = await startCluster({
    nodes: ["mac"],
    queenConfig: {
      keys: [
        { name: "ada", hash: hash("key-of-ada-lovelace"), requests_per_minute: 3 },
        { name: "bob", hash: hash("key-of-bob-the-builder") },
      ],
    },
  });
  const ada = openaiOf(cluster, "key-of-ada-lovelace");
  await ada.chat.completions.create({ model: STORIES, messages: USER, max_tokens: 4 });
  const call = (path: string, key: string, init: RequestInit = {}) =>
    fetch(`${cluster.queen.url}${path}`, { ...init, headers: { Authorization: `Bearer ${key}` } });
  for (const path of ["/v2/workers", "/v2/registry/beehives/list", "/metrics", "/openapi.json"]) {
    const refused = await call(path, "key-of-ada-lovelace");
    assertEquals([refused.status, (await refused.json()).error.code], [403, "FORBIDDEN"], path);
  }
  // Paths of machines are nothing that a client may try.
  const probe = JSON.stringify({ model: "file:/etc/secret.gguf", prompt: "Once" });
  for (const path of ["/v2/tasks", "/v1/completions"]) {
    const refused = await call(path, "key-of-bob-the-builder", { method: "POST", body: probe });
    assertEquals([refused.status, (await refused.json()).error.code], [404, "MODEL_NOT_FOUND"], path);
  }
  const body = JSON.stringify({ model: STORIES, prompt: "Once", max_tokens: 4 });
  const submitted = await call("/v2/tasks", "key-of-ada-lovelace", { method: "POST", body });
  const { job_id } = await submitted.json();
  assertEquals((await call(`/v2/tasks/${job_id}`, "key-of-bob-the-builder")).status, 404);
  assertEquals((await call(`/v2/tasks/${job_id}`, CLUSTER_KEY)).status, 200);
  const events = await call(`/v2/tasks/${job_id}/events`, "key-of-ada-lovelace");
  assertMatch(await events.text(), /event: end/);
  await ada.completions.create({ model: STORIES, prompt: "Once", max_tokens: 4 });
  const limited = await assertRejects(
    () => ada.completions.create({ model: STORIES, prompt: "Once", max_tokens: 4 }),
    OpenAI.RateLimitError,
  );
  assertEquals(limited.code, "RATE_LIMITED");
  assert(Number(limited.headers.get("retry-after")) > 0);
  await openaiOf(cluster, "key-of-bob-the-builder").completions.create({
    ...{ model: STORIES, prompt: "Once", max_tokens: 4 },
  });
});

Deno.test("a full queue and a deadline that can't be met are refused at once, and what is taken comes in its turn", async () => {
  await using cluster = await startCluster({
    nodes: ["mac"],
    queenConfig: { queue_limit: 2, replicate_after: 0 },
  });
  const { client } = cluster.queen;
  await spawned(cluster, "mac", { model_ref: STORIES, slots: 1 });
  const long = {
    model: STORIES,
    prompt: "Once upon a time",
    max_tokens: 400,
    grammar: "root ::= [a-z]{400}",
  };
  const first = await client.submit(long);
  const running = await client.taskEvents(first.job_id);
  for await (const event of running.events) if (event.type === "token") break;
  const [second, third] = [await client.submit(long), await client.submit({ ...long, priority: "batch" })];
  assertEquals([second.queue_position, third.queue_position], [0, 1]);
  const openai = openaiOf(cluster);
  const full = await assertRejects(
    () => openai.completions.create({ model: STORIES, prompt: "Once", max_tokens: 4 }),
    OpenAI.RateLimitError,
  );
  assertEquals(full.code, "QUEUE_FULL");
  assert(Number(full.headers.get("retry-after")) >= 1);
  await client.cancelTask(third.job_id);
  await client.cancelTask(third.job_id);
  const late = await fetch(`${cluster.queen.url}/v1/completions`, {
    method: "POST",
    headers: { Authorization: `Bearer ${CLUSTER_KEY}`, "X-Deadline": "5" },
    body: JSON.stringify({ model: STORIES, prompt: "Once", max_tokens: 4 }),
  });
  assertEquals([late.status, (await late.json()).error.code], [408, "REQUEST_TIMEOUT"]);
  assertEquals((await Array.fromAsync((await client.taskEvents(second.job_id)).events)).at(-1)?.type, "end");
  assertEquals(
    await Promise.all([first, second, third].map(async ({ job_id }) => (await client.task(job_id)).status)),
    ["done", "done", "canceled"],
  );
});

Deno.test("bad requests are told by field before any model is loaded for them", async () => {
  await using cluster = await startCluster({ nodes: ["mac"] });
  const openai = openaiOf(cluster);
  const bad = await assertRejects(
    () => openai.chat.completions.create({ model: STORIES, messages: [], temperature: 9 }),
    OpenAI.BadRequestError,
  );
  assertMatch(bad.message, /temperature.*messages/);
  const none = await assertRejects(
    () => openai.chat.completions.create({ model: "", messages: USER }),
    OpenAI.BadRequestError,
  );
  assertEquals(none.param, "model");
  assertEquals(await cluster.queen.client.workers(), []);
});
