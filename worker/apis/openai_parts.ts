/** What OpenAI's answers have in common. */
import { VERSION } from "../../protocol/version.ts";
import type { AnswerContext } from "./relay.ts";
import type { InferenceStats, TokenEvent, TokenLogprob } from "../../protocol/worker_schemas.ts";

/** What was running, for clients that compare. */
export const SYSTEM_FINGERPRINT = `build-rbee-${VERSION}`;

/** Seconds since 1970. */
export function nowUnix(): number {
  return Math.floor(Date.now() / 1000);
}

/** What an answer is called, as these clients know ids, and when it began: wherever it is gone on with, the same. */
export function originOf({ relay }: AnswerContext, prefix: string): { id: string; createdUnix: number } {
  const name = (relay?.id ?? crypto.randomUUID()).replaceAll("-", "");
  return { id: `${prefix}${name}`, createdUnix: relay?.startedUnix ?? nowUnix() };
}

/** How an answer ended, in OpenAI's words. */
export function finishReason(stats: InferenceStats, calls: boolean): "stop" | "length" | "tool_calls" {
  if (stats.stop_reason === "length" || stats.stop_reason === "deadline") return "length";
  return calls ? "tool_calls" : "stop";
}

/** Tokens of all answers; the prompt counts once for each that was another. */
export function usageOf(stats: readonly InferenceStats[], prompts = 1) {
  const sum = (each: (one: InferenceStats) => number) => stats.reduce((total, one) => total + each(one), 0);
  const share = prompts / stats.length;
  const prompt = Math.round(sum((one) => one.prompt_tokens) * share);
  const completion = sum((one) => one.total_tokens);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: Math.round(sum((one) => one.cached_tokens) * share) },
  };
}

/** Where the time of answers went, in llama-server's words; they overlap, so the longest counts. */
export function timingsOf(stats: readonly InferenceStats[]) {
  const usage = usageOf(stats);
  const cached = usage.prompt_tokens_details.cached_tokens;
  const read = usage.prompt_tokens - cached;
  const readMs = Math.max(...stats.map((one) => one.time_to_first_token_ms));
  const generatedMs = Math.max(...stats.map((one) => one.duration_ms)) - readMs;
  const perSecond = (count: number, ms: number) => ms > 0 ? count * 1000 / ms : 0;
  return {
    cache_n: cached,
    prompt_n: read,
    prompt_ms: readMs,
    prompt_per_second: perSecond(read, readMs),
    predicted_n: usage.completion_tokens,
    predicted_ms: generatedMs,
    predicted_per_second: perSecond(usage.completion_tokens, generatedMs),
  };
}

/** Log probabilities of a chat answer's tokens. */
export function chatLogprobs(tokens: readonly TokenEvent[]) {
  return {
    content: tokens.map((token) => ({
      ...tokenLogprob({ id: token.id, token: token.token, logprob: token.logprob ?? 0 }),
      top_logprobs: (token.top_logprobs ?? []).map(tokenLogprob),
    })),
    refusal: null,
  };
}

function tokenLogprob({ id, token, logprob }: TokenLogprob) {
  return { id, token, logprob, bytes: [...new TextEncoder().encode(token)] };
}

/** Log probabilities of a completion's tokens, in the older shape; `offset` is where the first one's text begins. */
export function completionLogprobs(tokens: readonly TokenEvent[], offset = 0) {
  let at = offset;
  return {
    tokens: tokens.map(({ token }) => token),
    token_logprobs: tokens.map(({ logprob = 0 }) => logprob),
    top_logprobs: tokens.map(({ top_logprobs = [] }) =>
      Object.fromEntries(top_logprobs.map(({ token, logprob }) => [token, logprob]))
    ),
    text_offset: tokens.map(({ token }) => {
      const start = at;
      at += token.length;
      return start;
    }),
  };
}
