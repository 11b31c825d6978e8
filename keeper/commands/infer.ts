/** `infer`: a prompt in, an answer out, and whatever that takes in between (SPEC §8). */
import { loadConfig, type LoadedConfig } from "../../home/config.ts";
import { newCorrelationId } from "../../protocol/correlation.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { DoneEvent, TokenEvent } from "../../protocol/worker_schemas.ts";
import type { LoadedCommand } from "../cli.ts";
import type { InferFlags } from "../table/infer.ts";
import type { CommandContext, PhaseContext } from "../context.ts";
import type { Place } from "../explain.ts";
import { withPlace } from "../failure.ts";
import { hiveLogPath } from "../../home/paths.ts";
import { type ResolvedNode, resolveNode } from "../node.ts";
import type { Output } from "../output.ts";
import { fetchModel } from "../phases/fetch_model.ts";
import { findWorker, type LiveWorker } from "../phases/find_worker.ts";
import { generate } from "../phases/generate.ts";
import { reachHive } from "../phases/reach_hive.ts";
import { spawnWorker } from "../phases/spawn_worker.ts";
import { WorkerGone } from "../phases/worker_gone.ts";
import { openRegistry, type Registry, type WorkerWish } from "../registry.ts";
import { Stopwatch } from "../stopwatch.ts";
import { checkInferFlags, type InferInput, readInferInput, requestFor, spawnRequest } from "./infer_input.ts";

/** How often a worker that left just before the request is replaced. */
const MAX_WORKERS = 2;

/** The command. */
export const INFER: LoadedCommand<InferFlags> = { check: checkInferFlags, run: runInfer };

/** One command's facts, known before the first phase. */
interface Job {
  flags: InferFlags;
  input: InferInput;
  wish: WorkerWish;
  node: ResolvedNode;
  config: LoadedConfig;
  registry: Registry;
  watch: Stopwatch;
}

async function runInfer(context: CommandContext, flags: InferFlags): Promise<number> {
  const watch = new Stopwatch();
  watch.lap("process start");
  const place: Place = {};
  return await withPlace(place, async () => {
    const config = await loadConfig();
    Object.assign(place, { configPath: config.path, hiveLog: hiveLogPath(config.home) });
    const node = await resolveNode(flags.node, config);
    place.node = node;
    const input = await readInferInput(flags);
    using registry = await openRegistry(config.home);
    watch.lap("config and registry");
    const wish = { node: node.name, request: spawnRequest(flags, config.config.keeper.model) };
    const signal = withTimeout(context.signal, flags.timeout);
    const phases = { ...context, signal, correlationId: newCorrelationId() };
    const done = await answer({ flags, input, wish, node, config, registry, watch }, phases);
    if (flags.timings) {
      context.output.insist(`Timings: ${watch}, ${done.tokens_per_second.toFixed(1)} tokens/s`);
    }
    return 0;
  });
}

/** The eight phases. A worker that left between the look at it and the request is replaced without a fuss. */
async function answer(job: Job, context: PhaseContext): Promise<DoneEvent> {
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
async function knownWorker(job: Job, context: PhaseContext): Promise<LiveWorker | undefined> {
  const worker = await findWorker(job.registry, job.wish, context);
  job.watch.lap("probe");
  return worker;
}

/** Phases 2 to 7. */
async function newWorker(job: Job, context: PhaseContext): Promise<LiveWorker> {
  const { wish, registry, config, watch } = job;
  const hive = await reachHive(job.node, config, context);
  watch.lap("hive");
  await fetchModel(hive.client, { modelRef: wish.request.model_ref, hiveUrl: hive.node.url }, context);
  watch.lap("model");
  const loadTimeoutMs = config.config.hive.load_timeout * 1000;
  const worker = await spawnWorker(hive, { request: wish.request, registry, loadTimeoutMs }, context);
  watch.lap("worker");
  return worker;
}

/** Phase 8. */
async function ask(worker: LiveWorker, job: Job, context: PhaseContext): Promise<DoneEvent> {
  const { flags, input, registry, watch } = job;
  const { output } = context;
  const request = requestFor(input, { flags, model: worker.model, output });
  try {
    const done = await generate(worker, request, {
      ...context,
      retries: flags.retry,
      onEvent: async (event) => {
        if ("token" in event && event.index === 0) watch.lap("request to first token");
        await show(event, output);
      },
    });
    watch.lap("rest of the answer");
    registry.seen(worker, "idle");
    return done;
  } catch (error) {
    const crashed = error instanceof RbeeError && error.code === "WORKER_CRASHED";
    if (crashed || error instanceof WorkerGone) registry.forget(worker);
    throw error;
  } finally {
    if (!output.json) await output.endText();
  }
}

async function show(event: TokenEvent | DoneEvent, output: Output): Promise<void> {
  if (output.json) await output.document(event);
  else if ("token" in event) await output.text(event.token);
}

function withTimeout(signal: AbortSignal, seconds: number | undefined): AbortSignal {
  if (seconds === undefined) return signal;
  const timeout = new AbortController();
  const reason = new RbeeError("REQUEST_TIMEOUT", `Not done within --timeout ${seconds} s`);
  // Must not keep a finished command waiting.
  Deno.unrefTimer(setTimeout(() => timeout.abort(reason), seconds * 1000));
  return AbortSignal.any([signal, timeout.signal]);
}
