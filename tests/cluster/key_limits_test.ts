/** What keys let their requests have: models, machines, tokens, forms, downloads, and how urgent they are. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import { join } from "@std/path";
import { emptyHome, runKeeper } from "../../keeper/testing/keeper_process.ts";
import { QueenClient } from "../../protocol/queen_client.ts";
import type { TaskInput } from "../../protocol/queen_schemas.ts";
import { CLUSTER_KEY, spawned, startCluster, startQueen } from "../helpers/cluster.ts";
import { eventually } from "../helpers/eventually.ts";
import {
  FakeFleet,
  FLEET_MODEL as model,
  FLEET_TOKENS,
  type FleetQueen,
  fleetQueen,
} from "../helpers/fake_fleet.ts";
import { startHub } from "../helpers/hub.ts";
import { tempHome } from "../helpers/temp_home.ts";
import { STORIES } from "../helpers/test_models.ts";

const SECRET = "key-of-ada-lovelace";
const ADA = { Authorization: `Bearer ${SECRET}` };
const HASH = createHash("sha256").update(SECRET).digest("hex");
const keysOf = (limits: Record<string, unknown>) => ({ keys: [{ name: "ada", hash: HASH, ...limits }] });

interface Bed {
  queen: FleetQueen;
  fleet: FakeFleet;
  /** Ada's call: status and code, and the first field that is named. */
  tried(path: string, body?: unknown): Promise<string>;
}

async function withFleet(limits: Record<string, unknown>, run: (bed: Bed) => Promise<void>): Promise<void> {
  await using home = await tempHome();
  await using queen = await fleetQueen(home, keysOf(limits));
  await using fleet = new FakeFleet(queen, { slots: 2 });
  await fleet.start(1);
  const tried = async (path: string, body?: unknown) => {
    const response = await queen.call(path, body, ADA);
    if (response.ok) {
      await response.body?.cancel();
      return "done";
    }
    const { error } = await response.json();
    // Anthropic's clients are told no fields.
    return [response.status, error.code, error.param ?? error.details?.errors?.[0].field].filter(Boolean)
      .join(" ");
  };
  await run({ queen, fleet, tried });
}

const messages = [{ role: "user", content: "hi" }];

/** A request to each route that is answered by a model. */
const ASKS: [path: string, body: Record<string, unknown>][] = [
  ["/v2/tasks", { prompt: "a" }],
  ["/v1/completions", { prompt: "a" }],
  ["/v1/chat/completions", { messages }],
  ["/v1/responses", { input: "a" }],
  ["/v1/messages", { messages, max_tokens: FLEET_TOKENS }],
  ["/v1/embeddings", { input: "a" }],
  ["/embeddings", { input: "a" }],
  ["/v1/rerank", { query: "a", documents: ["b"] }],
  ["/tokenize", { content: "a" }],
  ["/detokenize", { tokens: [1] }],
  ["/apply-template", { messages }],
  ["/v1/messages/count_tokens", { messages }],
];

Deno.test("a key has its models and no others, on every route, and is not told which others there are", async () => {
  await withFleet({ models: ["hf:acme/*"] }, async ({ queen, tried }) => {
    const models = await (await queen.call("/v1/models", undefined, ADA)).json();
    assertEquals(models.data, []);
    for (const [path, body] of ASKS) {
      assertEquals(await tried(path, { ...body, model }), "404 MODEL_NOT_FOUND", path);
    }
    assertEquals(await tried(`/v1/models/${model}`), "404 MODEL_NOT_FOUND");
    assertEquals(await tried(`/v2/explain?model=${model}`), "404 MODEL_NOT_FOUND");
    assertEquals(await tried("/v1/completions", { model: "stories", prompt: "a" }), "404 MODEL_NOT_FOUND");
    assertEquals(await tried("/v1/completions", { prompt: "a" }), "400 INVALID_REQUEST model");
    const told = async (name: string) => {
      const response = await queen.call("/v1/completions", { model: name, prompt: "a" }, ADA);
      return (await response.json()).error.message.replace(name, "X");
    };
    assertEquals(await told(model), 'There is no model "X" for this key.');
    assertEquals(await told("hf:other/not-there"), await told(model));
  });
  for (const models of [["builtin:*"], ["hf:acme/bee:Q4_0", model]]) {
    await withFleet({ models }, async ({ tried }) => {
      for (const [path, body] of ASKS) assertEquals(await tried(path, { ...body, model }), "done", path);
      // Short names are resolved first.
      assertEquals(await tried("/v1/completions", { model: "stories", prompt: "a" }), "done");
      assertEquals(await tried("/v1/completions", { prompt: "a" }), "done");
      assertEquals(await tried(`/v2/explain?model=${model}`), "done");
    });
  }
});

Deno.test("a key without grammars gets texts, and the field that asks for a form is named", () =>
  withFleet({ grammar: false }, async ({ tried, fleet }) => {
    const refused = (field: string) => `400 INVALID_REQUEST ${field}`;
    const schema = { type: "object" };
    const tool = { type: "function", function: { name: "f" } };
    const wrong: [path: string, more: Record<string, unknown>, expected: string][] = [
      ["/v2/tasks", { grammar: 'root ::= "a"' }, refused("grammar")],
      ["/v2/tasks", { json_schema: schema }, refused("json_schema")],
      ["/v1/completions", { grammar: 'root ::= "a"' }, refused("grammar")],
      ["/v1/completions", { json_schema: schema }, refused("json_schema")],
      ["/v1/chat/completions", { response_format: { type: "json_object" } }, refused("response_format")],
      ["/v1/chat/completions", { tools: [tool] }, refused("tools")],
      ["/apply-template", { tools: [tool] }, refused("tools")],
      ["/v1/responses", { text: { format: { type: "json_object" } } }, refused("text.format")],
      ["/v1/responses", { tools: [{ type: "function", name: "f" }] }, refused("tools")],
      ["/v1/messages", { tools: [{ name: "f" }] }, "400 INVALID_REQUEST"],
    ];
    const bodies = new Map(ASKS);
    for (const [path, more, expected] of wrong) {
      assertEquals(await tried(path, { ...bodies.get(path), model, ...more }), expected, path);
    }
    assertEquals(fleet.seen, []);
    for (const [path, body] of ASKS) assertEquals(await tried(path, { ...body, model }), "done", path);
    const plain = { messages, model, tools: [], response_format: { type: "text" }, grammar: "" };
    assertEquals(await tried("/v1/chat/completions", plain), "done");
  }));

Deno.test("a request and its answers may have so many tokens together: what is certain is refused before it runs", () =>
  withFleet({ context: 100 }, async ({ queen, tried, fleet }) => {
    const ask = { model, prompt: "a" };
    const long = "word ".repeat(200);
    assertEquals(
      await tried("/v1/completions", { ...ask, max_tokens: 101 }),
      "400 INVALID_REQUEST max_tokens",
    );
    assertEquals(
      await tried("/v1/completions", { ...ask, max_tokens: 40, n: 3 }),
      "400 INVALID_REQUEST max_tokens",
    );
    const chat = { model, messages, max_completion_tokens: 101 };
    assertEquals(
      await tried("/v1/chat/completions", chat),
      "400 INVALID_REQUEST max_completion_tokens",
    );
    assertEquals(await tried("/v2/tasks", { ...ask, max_tokens: 101 }), "400 INVALID_REQUEST max_tokens");
    assertEquals(await tried("/v1/completions", { model, prompt: long }), "400 INVALID_REQUEST prompt");
    assertEquals(
      await tried("/v1/chat/completions", { model, messages: [{ role: "user", content: long }] }),
      "400 INVALID_REQUEST messages",
    );
    assertEquals(await tried("/v1/embeddings", { model, input: [long, long] }), "400 INVALID_REQUEST input");
    assertEquals(
      await tried("/v1/rerank", { model, query: "q", documents: [long] }),
      "400 INVALID_REQUEST documents",
    );
    assertEquals(fleet.seen, []);
    assertEquals(await tried("/v1/completions", { ...ask, max_tokens: 90 }), "done");
    // Who names no length gets what is left.
    assertEquals(await tried("/v1/chat/completions", { model, messages }), "done");
    const bound = JSON.parse(fleet.seen[1].text).request.max_tokens;
    assert(bound > 50 && bound < 100, `${bound}`);
    // The owner has no such limit.
    assertEquals((await queen.call("/v1/completions", { ...ask, max_tokens: 101 })).status, 200);
  }));

Deno.test("a key for batches has what it does not say taken for such, and is refused what it may not say", () =>
  withFleet({ priority: "batch" }, async ({ queen, tried, fleet }) => {
    const ask = { model, prompt: "gated" };
    assertEquals(
      await tried("/v2/tasks", { ...ask, priority: "interactive" }),
      "400 INVALID_REQUEST priority",
    );
    const submit = async (more = {}) => {
      const response = await queen.call("/v2/tasks", { ...ask, ...more }, ADA);
      return (await response.json()).job_id;
    };
    const priorityOf = async (id: string) => (await (await queen.call(`/v2/tasks/${id}`)).json()).priority;
    assertEquals(await priorityOf(await submit()), "batch");
    const other = await submit({ priority: "batch" });
    assertEquals(await priorityOf(other), "batch");
    // Both slots are taken. What waits for one is served by how urgent it is, not by when it came.
    await eventually("both to run", () => fleet.seen.length === 2);
    const { scheduler } = queen.queen.parts;
    const batch = queen.call("/v1/completions", { model, prompt: "came first" }, ADA);
    await eventually("one to wait", () => scheduler.waiting === 1);
    const interactive = queen.call("/v1/completions", { model, prompt: "came second" });
    await eventually("two to wait", () => scheduler.waiting === 2);
    await queen.queen.app(new Request(`http://queen/v2/tasks/${other}`, { method: "DELETE", headers: ADA }));
    assertEquals([(await interactive).status, (await batch).status], [200, 200]);
    assertMatch(fleet.seen[2].text, /came second/);
    fleet.openGate();
  }));

Deno.test("a task that its key may not have any more is not gone on with by the next queen", async () => {
  await using home = await tempHome();
  const queen = await fleetQueen(home, keysOf({}));
  await using fleet = new FakeFleet(queen, { slots: 1 });
  await fleet.start(1);
  const submit = async () =>
    (await (await queen.call("/v2/tasks", { model, prompt: "gated" }, ADA)).json()).job_id;
  const [running, waiting] = [await submit(), await submit()];
  await eventually("one to run", () => fleet.seen.length === 1);
  await queen[Symbol.asyncDispose]();
  await using successor = await fleetQueen(home, keysOf({ models: ["hf:acme/*"] }));
  for (const id of [running, waiting]) {
    const { status, error } = await (await successor.call(`/v2/tasks/${id}`)).json();
    assertEquals([status, error.code], ["failed", "MODEL_NOT_FOUND"]);
  }
});

Deno.test("real daemons: requests of a key run on its machines, whatever is free elsewhere, and what it may not name is not there", async () => {
  await using cluster = await startCluster({
    nodes: ["gpu", "mac"],
    queenConfig: { ...keysOf({ nodes: ["gpu"] }), replicate_after: 0 },
  });
  await spawned(cluster, "mac", { model_ref: model });
  const ada = new QueenClient({ baseUrl: cluster.queen.url, apiKey: SECRET });
  const ran = async (task: TaskInput) => {
    const events = await Array.fromAsync((await ada.run(task)).events);
    return events.flatMap((event) => event.type === "started" ? [event.node] : []);
  };
  // What takes no slot is asked of its machines, too.
  const body = JSON.stringify({ model, content: "a" });
  const tokenized = await fetch(`${cluster.queen.url}/tokenize`, { method: "POST", headers: ADA, body });
  assertEquals([tokenized.status, (await tokenized.json()).tokens.length > 0], [200, true]);
  assertEquals((await cluster.hives.gpu.client.workers()).workers.length, 1);
  const task = { model, prompt: "Once", max_tokens: 3 };
  assertEquals(await ran(task), ["gpu"]);
  const refused = await ada.submit({ ...task, node: "mac" }).catch((error) => error);
  assertEquals([refused.code, refused.message], ["NODE_NOT_FOUND", "There is no node mac for this key."]);
  const explained = await fetch(`${cluster.queen.url}/v2/explain?model=${model}`, { headers: ADA });
  const { nodes } = await explained.json();
  assertEquals(nodes.map(({ node }: { node: string }) => node), ["gpu"]);
});

Deno.test("real daemons: nothing is downloaded for a key that may not; the worker's count of a prompt decides", async () => {
  await using hub = await startHub({
    repos: { "acme/bee": { files: { "bee-Q8_0.gguf": { path: STORIES } } } },
  });
  await using cluster = await startCluster({
    nodes: ["mac"],
    queenConfig: keysOf({ downloads: false, context: 60 }),
    hive: { env: { HF_ENDPOINT: hub.url } },
  });
  const bee = "hf:acme/bee:Q8_0";
  const ask = (prompt: string, headers = ADA, more = {}) =>
    fetch(`${cluster.queen.url}/v1/completions`, {
      method: "POST",
      headers,
      body: JSON.stringify({ model: bee, prompt, max_tokens: 3, ...more }),
    });
  const refused = await ask("Once");
  assertEquals(refused.status, 404);
  const { error } = await refused.json();
  assertEquals(error.code, "MODEL_NOT_FOUND");
  assertMatch(error.message, /nothing is downloaded for this key.*models pull/);
  assertEquals(hub.requests, []);
  const owner = { Authorization: `Bearer ${CLUSTER_KEY}` };
  assertEquals((await ask("Once", owner)).status, 200);
  assertEquals((await ask("Once")).status, 200);
  // 96 characters are 24 tokens by their length, and many more for this model.
  const digits = "73519 28461 90357 26184 ".repeat(4);
  const long = await ask(digits);
  assertEquals(long.status, 400);
  const told = (await long.json()).error;
  assertEquals([told.code, told.param], ["INVALID_REQUEST", "prompt"]);
  assertMatch(told.message, /\d+ tokens of the request and its answers.* 60 together/);
  assertEquals((await ask(digits, owner)).status, 200);
  const ada = new QueenClient({ baseUrl: cluster.queen.url, apiKey: SECRET });
  const { job_id: id } = await ada.submit({ model: bee, prompt: digits, max_tokens: 3 });
  const last = (await Array.fromAsync((await ada.taskEvents(id)).events)).at(-1);
  assertEquals(last?.type === "error" && last.error.code, "INVALID_REQUEST");
});

Deno.test("limits are set, shown, changed and reloaded by keeper and configuration, while a queen runs", async () => {
  await using home = await tempHome();
  const config = join(home.rbeeHome, "config.yaml");
  const write = (keys: unknown) => Deno.writeTextFile(config, JSON.stringify({ queen: keys }));
  await write(keysOf({}));
  await using queen = await startQueen({ home });
  await using keeperHome = await emptyHome();
  const keyFile = join(home.rbeeHome, "owner.key");
  await Deno.writeTextFile(keyFile, `${CLUSTER_KEY}\n`, { mode: 0o600 });
  const keeper = async (...args: string[]) => {
    const env = { RBEE_QUEEN: queen.url, RBEE_QUEEN_KEY_FILE: keyFile };
    const { code, stdout, stderr } = await runKeeper(args, { home: keeperHome, env });
    return { code, stdout: stdout.trim(), stderr };
  };
  const refused = await keeper("keys", "add", "bob", "--models", "acme", "--context", "0");
  assertEquals(refused.code, 2);
  const wrong = await keeper("keys", "add", "bob", "--models", "acme");
  assertEquals(wrong.code, 1);
  assertMatch(wrong.stderr, /models\.0: expected a model reference, or its beginning with \* at the end/);
  const limits = ["--models", "hf:acme/*", "--models", model, "--nodes", "gpu", "--context", "4096"];
  const more = ["--grammar", "no", "--downloads", "no", "--priority", "batch"];
  const added = await keeper("keys", "add", "bob", ...limits, ...more);
  assertEquals(added.code, 0, added.stderr);
  const listed =
    /4096 tokens\/request, models hf:acme\/\* builtin:stories, nodes gpu, no grammar, no downloads, batch only/;
  assertMatch((await keeper("keys", "list")).stdout, listed);

  const asked = async (key: string, body: unknown) => {
    const response = await fetch(`${queen.url}/v2/tasks`, {
      method: "POST",
      headers: { Authorization: `Bearer ${key}` },
      body: JSON.stringify(body),
    });
    return (await response.json()).error?.code ?? "taken";
  };
  const bobs = (body: unknown) => asked(added.stdout, body);
  const task = { model: "hf:other/bee", prompt: "a" };
  assertEquals(await bobs(task), "MODEL_NOT_FOUND");
  const changed = await keeper("keys", "change", "bob", "--unset", "models", "--context", "10");
  assertEquals(changed.code, 0, changed.stderr);
  assertMatch(changed.stdout, /bob +client +1 +10 tokens\/request, nodes gpu, no grammar/);
  assertEquals(await bobs({ ...task, max_tokens: 11 }), "INVALID_REQUEST");
  assertEquals(await bobs({ ...task, node: "mac" }), "NODE_NOT_FOUND");
  assertEquals((await keeper("keys", "change", "bob", "--unset", "share", "--share", "2")).code, 2);
  assertEquals((await keeper("keys", "change", "bob")).code, 2);
  const ofConfig = await keeper("keys", "change", "ada", "--priority", "batch");
  assertEquals(ofConfig.code, 1);
  assertMatch(ofConfig.stderr, /stands in the queen's config\.yaml/);

  const urgent = { ...task, priority: "interactive", grammar: 'root ::= "a"' };
  assert(await asked(SECRET, urgent) !== "INVALID_REQUEST");
  await write(keysOf({ grammar: false }));
  assertEquals((await keeper("config", "reload")).code, 0);
  assertEquals(await asked(SECRET, urgent), "INVALID_REQUEST");
  await write(keysOf({ models: ["acme/*"] }));
  const faulty = await keeper("config", "reload");
  assertMatch(faulty.stderr, /queen\.keys\.0\.models\.0: expected a model reference/);
});
