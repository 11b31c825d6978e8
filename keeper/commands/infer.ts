/** `infer`: a prompt in, an answer out (SPEC §8). */
import type { LoadedConfig } from "../../home/config.ts";
import { newCorrelationId } from "../../protocol/correlation.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { DoneEvent, TokenEvent } from "../../protocol/worker_schemas.ts";
import type { LoadedCommand } from "../cli.ts";
import type { CommandContext } from "../context.ts";
import { LOCALHOST, resolveNode } from "../node.ts";
import type { Output } from "../output.ts";
import { answer, type AnswerJob } from "../phases/answer.ts";
import { openRegistry } from "../registry.ts";
import { Stopwatch } from "../stopwatch.ts";
import type { InferFlags } from "../table/infer.ts";
import { checkInferFlags, readInferInput, requestFor, spawnRequest } from "./infer_input.ts";
import { withConfig } from "../with_config.ts";

/** The command. */
export const INFER: LoadedCommand<InferFlags> = { check: checkInferFlags, run: runInfer };

async function runInfer(context: CommandContext, flags: InferFlags): Promise<number> {
  const watch = new Stopwatch();
  watch.lap("process start");
  return await withConfig(async (config, place) => {
    const queen = await queenFor(flags, config);
    // Names of machines are the queen's where there is one.
    const node = await resolveNode(queen === undefined ? flags.node : LOCALHOST, config);
    place.node = queen === undefined ? node : queen.place;
    const input = await readInferInput(flags);
    using registry = await openRegistry(config.home);
    watch.lap("config and registry");
    const { output } = context;
    const signal = withTimeout(context.signal, flags.timeout);
    const job: AnswerJob = {
      wish: { node: node.name, request: spawnRequest(flags, config.config.keeper.model) },
      ...{ node, queen: queen?.address, config, registry, watch, retries: flags.retry },
      requestFor: (model) => requestFor(input, { flags, model, output }),
      onEvent: (event) => show(event, output),
    };
    try {
      const done = await answer(job, { ...context, signal, correlationId: newCorrelationId() });
      if (flags.timings) output.insist(`Timings: ${watch}, ${done.tokens_per_second.toFixed(1)} tokens/s`);
    } finally {
      if (!output.json) await output.endText();
    }
    return 0;
  });
}

/** Loaded when there is one: a keeper that goes without need not wait for it. */
async function queenFor(flags: InferFlags, config: LoadedConfig) {
  if (flags.queen === undefined && config.config.keeper.queen === undefined) return undefined;
  const { placeOfQueen, queenOf } = await import("../queen.ts");
  const address = await queenOf(flags, config);
  return address && { address, place: placeOfQueen(address) };
}

async function show(event: TokenEvent | DoneEvent, output: Output): Promise<void> {
  if (output.json) await output.document(event);
  else if ("token" in event) await output.answer(event.token);
}

function withTimeout(signal: AbortSignal, seconds: number | undefined): AbortSignal {
  if (seconds === undefined) return signal;
  const timeout = new AbortController();
  const reason = new RbeeError("REQUEST_TIMEOUT", `Not done within --timeout ${seconds} s`);
  // Must not keep a finished command waiting.
  Deno.unrefTimer(setTimeout(() => timeout.abort(reason), seconds * 1000));
  return AbortSignal.any([signal, timeout.signal]);
}
