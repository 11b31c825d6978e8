/** The worker's metrics; `docs/metrics.md` lists them. */
import { Histogram, metricsResponse, Tally } from "../daemon/metrics.ts";
import type { ErrorCode, RbeeError } from "../protocol/errors.ts";
import {
  type EngineHeartbeat,
  type InferenceStats,
  StopReason,
  type WorkerMemory,
} from "../protocol/worker_schemas.ts";

/** What is read at the time of asking. */
export interface MetricsState {
  slots(): { total: number; busy: number };
  times(): { step: number; sampling: number; handover: number };
  memory(): WorkerMemory;
  heartbeat(): EngineHeartbeat | undefined;
}

const FIRST_TOKEN_BOUNDS_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
const TOKEN_GAP_BOUNDS_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 60];
const CANCEL_BOUNDS_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];
const MS_PER_SECOND = 1_000;
const BYTES_PER_MB = 1e6;

/** Counts what the worker did. */
export class WorkerMetrics {
  readonly #requests = new Tally<StopReason | ErrorCode>(StopReason.options);
  readonly #firstToken = new Histogram(FIRST_TOKEN_BOUNDS_SECONDS);
  readonly #tokenGap = new Histogram(TOKEN_GAP_BOUNDS_SECONDS);
  readonly #cancel = new Histogram(CANCEL_BOUNDS_SECONDS);
  #loadSeconds = 0;
  #promptTokens = 0;
  #cachedTokens = 0;
  #generatedTokens = 0;
  #draftTokens = 0;
  #draftAcceptedTokens = 0;

  /** The model came into memory. */
  loaded(ms: number): void {
    this.#loadSeconds = ms / MS_PER_SECOND;
  }

  /** So many tokens came together, that long after those before them; the first of an answer don't count. */
  tokens(count: number, afterMs: number): void {
    this.#tokenGap.observe(afterMs / MS_PER_SECOND / count, count);
  }

  /** A canceled answer let go of its slot that long after it was told to. */
  canceled(afterMs: number): void {
    this.#cancel.observe(afterMs / MS_PER_SECOND);
  }

  /** An answer came to its end. */
  finished(stats: InferenceStats): void {
    this.#requests.add(stats.stop_reason);
    this.#promptTokens += stats.prompt_tokens;
    this.#cachedTokens += stats.cached_tokens;
    this.#generatedTokens += stats.total_tokens - stats.resumed_tokens;
    this.#draftTokens += stats.draft_tokens;
    this.#draftAcceptedTokens += stats.draft_accepted_tokens;
    if (stats.total_tokens > stats.resumed_tokens) {
      this.#firstToken.observe(stats.time_to_first_token_ms / MS_PER_SECOND);
    }
  }

  /** An answer failed. */
  failed(error: RbeeError): void {
    this.#requests.add(error.code);
  }

  /** `GET /metrics`. */
  response(state: MetricsState): Promise<Response> {
    const { total, busy } = state.slots();
    const beat = state.heartbeat();
    return metricsResponse([
      {
        name: "rbee_worker_requests_total",
        type: "counter",
        help: "Answers by how they ended: a stop reason or an error code.",
        label: "outcome",
        values: this.#requests,
      },
      {
        name: "rbee_worker_prompt_tokens_total",
        type: "counter",
        help: "Prompt tokens of all answers.",
        value: this.#promptTokens,
      },
      {
        name: "rbee_worker_cached_tokens_total",
        type: "counter",
        help: "Prompt tokens that were still in the KV cache.",
        value: this.#cachedTokens,
      },
      {
        name: "rbee_worker_generated_tokens_total",
        type: "counter",
        help: "Tokens generated.",
        value: this.#generatedTokens,
      },
      {
        name: "rbee_worker_draft_tokens_total",
        type: "counter",
        help: "Tokens guessed.",
        value: this.#draftTokens,
      },
      {
        name: "rbee_worker_draft_accepted_tokens_total",
        type: "counter",
        help: "Guesses that were right.",
        value: this.#draftAcceptedTokens,
      },
      {
        name: "rbee_worker_first_token_seconds",
        type: "histogram",
        help: "Time from the request to its first token.",
        value: this.#firstToken,
      },
      {
        name: "rbee_worker_token_gap_seconds",
        type: "histogram",
        help: "Time per token between two tokens of an answer as they are handed on.",
        value: this.#tokenGap,
      },
      {
        name: "rbee_worker_cancel_to_idle_seconds",
        type: "histogram",
        help: "Time from a cancel to its slot being free.",
        value: this.#cancel,
      },
      {
        name: "rbee_worker_load_seconds",
        type: "gauge",
        help: "Time that the load of the model took; 0 until it is loaded.",
        value: this.#loadSeconds,
      },
      {
        name: "rbee_worker_engine_seconds_total",
        type: "counter",
        help: "Time of the engine thread by what it did: computing steps, sampling, handing over text.",
        label: "doing",
        values: Object.entries(state.times()),
      },
      {
        name: "rbee_worker_engine_step_age_seconds",
        type: "gauge",
        help: "Age of the engine's step under way; 0 while it waits for work.",
        value: (beat?.step_ms ?? 0) / MS_PER_SECOND,
      },
      {
        name: "rbee_worker_engine_last_step_age_seconds",
        type: "gauge",
        help: "Time since the engine's last step ended; 0 before the first.",
        value: (beat?.last_step_ms ?? 0) / MS_PER_SECOND,
      },
      {
        name: "rbee_worker_slots",
        type: "gauge",
        help: "Answers that can be generated at once.",
        value: total,
      },
      { name: "rbee_worker_slots_busy", type: "gauge", help: "Answers being generated.", value: busy },
      {
        name: "rbee_worker_memory_bytes",
        type: "gauge",
        help: "Memory by what it holds; process is the whole.",
        label: "kind",
        values: Object.entries(state.memory()).map((
          [kind, mb],
        ) => [kind.replace("_mb", ""), mb * BYTES_PER_MB]),
      },
    ]);
  }
}
