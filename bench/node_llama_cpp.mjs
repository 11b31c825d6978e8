/**
 * `node node_llama_cpp.mjs PACKAGE MODEL THREADS TOKENS`: one greedy answer of node-llama-cpp on the CPU, token by
 * token through its callback. Prints `{"tokens_per_second":…}`.
 */
import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";

const [packageFolder, modelPath, threads, tokens] = process.argv.slice(2);
const { getLlama, LlamaCompletion } = await import(
  pathToFileURL(join(packageFolder, "dist", "index.js")).href
);
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: Number(threads) });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({ contextSize: 512, threads: Number(threads) });
const contextSequence = context.getSequence();

async function generate(maxTokens) {
  await contextSequence.clearHistory();
  const completion = new LlamaCompletion({ contextSequence });
  let count = 0;
  const startMs = performance.now();
  await completion.generateCompletion("Once upon a time", {
    maxTokens,
    temperature: 0,
    onToken: (ids) => count += ids.length,
  });
  const seconds = (performance.now() - startMs) / 1000;
  completion.dispose({ disposeSequence: false });
  if (count !== maxTokens) throw new Error(`The answer ended after ${count} of ${maxTokens} tokens.`);
  return count / seconds;
}

// The first answer warms up.
await generate(20);
console.log(JSON.stringify({ tokens_per_second: await generate(Number(tokens)) }));
process.exit(0);
