/** All phases of one answer (SPEC §8): from a wish to the last token, whatever that takes in between. */
import type { LoadedConfig } from "../../home/config.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { DoneEvent, InferenceInput, ModelFacts, TokenEvent } from "../../protocol/worker_schemas.ts";
import type { PhaseContext } from "../context.ts";
import type { ResolvedNode } from "../node.ts";
import type { Registry, WorkerWish } from "../registry.ts";
import type { Stopwatch } from "../stopwatch.ts";
import { fetchModel } from "./fetch_model.ts";
import { findWorker, type LiveWorker } from "./find_worker.ts";
import { generate } from "./generate.ts";
import { reachHive } from "./reach_hive.ts";
import { spawnWorker } from "./spawn_worker.ts";
import { WorkerGone } from "./worker_gone.ts";

/** How often a worker that left just before the request is replaced. */
const MAX_WORKERS = 2;

/** One answer's facts, known before the first phase. */
export interface AnswerJob {
  wish: WorkerWish;
  node: ResolvedNode;
  config: LoadedConfig;
  registry: Registry;
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
  for (let attempt = 1;; attempt++) {
    try {
      const worker = await knownWorker(job, context) ?? await newWorker(job, context);
      return await ask(worker, job, context);
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

/** Phases 2 to 7. */
async function newWorker(job: AnswerJob, context: PhaseContext): Promise<LiveWorker> {
  const { wish, registry, config, watch } = job;
  const hive = await reachHive(job.node, config, context);
  watch?.lap("hive");
  await fetchModel(hive.client, { modelRef: wish.request.model_ref, hiveUrl: hive.node.url }, context);
  watch?.lap("model");
  const loadTimeoutMs = config.config.hive.load_timeout * 1000;
  const worker = await spawnWorker(hive, { request: wish.request, registry, loadTimeoutMs }, context);
  watch?.lap("worker");
  return worker;
}

/** Phase 8. */
async function ask(worker: LiveWorker, job: AnswerJob, context: PhaseContext): Promise<DoneEvent> {
  const { registry, watch, retries, onEvent } = job;
  try {
    const done = await generate(worker, job.requestFor(worker.model), {
      ...{ ...context, retries },
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
