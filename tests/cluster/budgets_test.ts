/** Budgets of keys: what is read or made for them counts, however it ends, and over restarts. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import { QueenClient } from "../../protocol/queen_client.ts";
import { CLUSTER_KEY, type RunningQueen, spawned, startCluster, startQueen } from "../helpers/cluster.ts";
import { eventually } from "../helpers/eventually.ts";
import {
  FakeFleet,
  FLEET_MODEL as model,
  FLEET_TOKENS,
  type FleetQueen,
  fleetQueen,
} from "../helpers/fake_fleet.ts";
import { type LlamaShape, writeLlamaGguf } from "../helpers/gguf_writer.ts";
import { type TempHome, tempHome } from "../helpers/temp_home.ts";

const SECRET = "key-of-ada-lovelace";
const ADA = { Authorization: `Bearer ${SECRET}` };
const HASH = createHash("sha256").update(SECRET).digest("hex");
/** Of a fake worker's prompt. */
const PROMPT_TOKENS = 3;
/** Of a gated answer, before it waits. */
const GATED_TOKENS = 3;

const keysOf = (limits: Record<string, number>) => ({ keys: [{ name: "ada", hash: HASH, ...limits }] });

interface Bed {
  home: TempHome;
  queen: FleetQueen;
  fleet: FakeFleet;
}

async function withFleet(limits: Record<string, number>, run: (bed: Bed) => Promise<void>): Promise<void> {
  await using home = await tempHome();
  await using queen = await fleetQueen(home, keysOf(limits));
  await using fleet = new FakeFleet(queen, { slots: 32 });
  await fleet.start(1);
  await run({ home, queen, fleet });
}

async function used(queen: FleetQueen): Promise<number> {
  const { usage } = await (await queen.call("/v2/usage?key=ada")).json();
  return usage.reduce(
    (sum: number, row: { tokens_read: number; tokens_made: number }) =>
      sum + row.tokens_read + row.tokens_made,
    0,
  );
}

async function refusal(response: Response): Promise<string> {
  const { error } = await response.json();
  return `${response.status} ${error.code}`;
}

const ask = (prompt: string, more = {}) => ({ model, prompt, max_tokens: FLEET_TOKENS, ...more });

Deno.test("tasks that are canceled are charged for what they had, so that a budget comes to its end", () =>
  withFleet({ tokens_per_day: 60 }, async ({ queen }) => {
    let taken = 0;
    for (; taken < 20; taken++) {
      const response = await queen.call("/v2/tasks", ask("gated"), ADA);
      if (!response.ok) {
        assertEquals(await refusal(response), "429 RATE_LIMITED");
        break;
      }
      const { job_id: id } = await response.json();
      const told = async () => (await (await queen.call(`/v2/tasks/${id}`)).json()).tokens === GATED_TOKENS;
      await eventually("three tokens", told);
      const cancel = new Request(`http://queen/v2/tasks/${id}`, { method: "DELETE", headers: ADA });
      assertEquals((await queen.queen.app(cancel)).status, 204);
    }
    assertEquals([taken, await used(queen)], [9, 9 * (PROMPT_TOKENS + GATED_TOKENS)]);
  }));

Deno.test("of requests at once no more are let through than the budget holds", () =>
  withFleet({ tokens_per_day: 60 }, async ({ queen, fleet }) => {
    const all = Array.from({ length: 30 }, () => queen.call("/v1/completions", ask("gated"), ADA));
    await eventually("those that run", () => Promise.resolve(fleet.seen.length >= 6));
    fleet.openGate();
    const statuses = (await Promise.all(all)).map(({ status }) => status);
    assertEquals(statuses.filter((status) => status === 200).length, 6);
    assertEquals(await used(queen), 6 * (PROMPT_TOKENS + FLEET_TOKENS));
  }));

Deno.test("each of several answers is reserved, and what no budget holds is refused for good", () =>
  withFleet({ tokens_per_day: 60 }, async ({ queen }) => {
    const four = await queen.call("/v1/completions", ask("gated", { n: 8 }), ADA);
    assertEquals(await refusal(four), "400 INVALID_REQUEST");
    const several = ask("gated", { prompt: Array(8).fill("gated") });
    assertEquals(
      await refusal(await queen.call("/v1/completions", several, ADA)),
      "400 INVALID_REQUEST",
    );
    const [first, second] = await Promise.all([
      queen.call("/v1/completions", ask("a", { n: 4 }), ADA),
      queen.call("/v1/completions", ask("a", { n: 4 }), ADA),
    ]);
    assertEquals([first.status, await refusal(second)], [200, "429 RATE_LIMITED"]);
    assertMatch(second.headers.get("Retry-After")!, /^10$/);
  }));

Deno.test("every document that is ranked or embedded counts, and the query with each", () =>
  withFleet({ tokens_per_day: 1_000 }, async ({ queen }) => {
    const documents = Array(8).fill("x".repeat(200));
    const rerank = () => queen.call("/v1/rerank", { model, query: "q".repeat(40), documents }, ADA);
    assertEquals((await rerank()).status, 200);
    assertEquals(await used(queen), 8 * 240 / 4);
    assertEquals((await rerank()).status, 200);
    assertEquals(await refusal(await rerank()), "429 RATE_LIMITED");
    const embed = await queen.call(
      "/v1/embeddings",
      { model, input: documents.concat(documents, documents) },
      ADA,
    );
    assertEquals(await refusal(embed), "400 INVALID_REQUEST");
  }));

Deno.test("a request that does not say how much it wants gets what is left, and no more", () =>
  withFleet({ tokens_per_day: 100 }, async ({ queen, fleet }) => {
    const chat = { model, messages: [{ role: "user", content: "hi" }] };
    assertEquals((await queen.call("/v1/chat/completions", chat, ADA)).status, 200);
    const [{ text }] = fleet.seen;
    const bound = JSON.parse(text).request.max_tokens;
    assert(bound > 50 && bound < 100, `${bound}`);
    // The owner has no budget, and nothing is said in its name.
    assertEquals((await queen.call("/v1/chat/completions", chat)).status, 200);
    assertEquals(JSON.parse(fleet.seen[1].text).request.max_tokens, undefined);
  }));

Deno.test("what was used is still used after a restart, and a task that goes on is charged once", () =>
  withFleet({ tokens_per_day: 60 }, async ({ home, queen, fleet }) => {
    for (let i = 0; i < 3; i++) {
      assertEquals((await queen.call("/v1/completions", ask("a"), ADA)).status, 200);
    }
    const { job_id: id } = await (await queen.call("/v2/tasks", ask("gated"), ADA)).json();
    const info = async (of: FleetQueen) => await (await of.call(`/v2/tasks/${id}`)).json();
    await eventually("three tokens", async () => (await info(queen)).tokens === GATED_TOKENS);
    await queen[Symbol.asyncDispose]();
    await using successor = await fleetQueen(home, keysOf({ tokens_per_day: 60 }));
    fleet.queen = successor;
    await fleet.report();
    // 33 are used and 10 reserved: there is room for one more, not for two.
    const [one, other] = await Promise.all([
      successor.call("/v1/completions", ask("gated"), ADA),
      successor.call("/v1/completions", ask("gated"), ADA),
      eventually("the one", () => Promise.resolve(fleet.seen.length >= 6)).then(() => fleet.openGate()),
    ]);
    assertEquals([one.status, await refusal(other)], [200, "429 RATE_LIMITED"]);
    await eventually("the end of the task", async () => (await info(successor)).status === "done");
    await eventually(
      "five charges",
      async () => await used(successor) === 5 * (PROMPT_TOKENS + FLEET_TOKENS),
    );
  }));

/** A real queen, as a fleet reports to it. */
function reachable(queen: RunningQueen): FleetQueen {
  return {
    get queen(): never {
      throw new Error("It is another process.");
    },
    log: [],
    call: (path, body, headers = {}) =>
      fetch(`${queen.url}${path}`, {
        method: body === undefined ? "GET" : "POST",
        headers: { Authorization: `Bearer ${CLUSTER_KEY}`, ...headers },
        body: body === undefined ? undefined : JSON.stringify(body),
      }),
    [Symbol.asyncDispose]: () => queen[Symbol.asyncDispose](),
  };
}

Deno.test("a queen that is killed takes no reservation with it: streams are charged as a whole, the task goes on", async () => {
  await using home = await tempHome();
  const config = JSON.stringify({ queen: keysOf({ tokens_per_day: 55 }) });
  await Deno.writeTextFile(`${home.rbeeHome}/config.yaml`, config);
  const killed = await startQueen({ home });
  await using fleet = new FakeFleet(reachable(killed), { slots: 32 });
  await fleet.start(1);
  const { job_id: id } = await (await fleet.queen.call("/v2/tasks", ask("gated"), ADA)).json();
  const stream = () => fleet.queen.call("/v1/completions", ask("gated", { stream: true }), ADA);
  const streams = Promise.allSettled([stream(), stream(), stream()]);
  // As soon as a worker has seen the last of them its reservation must be safe.
  await eventually("all four", () => Promise.resolve(fleet.seen.length === 4));
  await killed.kill();
  for (const one of await streams) {
    if (one.status === "fulfilled") await one.value.body?.cancel().catch(() => {});
  }
  await using queen = await startQueen({ home });
  fleet.queen = reachable(queen);
  await fleet.report();
  // Of 55 between 40 and 44 are charged or reserved, as the true lengths of the prompts were stored or not.
  const more = await Promise.all([stream(), stream(), stream()]);
  assertEquals(more.map(({ status }) => status).toSorted(), [200, 429, 429]);
  await Promise.all(more.map(({ body }) => body?.cancel()));
  fleet.openGate();
  await eventually(
    "the end of the task",
    async () => (await (await fleet.queen.call(`/v2/tasks/${id}`)).json()).status === "done",
  );
});

/** Takes seconds to read a long prompt. */
const CHAIN: LlamaShape = {
  ...{ layers: 8, embd: 512, heads: 8, ff: 2_048, type: "Q8_0", vocab: 6_000, ctx: 4_096, chain: true },
};

Deno.test("who leaves while a real worker reads the prompt has had it read", async () => {
  await using files = await tempHome();
  const path = `${files.path}/chain.gguf`;
  await writeLlamaGguf(path, CHAIN);
  const ref = `file:${path}`;
  await using cluster = await startCluster({
    nodes: ["mac"],
    queenConfig: keysOf({ tokens_per_day: 4_500 }),
  });
  await spawned(cluster, "mac", { model_ref: ref, slots: 2, ctx_size: CHAIN.ctx });
  const ada = new QueenClient({ baseUrl: cluster.queen.url, apiKey: SECRET });
  // From this the queen knows how many tokens such a text has.
  const first = (await ada.run({ model: ref, prompt: "a".repeat(350), max_tokens: 1 })).events;
  const end = (await Array.fromAsync(first)).at(-1);
  assert(end?.type === "end", JSON.stringify(end));
  const prompt = "a".repeat(3_500);
  const task = await ada.submit({ model: ref, prompt, max_tokens: 5 });
  for await (const event of (await ada.taskEvents(task.job_id)).events) if (event.type === "started") break;
  await ada.cancelTask(task.job_id);
  const left = new AbortController();
  const streamed = await fetch(`${cluster.queen.url}/v1/completions`, {
    method: "POST",
    headers: ADA,
    body: JSON.stringify({ model: ref, prompt, max_tokens: 5, stream: true }),
    signal: left.signal,
  });
  assertEquals(streamed.status, 200);
  left.abort();
  const usage = async () => await cluster.queen.client.usage({ key: "ada" });
  const [row] = await eventually("all charges", async () => {
    const rows = await usage();
    return rows[0]?.requests === 3 ? rows : undefined;
  });
  const tenth = end.stats.prompt_tokens;
  assert(row.tokens_read > tenth * (1 + 2 * 9), `${row.tokens_read}, after ${tenth} for a tenth`);
  const refused = await fetch(`${cluster.queen.url}/v1/completions`, {
    method: "POST",
    headers: ADA,
    body: JSON.stringify({ model: ref, prompt, max_tokens: 5 }),
  });
  assertEquals(await refusal(refused), "429 RATE_LIMITED");
  // The owner is not held back. Of several answers each counts, and their prompt once.
  const several = await fetch(`${cluster.queen.url}/v1/completions`, {
    method: "POST",
    headers: { Authorization: `Bearer ${CLUSTER_KEY}` },
    body: JSON.stringify({ model: ref, prompt: "a".repeat(40), max_tokens: 3, n: 2, temperature: 0 }),
  });
  const told = (await several.json()).usage;
  const owners = await eventually(
    "the owner's",
    async () => (await cluster.queen.client.usage({ key: "owner" }))[0],
  );
  assertEquals([owners.tokens_read, owners.tokens_made], [told.prompt_tokens, told.completion_tokens]);
  assertEquals(told.completion_tokens, 6);
});
