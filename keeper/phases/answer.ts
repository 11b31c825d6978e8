/** All phases of one answer (SPEC §8): from a wish to the last token, whatever that takes in between. */
import type { LoadedConfig } from "../../home/config.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { InferenceInput } from "../../protocol/worker_requests.ts";
import type { DoneEvent, ModelFacts, TokenEvent } from "../../protocol/worker_schemas.ts";
import type { PhaseContext } from "../context.ts";
import type { ResolvedNode } from "../node.ts";
import type { QueenAddress } from "../queen.ts";
import type { Registry, WorkerWish } from "../registry.ts";
import type { Stopwatch } from "../stopwatch.ts";
import { findWorker, type LiveWorker } from "./find_worker.ts";
import { WorkerGone } from "./worker_gone.ts";

/** How often a worker that left just before the request is replaced. */
const MAX_WORKERS = 2;

/** One answer's facts, known before the first phase. */
export interface AnswerJob {
  wish: WorkerWish;
  node: ResolvedNode;
  config: LoadedConfig;
  registry: Registry;
  /** Instead of the node itself. */
  queen?: QueenAddress;
  /** EC6: how often a busy worker is asked again. */
  retries: number;
  /** What is asked, once it is known of which model. */
  requestFor: (model: ModelFacts) => InferenceInput;
  /** Told of every token and of the terminal event. */
  onEvent: (event: TokenEvent | DoneEvent) => Promise<void>;
  /** Told of what is done. */
  watch?: Stopwatch;
}

/**
 * Answers. A worker that left between the look at it and the request is replaced without a fuss.
 *
 * @returns the figures of the finished answer.
 * @throws whatever the phases throw.
 */
export async function answer(job: AnswerJob, context: PhaseContext): Promise<DoneEvent> {
  if (job.queen !== undefined) {
    const { askQueen } = await import("./ask_queen.ts");
    return await askQueen(job.queen, job, context);
  }
  // Loads while the probe of phase 1 is on its way.
  const generating = import("./generate.ts");
  for (let attempt = 1;; attempt++) {
    try {
      const worker = await knownWorker(job, context) ?? await newWorker(job, context);
      return await ask(worker, job, { ...context, ...await generating });
    } catch (error) {
      if (!(error instanceof WorkerGone)) throw error;
      if (attempt === MAX_WORKERS) throw error.cause;
    }
  }
}

/** Phase 1. */
async function knownWorker(job: AnswerJob, context: PhaseContext): Promise<LiveWorker | undefined> {
  const worker = await findWorker(job.registry, job.wish, context);
  job.watch?.lap("probe");
  return worker;
}

/** Phases 2 to 7. Loaded when they are needed: a keeper whose worker is there need not wait for them. */
async function newWorker(job: AnswerJob, context: PhaseContext): Promise<LiveWorker> {
  const { startWorker } = await import("./new_worker.ts");
  return await startWorker(job, context);
}

/** Phase 8. */
async function ask(
  worker: LiveWorker,
  job: AnswerJob,
  { generate, ...context }: PhaseContext & Pick<typeof import("./generate.ts"), "generate">,
): Promise<DoneEvent> {
  const { registry, watch, retries, onEvent } = job;
  const limits = { tokenGapMs: job.config.config.keeper.token_timeout * 1000 };
  try {
    const done = await generate(worker, job.requestFor(worker.model), {
      ...{ ...context, retries, limits },
      onEvent: async (event) => {
        if ("token" in event && event.index === 0) watch?.lap("request to first token");
        await onEvent(event);
      },
    });
    watch?.lap("rest of the answer");
    registry.seen(worker, "idle");
    return done;
  } catch (error) {
    const crashed = error instanceof RbeeError && error.code === "WORKER_CRASHED";
    if (crashed || error instanceof WorkerGone) registry.forget(worker);
    throw error;
  }
}
