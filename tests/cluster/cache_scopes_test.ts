/** What a worker has cached of one key's prompts tells no other key anything. */
import { assert, assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import { type Cluster, spawned, startCluster } from "../helpers/cluster.ts";

const STORIES = "builtin:stories";
/** Longer than one block of hashed tokens. */
const SECRET_TEXT = "The treasure of the old king lies under the third oak behind the mill, ".repeat(4);
const KEYS = ["ada", "bob", "cyd", "dan"].map((name, i) => ({
  name,
  hash: createHash("sha256").update(`key-of-${name}`).digest("hex"),
  cache_group: i < 2 ? undefined : "family",
}));

Deno.test("a guess of another key's prompt finds nothing computed; the same key's next request does, and its group's", async () => {
  await using cluster = await startCluster({
    nodes: ["mac"],
    queenConfig: { keys: KEYS, replicate_after: 0 },
  });
  await spawned(cluster, "mac", { model_ref: STORIES, slots: 8 });
  const cached = async (name: string, prompt: string) => {
    const response = await fetch(`${cluster.queen.url}/v1/completions`, {
      method: "POST",
      headers: { Authorization: `Bearer key-of-${name}` },
      body: JSON.stringify({ model: STORIES, max_tokens: 2, temperature: 0, prompt }),
    });
    const { usage } = await response.json();
    return usage.prompt_tokens_details.cached_tokens as number;
  };
  assertEquals(await cached("ada", SECRET_TEXT), 0);
  assertEquals(await cached("bob", SECRET_TEXT), 0);
  assertEquals(await cached("cyd", SECRET_TEXT.slice(0, 150)), 0);
  assert(await cached("ada", SECRET_TEXT) > 50);
  assert(await cached("bob", SECRET_TEXT) > 50);
  const shared = await cached("dan", SECRET_TEXT);
  assert(shared > 20 && shared < await cached("dan", SECRET_TEXT), `${shared} of the group's`);
});

const RULES = "You are the clerk of the village library and answer each question in one short sentence. "
  .repeat(3);

/** Tokens of a request that its worker did not have to read. */
async function cachedOf(
  cluster: Cluster,
  what: { key: string; path: string; body: Record<string, unknown> },
): Promise<number> {
  const { key, path, body } = what;
  const response = await fetch(`${cluster.queen.url}${path}`, {
    method: "POST",
    headers: { Authorization: `Bearer key-of-${key}` },
    body: JSON.stringify({ model: STORIES, max_tokens: 2, temperature: 0, ...body }),
  });
  assertEquals(response.status, 200);
  const { usage } = await response.json();
  return (usage.prompt_tokens_details ?? usage.input_tokens_details).cached_tokens;
}

/**
 * What bob finds computed of ada's question, and of another one: more than 50 tokens. They ask again where the first
 * self-test of the new worker came between them and took its only slot.
 */
async function guessedAndWrong(
  ask: (key: string, question: string) => Promise<number>,
  [secret, other]: readonly [string, string],
): Promise<[guessed: number, wrong: number]> {
  const found = async (question: string) => {
    await ask("ada", secret);
    const tokens = await ask("bob", question);
    if (tokens > 50) return tokens;
    await ask("ada", secret);
    return await ask("bob", question);
  };
  const [guessed, wrong] = [await found(secret), await found(other)];
  assert(wrong > 50, `${wrong} of the common text`);
  return [guessed, wrong];
}

Deno.test("what the owner declared as common is found by all keys, and not a token behind it", async () => {
  await using cluster = await startCluster({
    nodes: ["mac"],
    queenConfig: {
      keys: KEYS,
      replicate_after: 0,
      common_prefixes: [{ text: RULES, models: ["builtin:*"] }],
    },
  });
  // With one slot whoever comes finds what the one before has left.
  await spawned(cluster, "mac", { model_ref: STORIES, slots: 1 });
  const completion = (key: string, prompt: string) =>
    cachedOf(cluster, { key, path: "/v1/completions", body: { prompt } });
  assertEquals(await completion("ada", RULES + SECRET_TEXT), 0);
  const [guessed, wrong] = await guessedAndWrong(
    completion,
    [RULES + SECRET_TEXT, `${RULES}Anything else that nobody asks but he.`],
  );
  assertEquals(wrong, guessed);
  const own = await completion("bob", `${RULES}Anything else that nobody asks but he.`);
  assert(own > guessed, `${own} of his own`);
  // What is not common is nobody's but the key's.
  await completion("ada", SECRET_TEXT);
  assertEquals(await completion("bob", SECRET_TEXT), 0);
});

Deno.test("a common text is found in every interface's words, and where the template puts it", async () => {
  await using cluster = await startCluster({
    nodes: ["mac"],
    queenConfig: { keys: KEYS, replicate_after: 0, common_prefixes: [{ text: RULES }] },
  });
  await spawned(cluster, "mac", { model_ref: STORIES, slots: 1 });
  const user = (content: string) => ({ role: "user", content });
  const system = { role: "system", content: RULES };
  const asks: [path: string, body: (question: string) => Record<string, unknown>][] = [
    ["/v1/chat/completions", (question) => ({ messages: [system, user(question)] })],
    ["/v1/chat/completions", (question) => ({ messages: [user(RULES + question)] })],
    ["/v1/responses", (question) => ({ instructions: RULES, input: question })],
  ];
  for (const [path, body] of asks) {
    const ask = (key: string, question: string) => cachedOf(cluster, { key, path, body: body(question) });
    assertEquals(...await guessedAndWrong(ask, [SECRET_TEXT, "Another question."]));
  }
});
