/** Prompts as the older routes take them: text, ids, both after one another, and lists of these. */
import { RbeeError } from "../../protocol/errors.ts";
import type { Prompts } from "../../protocol/openai_schemas.ts";
import type { Engine } from "../engine.ts";

/** One prompt: text, or ids with text between them. */
export type Prompt = string | readonly (string | number)[];

/**
 * The prompts of a request. A list that holds an id is one prompt; one of nothing but texts is as many.
 *
 * @throws {RbeeError} `INVALID_REQUEST` for an empty list.
 */
export function promptsOf(given: Prompts): Prompt[] {
  if (typeof given === "string") return [given];
  if (given.length === 0) throw new RbeeError("INVALID_REQUEST", "The list of prompts is empty.");
  return given.some((part) => typeof part === "number") ? [given as (string | number)[]] : given as Prompt[];
}

/**
 * Ids of a prompt; text at its beginning gets what the model puts before a text.
 *
 * @throws {RbeeError} `INVALID_REQUEST` for unknown ids and for more than the context holds.
 */
export async function idsOf(prompt: Prompt, engine: Engine, signal: AbortSignal): Promise<Int32Array> {
  const { vocabulary, context: limit } = engine.facts;
  if (typeof prompt === "string") return await engine.tokenize(prompt, { limit, signal });
  const ids: number[] = [];
  for (const [i, part] of prompt.entries()) {
    if (typeof part === "string") {
      for (const id of await engine.tokenize(part, { addSpecial: i === 0, limit, signal })) ids.push(id);
    } else if (part < vocabulary) {
      ids.push(part);
    } else {
      throw new RbeeError(
        "INVALID_REQUEST",
        `Token id ${part} is not one of the vocabulary's ${vocabulary}.`,
      );
    }
    if (ids.length > limit) {
      throw new RbeeError(
        "INVALID_REQUEST",
        `The prompt has more than ${limit} tokens, which is all that the context holds. Shorten it.`,
      );
    }
  }
  return Int32Array.from(ids);
}

/** A prompt's text. */
export async function echoOf(prompt: Prompt, engine: Engine, signal: AbortSignal): Promise<string> {
  if (typeof prompt === "string") return prompt;
  return await engine.detokenize(await idsOf(prompt, engine, signal), signal);
}

/** One after another, so that a request with many texts has at most one of them prepared at a time. */
export async function inOrder<Item, Result>(
  items: readonly Item[],
  prepare: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  for (const item of items) results.push(await prepare(item));
  return results;
}
