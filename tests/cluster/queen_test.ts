/** One queen, several machines, as a person sees it. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import OpenAI from "openai";
import { StreamCutError } from "../../protocol/sse.ts";
import type { TaskEvent } from "../../protocol/queen_schemas.ts";
import {
  CLUSTER_KEY,
  killBusyWorkers,
  LONG_TEXT,
  spawned,
  startCluster,
  startQueen,
} from "../helpers/cluster.ts";
import { freePort } from "../helpers/free_port.ts";

const MODEL = "builtin:stories";
const LONG = { model: MODEL, max_tokens: 300, grammar: LONG_TEXT };
const LONGEST = { ...LONG, max_tokens: 450, grammar: "root ::= part part\npart ::= [a-z ]{1500}" };

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
  const ask = { ...LONGEST, prompt: "Once upon a time", seed: 11, temperature: 0.9 };
  const uncut = textOf(await Array.fromAsync((await client.run(ask)).events));
  const { events } = await client.run(ask);
  const told: TaskEvent[] = [];
  for await (const event of events) {
    told.push(event);
    if (event.type === "token" && event.index === 5) assertEquals(await killBusyWorkers(cluster), 1);
  }
  assertEquals(kindsOf(told).filter((kind) => kind !== "queued"), ["started", "token", "loading", "end"]);
  assertEquals(told.filter(({ type }) => type === "started").length, 2);
  assertEquals(textOf(told), uncut);
  const indices = told.flatMap((event) => event.type === "token" ? [event.index] : []);
  assertEquals(indices, indices.map((_, i) => i));

  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: CLUSTER_KEY, maxRetries: 0 });
  let text = "";
  let killed = 0;
  for await (const chunk of await openai.completions.create({ ...ask, stream: true as const })) {
    text += chunk.choices[0].text;
    if (killed === 0 && text.length > 100) killed = await killBusyWorkers(cluster);
  }
  assertEquals([text, killed], [uncut, 1]);
});

Deno.test("after a queen is killed its successor finishes its tasks: none ends twice, no token is lost or repeated", async () => {
  const listen = `127.0.0.1:${freePort()}`;
  await using cluster = await startCluster({ nodes: ["mac"], listen, queenConfig: { replicate_after: 0 } });
  const { client } = cluster.queen;
  await spawned(cluster, "mac", { model_ref: MODEL, slots: 1 });
  const secret = "Once upon a time there was a walrus called Philip";
  const ask = { ...LONG, prompt: secret, temperature: 0.9 };
  const running = await client.submit({ ...ask, seed: 8 });
  const waiting = await client.submit({ ...ask, seed: 9, max_tokens: 20 });
  const told: TaskEvent[] = [];
  let seq = 0;
  for await (const event of (await client.taskEvents(running.job_id)).events) {
    if ("seq" in event) seq = event.seq!;
    told.push(event);
    if (event.type === "token" && event.index === 40) break;
  }
  await cluster.queen.kill();
  const { rbeeHome } = cluster.homes.queen;
  for await (const { name, isFile } of Deno.readDir(rbeeHome)) {
    if (!isFile) continue;
    const bytes = new TextDecoder("latin1").decode(await Deno.readFile(`${rbeeHome}/${name}`));
    assertEquals(bytes.includes("Philip"), false, `${name} holds the prompt`);
  }
  await using next = await startQueen({ home: cluster.homes.queen, listen });
  for await (const event of (await next.client.taskEvents(running.job_id, { lastEventId: seq })).events) {
    told.push(event);
  }
  assertEquals(told.filter(({ type }) => type === "end" || type === "error").map(({ type }) => type), [
    "end",
  ]);
  const indices = told.flatMap((event) => event.type === "token" ? [event.index] : []);
  assertEquals(indices, Array.from({ length: 300 }, (_, i) => i));
  const uncut = await Array.fromAsync((await next.client.run({ ...ask, seed: 8 })).events);
  assertEquals(textOf(told), textOf(uncut));
  const other = await Array.fromAsync((await next.client.taskEvents(waiting.job_id)).events);
  assertEquals([other.at(-1)?.type, textOf(other).length > 0], ["end", true]);
  assertEquals((await next.client.task(waiting.job_id)).status, "done");
});

Deno.test("a queen that shuts down cuts the streams of its tasks, and its successor continues them", async () => {
  const listen = `127.0.0.1:${freePort()}`;
  await using cluster = await startCluster({ nodes: ["mac"], listen });
  const { client } = cluster.queen;
  await spawned(cluster, "mac", { model_ref: MODEL, slots: 1 });
  const { job_id } = await client.submit({
    ...{ ...LONG, prompt: "Once", seed: 3 },
  });
  const { events } = await client.taskEvents(job_id);
  let seq = 0;
  let stopping: Promise<unknown> | undefined;
  const told: TaskEvent[] = [];
  await assertRejects(async () => {
    for await (const event of events) {
      if ("seq" in event) seq = event.seq!;
      told.push(event);
      if (event.type === "token") stopping ??= cluster.queen.stop();
    }
  }, StreamCutError);
  await stopping;
  await using next = await startQueen({ home: cluster.homes.queen, listen });
  told.push(...await Array.fromAsync((await next.client.taskEvents(job_id, { lastEventId: seq })).events));
  const indices = told.flatMap((event) => event.type === "token" ? [event.index] : []);
  assertEquals(indices, Array.from({ length: 300 }, (_, i) => i));
  assertEquals(told.at(-1)?.type, "end");
});
