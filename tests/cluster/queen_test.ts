/** One queen, several machines, as a person sees it. */
import { assert, assertEquals } from "@std/assert";
import OpenAI from "openai";
import type { TaskEvent } from "../../protocol/queen_schemas.ts";
import { type Cluster, CLUSTER_KEY, startCluster } from "../helpers/cluster.ts";

const MODEL = "builtin:stories";

/** Only what the text is made of. */
function textOf(events: readonly TaskEvent[]): string {
  return events.map((event) => event.type === "token" ? event.token : "").join("");
}

function kindsOf(events: readonly TaskEvent[]): string[] {
  return [...new Set(events.map(({ type }) => type))];
}

Deno.test("a task loads its model where it fits, tells how far it is, and can be asked for again", async () => {
  await using cluster = await startCluster({ nodes: ["mac", "workstation"] });
  const { client } = cluster.queen;
  const { events } = await client.run({ model: MODEL, prompt: "Once upon a time", max_tokens: 20, seed: 5 });
  const told = await Array.fromAsync(events);
  assertEquals(kindsOf(told).filter((kind) => kind !== "queued"), ["loading", "started", "token", "end"]);
  const end = told.at(-1)!;
  assert(end.type === "end");
  assertEquals([end.stats.total_tokens, end.stats.seed], [20, 5]);
  const receipt = await client.submit({ model: MODEL, prompt: "Once upon a time", max_tokens: 20, seed: 5 });
  const all = await Array.fromAsync((await client.taskEvents(receipt.job_id)).events);
  assertEquals(textOf(all), textOf(told));
  // The first of its events is that it was started; after the sixth there are five tokens less.
  const rest = await Array.fromAsync((await client.taskEvents(receipt.job_id, { lastEventId: 6 })).events);
  assertEquals(rest.filter(({ type }) => type === "token").length, 15);
  assertEquals((await client.task(receipt.job_id)).status, "done");
  assertEquals((await client.workers()).length, 1);
});

Deno.test("openai's client finds every model of the cluster behind one address", async () => {
  await using cluster = await startCluster({ nodes: ["mac"] });
  const openai = new OpenAI({ baseURL: `${cluster.queen.url}/v1`, apiKey: CLUSTER_KEY, maxRetries: 0 });
  const models = await Array.fromAsync(await openai.models.list());
  assertEquals(models.map(({ id }) => id), [MODEL]);
  const ask = {
    model: MODEL,
    messages: [{ role: "user" as const, content: "Write." }],
    max_tokens: 12,
    seed: 3,
  };
  const whole = await openai.chat.completions.create(ask);
  let text = "";
  for await (const chunk of await openai.chat.completions.create({ ...ask, stream: true })) {
    text += chunk.choices[0]?.delta.content ?? "";
  }
  assertEquals(text, whole.choices[0].message.content);
  assert(text.length > 0);
});

Deno.test("a worker that is killed in the middle of a seeded answer is not to be seen in it", async () => {
  await using cluster = await startCluster({ nodes: ["mac", "workstation"] });
  const { client, url } = cluster.queen;
  const ask = { model: MODEL, prompt: "Once upon a time", max_tokens: 200, seed: 11, temperature: 0.9 };
  const uncut = textOf(await Array.fromAsync((await client.run(ask)).events));
  const { events } = await client.run(ask);
  const told: TaskEvent[] = [];
  for await (const event of events) {
    told.push(event);
    if (event.type === "token" && event.index === 30) await killWorkers(cluster);
  }
  assertEquals(kindsOf(told).filter((kind) => kind !== "queued"), ["started", "token", "loading", "end"]);
  assertEquals(told.filter(({ type }) => type === "started").length, 2);
  assertEquals(textOf(told), uncut);
  const indices = told.flatMap((event) => event.type === "token" ? [event.index] : []);
  assertEquals(indices, indices.map((_, i) => i));

  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: CLUSTER_KEY, maxRetries: 0 });
  const { model, prompt, max_tokens, seed, temperature } = ask;
  let text = "";
  for await (
    const chunk of await openai.completions.create({
      model,
      prompt,
      max_tokens,
      seed,
      temperature,
      stream: true,
    })
  ) {
    text += chunk.choices[0].text;
    if (text.length > 100 && text.length < 110) await killWorkers(cluster);
  }
  assertEquals(text, uncut);
});

/** All workers that are alive. */
async function killWorkers({ hives }: Cluster): Promise<void> {
  for (const { client } of Object.values(hives)) {
    for (const { pid } of (await client.workers()).workers) Deno.kill(pid, "SIGKILL");
  }
}
