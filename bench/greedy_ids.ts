/**
 * `deno task bench:ids`: does greedy generation give the token ids of llama.cpp itself? Runs llama-server, built from
 * the same submodule, and our engine on the same prompts and compares. `--record` writes llama-server's ids to
 * tests/fixtures/greedy_ids.json, which the tests hold against our engine.
 */
import { fromFileUrl, join } from "@std/path";
import { LLAMA_RELEASE } from "../tools/llama_release.ts";
import { generateIds } from "../tests/helpers/engine.ts";
import { startLlamaServer } from "./llama_server.ts";

const MODEL = "stories260K-F32.gguf";
const FIXTURE = fromFileUrl(new URL("../tests/fixtures/greedy_ids.json", import.meta.url));
const CASES = [
  { prompt: "Once upon a time", tokens: 400 },
  { prompt: "The dog saw a big red ball. He", tokens: 300 },
  { prompt: "Lily and Tom went to the park.\n\n", tokens: 300 },
  { prompt: "Café 🐝 was", tokens: 100 },
  { prompt: "x", tokens: 200 },
];

// The exit comes after the server was stopped.
if (import.meta.main) Deno.exit(await main());

async function main(): Promise<number> {
  const models = Deno.env.get("RBEE_TEST_MODELS");
  if (!models) {
    console.error(`Error: set RBEE_TEST_MODELS to the folder that holds ${MODEL}.`);
    return 2;
  }
  const model = join(models, MODEL);
  await using server = await startLlamaServer(model, ["-t", "1", "-np", "1", "-c", "512"]);
  const theirs = [];
  for (const { prompt, tokens } of CASES) {
    const response = await fetch(`${server.url}/completion`, {
      method: "POST",
      body: JSON.stringify({
        prompt,
        n_predict: tokens,
        temperature: 0,
        return_tokens: true,
        cache_prompt: false,
      }),
    });
    theirs.push({ prompt, ids: (await response.json()).tokens as number[] });
  }
  if (Deno.args.includes("--record")) {
    const fixture = {
      made_by: "deno task bench:ids --record",
      peer: server.command,
      llama_cpp: LLAMA_RELEASE.commit,
      model: MODEL,
      cases: theirs,
    };
    await Deno.writeTextFile(FIXTURE, JSON.stringify(fixture) + "\n");
  }
  let wrong = 0;
  for (const { prompt, ids } of theirs) {
    const ours = await generateIds(model, { prompt, max_tokens: ids.length, temperature: 0 });
    const differs = ids.findIndex((id, i) => id !== ours[i]);
    if (differs >= 0) wrong++;
    const verdict = differs < 0 ? `${ids.length} of ${ids.length} ids equal` : `differs at token ${differs}`;
    console.log(`${JSON.stringify(prompt)}: ${verdict}`);
  }
  return wrong === 0 ? 0 : 1;
}
