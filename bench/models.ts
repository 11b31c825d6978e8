/** The models that are measured with. */
import { fromFileUrl } from "@std/path";
import { cachedLlamaGguf, TINY_LLAMA_1B } from "../tests/helpers/gguf_writer.ts";
import { sharedModel, STORIES as BUILTIN_PATH } from "../tests/helpers/test_models.ts";

/** What is made or fetched for benchmarks only. */
export const CACHE: string = fromFileUrl(new URL("../.cache/bench", import.meta.url));

/** A real model that writes simple stories: what a step costs beside the model. */
export const STORIES = "stories260K-F32";
/** What ships with rbee: has a chat template, and ends its stories by itself. */
export const BUILTIN = "rbee-stories-1.4M-Q8_0";
/** The shape of TinyLlama 1.1B with random weights: what it says means nothing, what it costs is true. */
export const RANDOM_1B = "1.1B Q4_0";
/** The same shape and cost; each token is followed by the next id, so that its text is known beforehand. */
export const CHAIN_1B = "1.1B Q4_0, chained tokens";

/** A true header with random weights behind it, made up as it is fetched: no file, and of a size that the row says. */
export const MADE_UP = "made up";

const PATHS: Readonly<Record<string, () => Promise<string>>> = {
  [STORIES]: () => Promise.resolve(sharedModel(`${STORIES}.gguf`)!),
  [BUILTIN]: () => Promise.resolve(BUILTIN_PATH),
  [RANDOM_1B]: () => cachedLlamaGguf(CACHE, { ...TINY_LLAMA_1B, type: "Q4_0" }),
  [CHAIN_1B]: () => cachedLlamaGguf(CACHE, { ...TINY_LLAMA_1B, type: "Q4_0", chain: true }),
  [MADE_UP]: () => Promise.resolve(""),
};

/** Path of a model by its name in the table; made when it is not there yet. */
export function modelPath(name: string): Promise<string> {
  return PATHS[name]();
}
