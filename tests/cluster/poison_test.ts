/** Requests that kill workers: what they cost, how they end, and what others notice of them. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { createHash } from "node:crypto";
import OpenAI from "openai";
import type { TaskEvent } from "../../protocol/queen_schemas.ts";
import { readEvents } from "../../protocol/sse.ts";
import { NOTED_AFTER_POISONED } from "../../queen/limits.ts";
import { spawned, startCluster } from "../helpers/cluster.ts";
import { eventually } from "../helpers/eventually.ts";
import {
  FakeFleet,
  FLEET_KEY,
  FLEET_MODEL as model,
  FLEET_TOKENS,
  type FleetQueen,
  fleetQueen,
  KILLING_TOKEN,
} from "../helpers/fake_fleet.ts";
import { freePort } from "../helpers/free_port.ts";
import { type LlamaShape, writeLlamaGguf } from "../helpers/gguf_writer.ts";
import { tempHome } from "../helpers/temp_home.ts";

/** Takes seconds to read a long prompt. */
const CHAIN: LlamaShape = {
  ...{ layers: 8, embd: 512, heads: 8, ff: 2_048, type: "Q8_0", vocab: 6_000, ctx: 4_096, chain: true },
};

const ADA = { Authorization: "Bearer key-of-ada-lovelace" };
const KEYS = [{ name: "ada", hash: createHash("sha256").update("key-of-ada-lovelace").digest("hex") }];

/** Every way to ask for something, with a text in it. */
const WAYS: Readonly<Record<string, (text: string) => Record<string, unknown>>> = {
  "/v1/chat/completions": (text) => ({ model, messages: [{ role: "user", content: text }] }),
  "/v1/completions": (text) => ({ model, prompt: text }),
  "/v1/responses": (text) => ({ model, input: text }),
  "/v1/messages": (text) => ({ model, max_tokens: 50, messages: [{ role: "user", content: text }] }),
  "/v1/embeddings": (text) => ({ model, input: text }),
  "/embeddings": (text) => ({ model, input: text }),
  "/v1/rerank": (text) => ({ model, query: text, documents: ["a"] }),
  "/tokenize": (text) => ({ model, content: text }),
  "/detokenize": (text) => ({ model, tokens: [text === "harmless" ? 1 : KILLING_TOKEN] }),
  "/apply-template": (text) => ({ model, messages: [{ role: "user", content: text }] }),
  "/v1/messages/count_tokens": (text) => ({ model, messages: [{ role: "user", content: text }] }),
};

interface Bed {
  queen: FleetQueen;
  fleet: FakeFleet;
}

async function withFleet(
  run: (bed: Bed) => Promise<void>,
  options: { workers?: number; slots?: number; config?: Record<string, unknown> } = {},
): Promise<void> {
  const { workers = 3, slots, config = { keys: KEYS } } = options;
  await using home = await tempHome();
  await using queen = await fleetQueen(home, config);
  await using fleet = new FakeFleet(queen, { slots });
  await fleet.start(workers);
  await run({ queen, fleet });
}

/** The code with which an answer ended; undefined: it came to its end. */
async function codeOf(response: Response): Promise<string | undefined> {
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
    return (await response.json()).error?.code;
  }
  for await (const event of readEvents(response.body!)) {
    const { error } = event as { error?: { code: string } };
    if (error !== undefined) return error.code;
  }
}

for (const [path, ask] of Object.entries(WAYS)) {
  Deno.test(`a request to ${path} that kills its workers costs two of three, and others go on being served`, () =>
    withFleet(async ({ queen, fleet }) => {
      // Connections to all workers are there already: losing one must not pass for a worker that was gone before.
      await Promise.all(
        Array.from({ length: 12 }, async () => await codeOf(await queen.call(path, ask("harmless")))),
      );
      const before = fleet.seen.length;
      const poisoned = await queen.call(path, ask("kills-at-0"), ADA);
      assertEquals([poisoned.status, await codeOf(poisoned)], [502, "REQUEST_POISONED"]);
      assertEquals(poisoned.headers.get("X-Should-Retry"), "false");
      assertEquals([fleet.seen.length - before, fleet.alive.length], [2, 1]);
      const other = await queen.call(path, ask("harmless"));
      assertEquals([other.status, await codeOf(other)], [200, undefined]);
      const metrics = await (await queen.call("/metrics")).text();
      assertMatch(metrics, /rbee_queen_poisoned_total\{key="ada"\} 1\n/);
      assert(queen.log.some(({ message, key }) => message.startsWith("request poisoned") && key === "ada"));
    }));
}

Deno.test("a stream and a task that kill their workers before a token, or always at the fifth, cost two of three", () =>
  withFleet(async ({ queen, fleet }) => {
    for (const [i, text] of ["kills-at-0", "kills-at-5"].entries()) {
      const streamed = await queen.call("/v1/completions", { model, prompt: text, stream: true });
      assertEquals(await codeOf(streamed), "REQUEST_POISONED");
      assertEquals([fleet.seen.length, fleet.alive.length], [4 * i + 2, 1]);
      await fleet.start(2);
      const task = await queen.call("/v2/tasks", { model, prompt: text, stream: true });
      const events = await Array.fromAsync(readEvents(task.body!)) as TaskEvent[];
      const end = events.at(-1)!;
      assert(end.type === "error");
      const tokens = i === 0 ? 0 : 5;
      assertEquals([end.error.code, end.error.details.tokens_generated], ["REQUEST_POISONED", tokens]);
      assertEquals(events.filter(({ type }) => type === "token").length, tokens);
      assertEquals([fleet.seen.length, fleet.alive.length], [4 * i + 4, 1]);
      await fleet.start(2);
    }
  }));

Deno.test("answers on the worker that a request kills come to their ends, each token told once", () =>
  withFleet(async ({ queen, fleet }) => {
    const ask = async () => {
      const response = await queen.call("/v1/completions", { model, prompt: "gated", stream: true });
      return await Array.fromAsync(readEvents(response.body!));
    };
    // With the poisoned one all slots of three workers are taken.
    const innocent = Array.from({ length: 11 }, ask);
    await eventually("all to run", () => fleet.seen.length === innocent.length);
    const poisoned = queen.call("/v1/completions", { model, prompt: "kills-at-0" }, ADA);
    await eventually("a worker to be lost", () => fleet.alive.length < 3);
    fleet.openGate();
    assertEquals(await codeOf(await poisoned), "REQUEST_POISONED");
    assertEquals(fleet.alive.length, 1);
    for (const events of await Promise.all(innocent)) {
      assertEquals(events, [...Array(FLEET_TOKENS).fill({ text: "x" }), { end: true }]);
    }
  }));

Deno.test("a worker that leaves in order, or that is not there any more, costs a request nothing", () =>
  withFleet(async ({ queen, fleet }) => {
    // Three refused connections, two of which would have been too many.
    const gone = Array.from({ length: 3 }, (_, i) => ({ id: `gone${i}`, port: freePort() }));
    await fleet.report(gone);
    for (let i = 0; i < 4; i++) {
      const response = await queen.call("/v1/completions", { model, prompt: "harmless" });
      assertEquals([response.status, await codeOf(response)], [200, undefined]);
    }
    const lost = queen.log.filter(({ message }) => message.startsWith("worker lost"));
    assertEquals(lost.map(({ strikes }) => strikes), [0, 0, 0]);
    const left = await queen.call("/v1/completions", { model, prompt: "leaves-3" });
    assertEquals([left.status, await codeOf(left), fleet.alive.length], [200, undefined, 1]);
  }, { workers: 1 }));

Deno.test("a task's strikes outlive its queen: the next one lets it cost one worker more", async () => {
  await using home = await tempHome();
  await using first = await fleetQueen(home);
  await using fleet = new FakeFleet(first);
  await fleet.start(1);
  const { job_id } = await (await first.call("/v2/tasks", { model, prompt: "kills-at-0" })).json();
  await eventually(
    "the loss to be noticed",
    () => first.log.some(({ message }) => message.startsWith("worker lost")),
  );
  await first[Symbol.asyncDispose]();
  await using next = await fleetQueen(home);
  fleet.queen = next;
  await fleet.start(3);
  await eventually(
    "the end",
    async () => (await (await next.call(`/v2/tasks/${job_id}`)).json()).status === "failed",
  );
  const { error } = await (await next.call(`/v2/tasks/${job_id}`)).json();
  assertEquals([error.code, fleet.seen.length, fleet.alive.length], ["REQUEST_POISONED", 2, 2]);
});

Deno.test("a noted key's request costs one worker, and the owner's still two", () =>
  withFleet(async ({ queen, fleet }) => {
    const lostBy = async (headers?: Record<string, string>) => {
      await fleet.start(2);
      const before = fleet.alive.length;
      const response = await queen.call("/v1/completions", { model, prompt: "kills-at-0" }, headers);
      assertEquals(await codeOf(response), "REQUEST_POISONED");
      return before - fleet.alive.length;
    };
    for (let i = 0; i < NOTED_AFTER_POISONED; i++) {
      assertEquals([await lostBy(ADA), await lostBy()], [2, 2]);
    }
    assertEquals([await lostBy(ADA), await lostBy()], [1, 2]);
  }));

Deno.test("openai's client, which repeats what failed, does not repeat what is poisoned", () =>
  withFleet(async ({ queen, fleet }) => {
    const openai = new OpenAI({
      ...{ baseURL: "http://queen/v1", apiKey: FLEET_KEY, maxRetries: 3 },
      fetch: (input, init) => queen.queen.app(new Request(input, init as RequestInit)),
    });
    const error = await assertRejects(
      () => openai.completions.create({ model, prompt: "kills-at-0" }),
      OpenAI.InternalServerError,
    );
    assertEquals([error.code, fleet.alive.length], ["REQUEST_POISONED", 1]);
  }));

Deno.test("a worker that hangs over what is passed on holds it until its deadline, and no slot after that", () =>
  withFleet(async ({ queen, fleet }) => {
    for (const path of ["/v1/embeddings", "/tokenize"]) {
      const hanging = await queen.call(path, WAYS[path]("hangs"), { "X-Deadline": "200" });
      assertEquals([hanging.status, await codeOf(hanging)], [408, "REQUEST_TIMEOUT"]);
      assertEquals((await queen.call(path, WAYS[path]("harmless"))).status, 200);
    }
    assertEquals(fleet.alive.length, 1);
    const [late] = await Promise.all([
      queen.call("/tokenize", { model, content: "a" }, { "X-Deadline": "soon" }),
    ]);
    assertEquals(late.status, 400);
  }, { workers: 1, slots: 1 }));

Deno.test("a worker's answer that is too large to be passed on is refused", () =>
  withFleet(async ({ queen }) => {
    const huge = await queen.call("/v1/embeddings", WAYS["/v1/embeddings"]("huge"));
    assertEquals([huge.status, await codeOf(huge)], [413, "PAYLOAD_TOO_LARGE"]);
  }));

Deno.test("a key is charged for what turns out to be no request, and is refused before it is read", () =>
  withFleet(async ({ queen, fleet }) => {
    const bad = [["/v1/completions", "{"], ["/v2/tasks", { model: 1 }], ["/tokenize", []]] as const;
    for (const [path, body] of bad) assertEquals((await queen.call(path, body, ADA)).status, 400, path);
    let isRead = false;
    const body = new ReadableStream<Uint8Array>({ pull: () => void (isRead = true) }, { highWaterMark: 0 });
    const refused = await queen.queen.app(
      new Request("http://queen/v1/completions", { method: "POST", headers: ADA, body }),
    );
    assertEquals([refused.status, await codeOf(refused), isRead], [429, "RATE_LIMITED", false]);
    assertEquals(fleet.seen, []);
    // What asks for no work is free.
    assertEquals((await queen.call("/v1/models", undefined, ADA)).status, 200);
  }, { config: { keys: [{ ...KEYS[0], requests_per_minute: 3 }] } }));

Deno.test("of three real workers a request costs two, each killed while it reads the prompt, and the third answers others", async () => {
  await using files = await tempHome();
  const path = `${files.path}/chain.gguf`;
  await writeLlamaGguf(path, CHAIN);
  const ref = `file:${path}`;
  const nodes = ["blep", "mac", "workstation"];
  // Nothing is loaded again for as long as the test runs.
  await using cluster = await startCluster({ nodes, queenConfig: { replicate_after: 0 } });
  for (const node of nodes) await spawned(cluster, node, { model_ref: ref, slots: 1, ctx_size: CHAIN.ctx });
  const { client } = cluster.queen;
  const { events } = await client.run({ model: ref, prompt: "a".repeat(3_500), max_tokens: 5 });
  const killed: string[] = [];
  let last: TaskEvent | undefined;
  for await (const event of events) {
    last = event;
    if (event.type !== "started") continue;
    const { pid } = await cluster.hives[event.node].client.worker(event.worker_id);
    Deno.kill(pid, "SIGKILL");
    killed.push(event.worker_id);
  }
  assert(last?.type === "error", JSON.stringify(last));
  assertEquals([last.error.code, new Set(killed).size, killed.length], ["REQUEST_POISONED", 2, 2]);
  const others = await Array.fromAsync((await client.run({ model: ref, prompt: "a", max_tokens: 5 })).events);
  assertEquals(others.at(-1)?.type, "end");
});
