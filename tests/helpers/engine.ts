/** The real engine in this process, for tests and benchmarks that are about tokens, not about HTTP. */
import { type InferenceInput, InferenceRequest } from "../../protocol/worker_requests.ts";
import type { InferenceStats, TokenEvent } from "../../protocol/worker_schemas.ts";
import { Engine, type Generation } from "../../worker/engine.ts";
import type { EngineOptions } from "../../worker/engine_options.ts";
import type { Work } from "../../worker/work.ts";

const DEFAULTS: Omit<EngineOptions, "model"> = {
  backend: "cpu",
  device: 0,
  slots: 2,
  ctxSize: 0,
  threads: 1,
  cacheType: "auto",
  flashAttention: "auto",
  kvUnified: false,
};

/** Small and steady: one thread, so that tests running beside each other do not wait for one another's cores. */
export async function loadEngine(model: string, options: Partial<EngineOptions> = {}): Promise<Engine> {
  return await Engine.load(
    { ...DEFAULTS, ...options, model },
    {
      onProgress: () => {},
      signal: new AbortController().signal,
    },
  );
}

/** A finished answer. */
export interface Answer {
  tokens: TokenEvent[];
  text: string;
  stats: InferenceStats;
}

/** Generates to the end. `onTokens` may cancel. */
export function answer(
  engine: Engine,
  input: InferenceInput,
  onTokens?: (tokens: TokenEvent[], generation: Generation) => void,
): Promise<Answer> {
  return complete(engine, InferenceRequest.parse(input), onTokens);
}

/** As {@linkcode answer}, of work that may have been begun elsewhere. */
export async function complete(
  engine: Engine,
  work: Work,
  onTokens: (tokens: TokenEvent[], generation: Generation) => void = () => {},
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<InferenceStats>();
  promise.catch(() => {});
  const tokens: TokenEvent[] = [];
  const generation = engine.generate(work, {
    tokens: (batch) => {
      tokens.push(...batch);
      onTokens(tokens, generation);
    },
    done: resolve,
    failed: reject,
  });
  await generation.accepted;
  const stats = await promise;
  return { tokens, text: tokens.map((token) => token.token).join(""), stats };
}
