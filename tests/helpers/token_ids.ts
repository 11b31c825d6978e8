/** Answers as token ids, to compare our engine with llama-server, live or as recorded. */
import { CONTEXT, type IdCase } from "../../bench/id_cases.ts";
import { InferenceRequest } from "../../protocol/worker_requests.ts";
import type { StopReason, TokenEvent } from "../../protocol/worker_schemas.ts";
import type { Engine } from "../../worker/engine.ts";
import { answer, loadEngine } from "./engine.ts";

/** What is compared of an answer: every generated token, but for one that ends it, and why it ended. */
export interface IdAnswer {
  ids: number[];
  stop_reason: StopReason;
}

/** What `deno task bench:ids --record` writes. */
export interface IdFixture {
  /** Of every model, what {@linkcode kernelProbe} gave where the answers were recorded. */
  probes: Record<string, number[]>;
  cases: (IdAnswer & { name: string })[];
}

/** Largest difference of log probabilities that other kernels may turn round. */
const NEAR_TIE = 0.05;

/** An engine that computes as the llama-server it is compared with does. */
export function loadIdEngine(model: string): Promise<Engine> {
  return loadEngine(model, { slots: 1, ctxSize: CONTEXT });
}

/** Our engine's answer. */
export async function answerIds(engine: Engine, { request }: IdCase): Promise<IdAnswer> {
  const { tokens, stats } = await answer(engine, request);
  return { ids: tokens.map((token) => token.id), stop_reason: stats.stop_reason };
}

/** Where two answers part, in words; undefined when they are equal. */
export function idDifference(ours: IdAnswer, theirs: IdAnswer): string | undefined {
  const at = theirs.ids.findIndex((id, i) => id !== ours.ids[i]);
  if (at >= 0) return `token ${at} is ${ours.ids[at] ?? "missing"}, not ${theirs.ids[at]}`;
  const extra = ours.ids.length - theirs.ids.length;
  if (extra > 0) return `${extra} tokens more than ${theirs.ids.length}`;
  if (ours.stop_reason !== theirs.stop_reason) {
    return `ends by ${ours.stop_reason}, not ${theirs.stop_reason}`;
  }
  return undefined;
}

/**
 * Log probabilities to the last bit. Kernels for other instruction sets add in another order, so that they are equal
 * only where the same kernels compute, and only there need every drawn token be the same.
 */
export async function kernelProbe(engine: Engine): Promise<number[]> {
  const prompt = "Once upon a time there was a little girl. She";
  const { tokens } = await answer(engine, { prompt, max_tokens: 16, temperature: 0, seed: 1, logprobs: 0 });
  return tokens.map((token) => token.logprob!);
}

/** Whether a case can be held with other kernels: its tokens are the likeliest, and the log probabilities say by how much. */
export function isPlainGreedy({ request }: IdCase): boolean {
  const asked = InferenceRequest.parse(request);
  return asked.temperature === 0 && asked.repetition_penalty === 1;
}

/** {@linkcode idDifference} of a plain greedy case, where answers may part at a near-tie and then go their own ways. */
export async function greedyDifference(
  engine: Engine,
  { request }: IdCase,
  theirs: IdAnswer,
): Promise<string | undefined> {
  const { tokens, stats } = await answer(engine, { ...request, logprobs: 20 });
  const at = theirs.ids.findIndex((id, i) => id !== tokens[i]?.id);
  if (at >= 0 && at < tokens.length && isNearTie(tokens[at], theirs.ids[at])) return undefined;
  return idDifference({ ids: tokens.map((token) => token.id), stop_reason: stats.stop_reason }, theirs);
}

function isNearTie(ours: TokenEvent, id: number): boolean {
  const other = ours.top_logprobs!.find((alternative) => alternative.id === id);
  return other !== undefined && Math.abs(other.logprob - ours.logprob!) <= NEAR_TIE;
}
