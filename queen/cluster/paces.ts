/** What answers and loads took lately, by model: from this come ETAs and what a request will probably cost. */
import type { InferenceStats } from "../../protocol/worker_schemas.ts";
import { DEFAULT_ANSWER_MS, DEFAULT_LOAD_MS, MEAN_WEIGHT, MODELS_KNOWN_MAX } from "../limits.ts";
import { MovingMean } from "../queue/eta.ts";
import { RecentMap } from "../recent_map.ts";
import type { ClusterWorker } from "./cluster_worker.ts";

/** Read tokens below which the time of the first token says little of how fast prompts are read. */
const MEASURED_TOKENS_MIN = 32;

interface Pace {
  answerMs: MovingMean;
  tokens: MovingMean;
  loadMs: MovingMean;
}

/** Means that follow what is measured. */
export class Paces {
  readonly #paces = new RecentMap<string, Pace>(MODELS_KNOWN_MAX);
  readonly #reads = new WeakMap<ClusterWorker, MovingMean>();

  /** An answer has ended. */
  answered(worker: ClusterWorker, stats: readonly InferenceStats[]): void {
    const pace = this.#of(worker.model);
    for (const one of stats) {
      pace.answerMs.add(one.duration_ms);
      pace.tokens.add(one.total_tokens);
    }
    const [{ prompt_tokens, cached_tokens, resumed_tokens, time_to_first_token_ms }] = stats;
    const read = prompt_tokens - cached_tokens;
    if (read < MEASURED_TOKENS_MIN || resumed_tokens > 0 || time_to_first_token_ms <= 0) return;
    const reads = this.#reads.get(worker) ?? new MovingMean(MEAN_WEIGHT);
    this.#reads.set(worker, reads);
    reads.add(read * 1000 / time_to_first_token_ms);
    worker.readsPerSecond = reads.value;
  }

  /** A model was loaded. */
  loaded(model: string, ms: number): void {
    this.#of(model).loadMs.add(ms);
  }

  /** How long an answer takes, in ms. */
  answerMs(model: string): number {
    return this.#paces.get(model)?.answerMs.value ?? DEFAULT_ANSWER_MS;
  }

  /** How many tokens an answer has; undefined before the first. */
  tokens(model: string): number | undefined {
    return this.#paces.get(model)?.tokens.value;
  }

  /** How long a load takes, in ms. */
  loadMs(model: string): number {
    return this.#paces.get(model)?.loadMs.value ?? DEFAULT_LOAD_MS;
  }

  #of(model: string): Pace {
    let pace = this.#paces.get(model);
    if (pace === undefined) {
      pace = {
        answerMs: new MovingMean(MEAN_WEIGHT),
        tokens: new MovingMean(MEAN_WEIGHT),
        loadMs: new MovingMean(MEAN_WEIGHT),
      };
      this.#paces.set(model, pace);
    }
    return pace;
  }
}
