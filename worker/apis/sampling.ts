/** From how other interfaces ask for an answer to how the engine is asked. */
import type * as z from "zod";
import { checkedBody } from "../../daemon/body.ts";
import { MAX_BIASED_TOKENS } from "../../protocol/limits.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { LogitBias, OpenAiSampling } from "../../protocol/openai_schemas.ts";
import { GenerationOptions, MAX_SEED } from "../../protocol/worker_requests.ts";
import type { Engine } from "../engine.ts";

/** A bias that no token survives. */
const NEVER = -1000;

/**
 * The options of one request; what it does not say is as in `/v1/inference`.
 *
 * @throws {RbeeError} `INVALID_REQUEST`, also for what only that route bounds.
 */
export async function generationOptionsOf(
  request: OpenAiSampling,
  engine: Engine,
  signal: AbortSignal,
): Promise<GenerationOptions> {
  const { json_schema, grammar, logit_bias } = request;
  if (json_schema && grammar) throw new RbeeError("INVALID_REQUEST", "Give either grammar or json_schema.");
  const options: z.input<typeof GenerationOptions> = {
    temperature: request.temperature ?? undefined,
    top_p: request.top_p ?? undefined,
    top_k: request.top_k === undefined || request.top_k === null ? undefined : Math.max(0, request.top_k),
    min_p: request.min_p ?? undefined,
    presence_penalty: request.presence_penalty ?? undefined,
    frequency_penalty: request.frequency_penalty ?? undefined,
    repetition_penalty: request.repeat_penalty ?? undefined,
    seed: seedOf(request.seed),
    stop: [request.stop ?? []].flat().filter((text) => text !== ""),
    json_schema: json_schema ?? undefined,
    grammar: grammar || undefined,
    logit_bias: logit_bias ? await biases(logit_bias, engine, signal) : undefined,
  };
  return checkedBody(options, GenerationOptions);
}

/** Clients number seeds as they like; every other than a negative one names one here. */
export function seedOf(seed: number | null | undefined): number | undefined {
  return seed === undefined || seed === null || seed < 0 ? undefined : seed % (MAX_SEED + 1);
}

/** The same request once more: another choice has to be another answer. */
export function nthChoice(options: GenerationOptions, choice: number): GenerationOptions {
  return options.seed === undefined ? options : { ...options, seed: seedOf(options.seed + choice) };
}

/** Most tokens of an answer: what was asked for, or what the context has. Less would be a surprise to these clients. */
export function maxTokensOf(asked: number | null | undefined, engine: Engine): number {
  const { context } = engine.facts;
  if (asked === undefined || asked === null || asked === -1) return context;
  if (asked >= 1) return Math.min(asked, context);
  throw new RbeeError("INVALID_REQUEST", `At least one token must be asked for, not ${asked}.`);
}

async function biases(
  asked: z.infer<typeof LogitBias>,
  engine: Engine,
  signal: AbortSignal,
): Promise<GenerationOptions["logit_bias"]> {
  const pairs = Array.isArray(asked) ? asked : Object.entries(asked);
  const biases: { token: number; bias: number }[] = [];
  for (const [what, amount] of pairs) {
    const bias = amount === false ? NEVER : Math.max(NEVER, Math.min(-NEVER, amount));
    for (const token of await tokensNamed(what, engine, signal)) biases.push({ token, bias });
    if (biases.length <= MAX_BIASED_TOKENS) continue;
    throw new RbeeError("INVALID_REQUEST", `logit_bias names more than ${MAX_BIASED_TOKENS} tokens.`);
  }
  return biases;
}

async function tokensNamed(
  what: string | number,
  engine: Engine,
  signal: AbortSignal,
): Promise<Iterable<number>> {
  if (typeof what === "string" && !/^\d+$/.test(what)) {
    const limit = engine.facts.context;
    return await engine.tokenize(what, { addSpecial: false, parseSpecial: false, limit, signal });
  }
  const token = Number(what);
  const { vocabulary } = engine.facts;
  if (token < vocabulary) return [token];
  throw new RbeeError("INVALID_REQUEST", `logit_bias names token ${what}; the vocabulary has ${vocabulary}.`);
}
