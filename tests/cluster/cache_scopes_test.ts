/** What a worker has cached of one key's prompts tells no other key anything. */
import { assert, assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import { spawned, startCluster } from "../helpers/cluster.ts";

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
