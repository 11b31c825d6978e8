/**
 * The worker's metrics. Kept as plain numbers while it works and put into prom-client's form when somebody asks:
 * loading that library costs more time than loading a small model.
 */
import { metricsResponse } from "../daemon/metrics.ts";
import type { RbeeError } from "../protocol/errors.ts";
import type { InferenceStats, WorkerMemory } from "../protocol/worker_schemas.ts";

/** What is read at the time of asking. */
export interface MetricsState {
  slots(): { total: number; busy: number };
  times(): { step: number; sampling: number; handover: number };
  memory(): WorkerMemory;
}

/** Counts what the worker did. */
export class WorkerMetrics {
  readonly #requests = new Map<string, number>();
  #promptTokens = 0;
  #cachedTokens = 0;
  #generatedTokens = 0;
  #draftTokens = 0;
  #draftAcceptedTokens = 0;

  /** An answer came to its end. */
  finished(stats: InferenceStats): void {
    this.#count(stats.stop_reason);
    this.#promptTokens += stats.prompt_tokens;
    this.#cachedTokens += stats.cached_tokens;
    this.#generatedTokens += stats.total_tokens - stats.resumed_tokens;
    this.#draftTokens += stats.draft_tokens;
    this.#draftAcceptedTokens += stats.draft_accepted_tokens;
  }

  /** An answer failed. */
  failed(error: RbeeError): void {
    this.#count(error.code);
  }

  /** `GET /metrics`. */
  async response(state: MetricsState): Promise<Response> {
    const { Counter, Gauge, Registry } = await import("prom-client");
    const registry = new Registry();
    const registers = [registry];
    const counter = (name: string, help: string, value: number) =>
      new Counter({ name, help, registers }).inc(value);
    const requests = new Counter({
      name: "rbee_worker_requests_total",
      help: "Answers by how they ended: a stop reason or an error code.",
      labelNames: ["outcome"],
      registers,
    });
    for (const [outcome, count] of this.#requests) requests.inc({ outcome }, count);
    counter("rbee_worker_prompt_tokens_total", "Prompt tokens of all answers.", this.#promptTokens);
    counter(
      "rbee_worker_cached_tokens_total",
      "Prompt tokens that were still in the KV cache.",
      this.#cachedTokens,
    );
    counter("rbee_worker_generated_tokens_total", "Tokens generated.", this.#generatedTokens);
    counter("rbee_worker_draft_tokens_total", "Tokens guessed.", this.#draftTokens);
    counter("rbee_worker_draft_accepted_tokens_total", "Guesses that were right.", this.#draftAcceptedTokens);
    const times = new Counter({
      name: "rbee_worker_engine_seconds_total",
      help: "Time of the engine thread by what it did: computing steps, sampling, handing over text.",
      labelNames: ["doing"],
      registers,
    });
    for (const [doing, seconds] of Object.entries(state.times())) times.inc({ doing }, seconds);
    const slots = state.slots();
    new Gauge({ name: "rbee_worker_slots", help: "Answers that can be generated at once.", registers }).set(
      slots.total,
    );
    new Gauge({ name: "rbee_worker_slots_busy", help: "Answers being generated.", registers }).set(
      slots.busy,
    );
    const memory = new Gauge({
      name: "rbee_worker_memory_bytes",
      help: "Memory by what it holds; process is the whole.",
      labelNames: ["kind"],
      registers,
    });
    for (const [kind, mb] of Object.entries(state.memory())) {
      memory.set({ kind: kind.replace("_mb", "") }, mb * 1e6);
    }
    return await metricsResponse(registry);
  }

  #count(outcome: string): void {
    this.#requests.set(outcome, (this.#requests.get(outcome) ?? 0) + 1);
  }
}
