/** The real engine in this process, for tests and benchmarks that are about tokens, not about HTTP. */
import {
  type InferenceInput,
  InferenceRequest,
  type InferenceStats,
  type TokenEvent,
} from "../../protocol/worker_schemas.ts";
import { Engine, type EngineOptions, type Generation } from "../../worker/engine.ts";

/** Small and steady: one thread, so that tests running beside each other do not wait for one another's cores. */
export async function loadEngine(model: string, options: Partial<EngineOptions> = {}): Promise<Engine> {
  return await Engine.load(
    { backend: "cpu", device: 0, slots: 2, ctxSize: 0, threads: 1, ...options, model },
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
export async function answer(
  engine: Engine,
  input: InferenceInput,
  onTokens: (tokens: TokenEvent[], generation: Generation) => void = () => {},
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<InferenceStats>();
  promise.catch(() => {});
  const tokens: TokenEvent[] = [];
  const generation = engine.generate(InferenceRequest.parse(input), {
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

/** The ids of one answer by a fresh engine. */
export async function generateIds(model: string, input: InferenceInput): Promise<number[]> {
  const engine = await loadEngine(model, { slots: 1 });
  try {
    return (await answer(engine, input)).tokens.map((token) => token.id);
  } finally {
    await engine.close();
  }
}
