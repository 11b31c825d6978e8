/** One greedy token for a prompt that never changes: whether the engine still generates, and still the same. */
import { RbeeError } from "../protocol/errors.ts";
import { GenerationOptions } from "../protocol/worker_requests.ts";
import type { Engine } from "./engine.ts";

const PROMPT = "Once upon a time";

/** A test that runs. */
export interface SelfTest {
  /** Ends it; whoever asked is told that it did not come to its end. */
  cancel(): void;
  /** Settles when its slot is free again; never rejects. */
  readonly over: Promise<void>;
  /**
   * The token's id; null when the model had nothing to say, undefined when the test was canceled. Rejects with
   * `INVALID_MODEL` when the model computes no numbers, and with the engine's errors.
   */
  readonly token: Promise<number | null | undefined>;
}

/**
 * Starts a test in a free slot of the engine. What it computes does not depend on anything that runs beside it.
 *
 * @throws {RbeeError} `ALL_SLOTS_BUSY`.
 */
export function startSelfTest(engine: Engine): SelfTest {
  const work = {
    ...GenerationOptions.parse({ temperature: 0, seed: 0, strict: true, speculative: "off", logprobs: 0 }),
    prompt: PROMPT,
    max_tokens: 1,
  };
  const ended = Promise.withResolvers<number | null | undefined>();
  let token: number | null = null;
  const generation = engine.generate(work, {
    tokens([{ id, logprob }]) {
      token = id;
      if (!Number.isFinite(logprob)) {
        ended.reject(new RbeeError("INVALID_MODEL", "The model computes values that are no numbers."));
      }
    },
    done: (stats) => ended.resolve(stats.stop_reason === "canceled" ? undefined : token),
    failed: ended.reject,
  });
  generation.accepted.catch(ended.reject);
  return {
    cancel: () => generation.cancel("canceled"),
    over: ended.promise.then(() => {}, () => {}),
    token: ended.promise,
  };
}
