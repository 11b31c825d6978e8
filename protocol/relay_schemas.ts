/**
 * `POST /v1/relay` of a worker: one of its other routes, told so that whoever relays the answer can go on with it at
 * another worker when this one is lost. The answer is an event stream whatever the route would answer. Comment lines
 * that begin with {@linkcode MARK_PREFIX} stand between the events: what came before a mark may be passed on, what comes
 * after the last one is lost with the worker and will be told again by the next.
 */
import * as z from "zod";
import { MAX_ANSWERS } from "./limits.ts";
import { FOREIGN_ROUTES, WORKER_ROUTES } from "./routes.ts";
import { MAX_SEED, RequestId } from "./worker_requests.ts";
import { InferenceStats, TokenLogprob } from "./worker_schemas.ts";

/** Routes that can be relayed. */
export const RELAYED_PATHS = [
  WORKER_ROUTES.inference.path,
  FOREIGN_ROUTES.chatCompletions.path,
  FOREIGN_ROUTES.completions.path,
  FOREIGN_ROUTES.responses.path,
  FOREIGN_ROUTES.messages.path,
] as const;
/** One of them. */
export type RelayedPath = (typeof RELAYED_PATHS)[number];

/** What a mark begins with. */
export const MARK_PREFIX = ":rbee ";

const TokenId = z.int().min(0).max(0x7fff_ffff);
const MAX_TOKENS = 16 * 1024 * 1024;

/** Log probability and rivals of a generated token whose text is not certain yet, where they were asked for. */
const HeldLogprob = z.strictObject({ logprob: z.number().optional(), top: z.array(TokenLogprob).optional() });

/** What another worker has told of one answer. */
export const BegunAnswer = z.strictObject({
  seed: z.int().min(0).max(MAX_SEED),
  /** All of its tokens, in order, held ones at the end. */
  generated: z.array(TokenId).max(MAX_TOKENS),
  /** Of these, the last, which were not told: their text was not certain yet. */
  held: z.array(HeldLogprob).max(MAX_TOKENS),
  /** Random numbers drawn from the seed. */
  draws: z.int().min(0),
  /** It has ended there, and that was told: of several, others have not. */
  stats: InferenceStats.optional(),
});
/** See {@linkcode BegunAnswer}. */
export type BegunAnswer = z.infer<typeof BegunAnswer>;

/**
 * The scope of a request's caches: what was computed for requests of another one is not reused for it, and hashes of
 * prompts are those of its scope, else a guess would tell what others have asked. Absent: a scope that all such requests
 * share. A header, because a worker from before there were scopes refuses fields that it does not know.
 */
export const CACHE_SCOPE_HEADER = "X-Cache-Scope";
/** What stands in {@linkcode CACHE_SCOPE_HEADER}. */
export const CacheScope = z.string().regex(/^[0-9a-f]{16}$/, "must be 16 hexadecimal digits");

/**
 * What the request begins with and everybody may know, as {@linkcode formatCommonText} writes it: that much, and nothing
 * behind it, is reused from any scope.
 */
export const COMMON_TEXT_HEADER = "X-Cache-Common";
/** What stands there: how long the text is, and which one, so that nothing else is ever taken for it. */
export const CommonText = z.string().regex(/^\d{1,7}-[0-9a-f]{64}$/, "must be a length and a SHA-256")
  .transform((text) => {
    const [chars, sha256] = text.split("-");
    return { chars: Number(chars), sha256 };
  });
/** See {@linkcode CommonText}. */
export type CommonText = z.infer<typeof CommonText>;

/** As it goes over the wire. */
export function formatCommonText({ chars, sha256 }: CommonText): string {
  return `${chars}-${sha256}`;
}

/** The body. */
export const RelayRequest = z.strictObject({
  path: z.enum(RELAYED_PATHS),
  /** The body of that route. */
  request: z.record(z.string(), z.unknown()),
  /** Part of the ids in the answer, which are the same wherever it is gone on with. */
  id: RequestId,
  /** When the answer was begun first. */
  started_unix: z.int().min(0),
  /** One for each answer that was begun elsewhere, by choice. */
  begun: z.array(BegunAnswer).max(MAX_ANSWERS).optional(),
});
/** A checked request. */
export type RelayRequest = z.infer<typeof RelayRequest>;

const AcceptedMark = z.object({
  accepted: z.object({
    prompt_tokens: z.int(),
    /** By choice. */
    seeds: z.array(z.int()),
    /** Hashes of the prompt's beginnings, see `blocks` of `GET /v1/ready`. */
    blocks: z.array(z.number()),
  }),
});
const ToldMark = z.object({
  /** Which of several answers. */
  choice: z.int(),
  /** Tokens told since its last mark. */
  ids: z.array(TokenId),
  /** Generated beyond them, not told. */
  held: z.array(TokenId),
  logprobs: z.array(HeldLogprob).optional(),
  draws: z.int(),
});
/** The end of one of several was told. */
const EndedMark = z.object({ choice: z.int(), ended: InferenceStats });
/** By choice. */
const OverMark = z.object({ over: z.array(InferenceStats) });
const FailedMark = z.object({ failed: z.string() });

/** The JSON of a mark. The first is `accepted`, the last `over` or `failed`. */
export type Mark = z.infer<
  typeof AcceptedMark | typeof ToldMark | typeof EndedMark | typeof OverMark | typeof FailedMark
>;

/** By a field that no other has; the most frequent first. */
const MARKS: readonly (readonly [field: string, schema: z.ZodType<Mark>])[] = [
  ["ids", ToldMark],
  ["accepted", AcceptedMark],
  ["ended", EndedMark],
  ["over", OverMark],
  ["failed", FailedMark],
];

/**
 * A mark's JSON, checked. One comes with every batch of tokens, so no schema is tried in vain.
 *
 * @throws {SyntaxError} when it is no JSON or no mark; {@linkcode z.ZodError} when a field of it is wrong.
 */
export function parseMark(json: string): Mark {
  const value: unknown = JSON.parse(json);
  if (typeof value === "object" && value !== null) {
    for (const [field, schema] of MARKS) if (field in value) return schema.parse(value);
  }
  throw new SyntaxError("This is no mark.");
}

/** A mark as text. */
export function formatMark(mark: Mark): string {
  return `${MARK_PREFIX}${JSON.stringify(mark)}\n\n`;
}
