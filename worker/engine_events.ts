/** What the addon tells of an answer, as its sink takes it. */
import type { TokenEvent } from "../protocol/worker_schemas.ts";
import type { CancelReason, GenerationSink } from "./engine.ts";
import type { NativeEnding, NativeEvent } from "./native/addon.ts";
import { fromNative } from "./native/errors.ts";

/** An answer that is being generated. */
export interface Running {
  sink: GenerationSink;
  index: number;
  /** Tokens that another worker had sent. */
  resumed: number;
  seed: number;
  stops: readonly string[];
  /** Set when it was to end before the addon knew it. */
  canceled?: CancelReason;
  /** What came before the seed was known. */
  early?: NativeEvent[];
}

/** New tokens. Those behind a mark are told apart from those before it. */
export function tellTokens(running: Running, event: NativeEvent): void {
  const tokens = event.ids.map((id, i) => {
    const token: TokenEvent = { token: event.texts[i], index: running.index++, id };
    const logprob = event.logprobs[i];
    if (logprob !== undefined) {
      token.logprob = logprob.logprob;
      token.top_logprobs = logprob.top;
    }
    return token;
  });
  const { mark, marked = 0 } = event;
  if (mark !== undefined) running.sink.tokens(tokens.splice(0, marked), mark);
  if (tokens.length > 0) running.sink.tokens(tokens);
}

/** The ending of what was canceled before the addon knew it. */
export function unbegun(reason: CancelReason): NativeEnding {
  return {
    reason,
    promptTokens: 0,
    cachedTokens: 0,
    generatedTokens: 0,
    draftTokens: 0,
    draftAcceptedTokens: 0,
    durationMs: 0,
    firstTokenMs: 0,
    tokensPerSecond: 0,
  };
}

/** How it ended. */
export function tellEnding(running: Running, ending: NativeEnding): void {
  if (ending.error !== undefined) return running.sink.failed(fromNative(ending.error));
  running.sink.done({
    total_tokens: ending.generatedTokens,
    duration_ms: round(ending.durationMs),
    stop_reason: ending.reason!,
    stop_string: ending.stoppedBy === undefined ? undefined : running.stops[ending.stoppedBy],
    prompt_tokens: ending.promptTokens,
    cached_tokens: ending.cachedTokens,
    time_to_first_token_ms: round(ending.firstTokenMs),
    tokens_per_second: round(ending.tokensPerSecond),
    seed: running.seed,
    resumed_tokens: running.resumed,
    draft_tokens: ending.draftTokens,
    draft_accepted_tokens: ending.draftAcceptedTokens,
  });
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
