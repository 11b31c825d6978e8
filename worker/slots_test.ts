import { assert, assertEquals } from "@std/assert";
import { answer, loadEngine } from "../tests/helpers/engine.ts";
import { STORIES } from "../tests/helpers/test_models.ts";

/** What all prompts begin with, as the text of a chat template is. */
const COMMON = "One day, ";

function prompt(about: string): string {
  return COMMON + `the ${about} was very happy and played in the park with a ball. `.repeat(4);
}

Deno.test("what all prompts begin with costs nobody the rest of a conversation while another slot has less to lose", async () => {
  const engine = await loadEngine(STORIES, { slots: 3 });
  try {
    const ask = async (text: string) => (await answer(engine, { prompt: text, max_tokens: 1 })).stats;
    const dog = await ask(prompt("dog"));
    await ask(prompt("bird"));
    await ask(prompt("boat"));
    const again = await ask(prompt("dog") + "Then it went home.");
    assert(again.cached_tokens >= dog.prompt_tokens - 1, JSON.stringify(again));
    // A fourth takes the place of the one that was used longest ago, and begins with what they share.
    const fourth = await ask(prompt("queen"));
    assert(fourth.cached_tokens > 0 && fourth.cached_tokens < 10, JSON.stringify(fourth));
    assertEquals((await ask(prompt("boat"))).cached_tokens, dog.prompt_tokens - 1);
    assert((await ask(prompt("bird"))).cached_tokens < 10);
  } finally {
    await engine.close();
  }
});
