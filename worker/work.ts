/** What the engine is given to answer, and how the addon takes it. */
import { DEFAULT_MAX_TOKENS } from "../protocol/limits.ts";
import type { BegunAnswer, CommonText } from "../protocol/relay_schemas.ts";
import type { GenerationOptions, InferenceRequest } from "../protocol/worker_requests.ts";
import type { NativeChat, NativeChatRequest, NativeRequest, NativeSequence } from "./native/addon.ts";

/** What is to be answered: a new prompt, in one of four shapes, or an answer that was begun elsewhere. */
export type Work =
  & GenerationOptions
  & (
    | Pick<InferenceRequest, "prompt" | "messages" | "max_tokens"> & {
      /** Ids of the prompt. */
      tokens?: Int32Array;
      /** A conversation whose template may bind the answer. */
      chat?: NativeChatRequest;
      /** Told where it stands, so that it can be gone on with elsewhere. */
      marked?: boolean;
      /** See `CACHE_SCOPE_HEADER` in `relay_schemas.ts`. */
      cacheScope?: string;
      /** See `COMMON_TEXT_HEADER` there. */
      common?: CommonText;
      /** What was generated of it elsewhere. */
      begun?: BegunAnswer;
    }
    | { resume: NativeSequence }
  );

/** What was settled about work when it was taken. */
export interface Accepted {
  /** Of the prompt. */
  promptTokens: number;
  /** Of a conversation. */
  rendered?: NativeChat;
  seed: number;
  /** Of an answer that was begun elsewhere: the texts of tokens that were told there. */
  sentTexts: readonly string[];
  /** Of a marked answer: hashes of its prompt's beginnings. */
  blocks: Float64Array;
}

const NOTHING = new Uint8Array();

/** As the addon resumes it: with the prompt of the request, and a cache that has to be computed again. */
function sequenceOf({ seed, generated, held, draws }: BegunAnswer): NativeSequence {
  const prompt = new Int32Array();
  return {
    seed,
    maxTokens: 0,
    prompt,
    generated: Int32Array.from(generated),
    held,
    draws,
    kv: NOTHING,
    kvTokens: 0,
  };
}

/** As the addon takes it; `rendered` is what became of the work's conversation, `common` of what it begins with. */
export function toNative(
  work: Work,
  { rendered, common }: { rendered?: NativeChat; common?: string } = {},
): NativeRequest {
  const source = "resume" in work ? { resume: work.resume } : {
    prompt: rendered?.prompt ?? work.prompt,
    promptTokens: work.tokens,
    maxTokens: work.max_tokens,
    resume: work.begun && sequenceOf(work.begun),
  };
  const bound = rendered !== undefined && rendered.constraint.grammar !== "";
  return {
    ...source,
    defaultMaxTokens: DEFAULT_MAX_TOKENS,
    temperature: work.temperature,
    topP: work.top_p,
    topK: work.top_k,
    minP: work.min_p,
    repetitionPenalty: work.repetition_penalty,
    presencePenalty: work.presence_penalty,
    frequencyPenalty: work.frequency_penalty,
    seed: work.seed,
    stops: [...work.stop, ...rendered?.stops ?? []],
    constraint: bound ? JSON.stringify(rendered.constraint) : work.constraint,
    logitBias: work.logit_bias,
    grammar: work.grammar,
    jsonSchema: work.json_schema === undefined ? undefined : JSON.stringify(work.json_schema),
    logprobs: work.logprobs,
    strict: work.strict,
    speculative: work.speculative,
    marked: "marked" in work && work.marked === true,
    cacheScope: "cacheScope" in work ? work.cacheScope : undefined,
    common,
  };
}

/** With what the template of a conversation asks, for who goes on with it: another answer, or another worker. */
export function boundBy<Options extends GenerationOptions>(rendered: NativeChat, options: Options): Options {
  const { stops, constraint } = rendered;
  return {
    ...options,
    stop: [...options.stop, ...stops],
    constraint: constraint.grammar === "" ? undefined : JSON.stringify(constraint),
  };
}
