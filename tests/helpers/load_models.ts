/** Loads the models named on the command line one after the other and prints one line for each: how it went. */
import { RbeeError } from "../../protocol/errors.ts";
import { answer, loadEngine } from "./engine.ts";

const { signal } = new AbortController();

for (const path of Deno.args) {
  console.log(JSON.stringify({ path, outcome: await outcomeOf(path) }));
}

async function outcomeOf(path: string): Promise<string> {
  try {
    const engine = await loadEngine(path);
    try {
      const prompt = "Once upon a time";
      // One that does not look back only makes embeddings.
      if (engine.facts.pooling === undefined) await answer(engine, { prompt, max_tokens: 5, temperature: 0 });
      else await engine.embed([await engine.tokenize(prompt, { signal })], signal);
      return "generated";
    } finally {
      await engine.close();
    }
  } catch (error) {
    if (error instanceof RbeeError) return error.code;
    throw error;
  }
}
// A template that does not end keeps a thread of this process.
Deno.exit(0);
