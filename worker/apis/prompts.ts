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

/** Ids of a prompt; text at its beginning gets what the model puts before a text. */
export function idsOf(prompt: Prompt, engine: Engine): number[] {
  if (typeof prompt === "string") return [...engine.tokenize(prompt)];
  const { vocabulary } = engine.facts;
  return prompt.flatMap((part, i) => {
    if (typeof part === "string") return [...engine.tokenize(part, { addSpecial: i === 0 })];
    if (part < vocabulary) return [part];
    throw new RbeeError("INVALID_REQUEST", `Token id ${part} is not one of the vocabulary's ${vocabulary}.`);
  });
}

/** A prompt's text. */
export function echoOf(prompt: Prompt, engine: Engine): string {
  return typeof prompt === "string" ? prompt : engine.detokenize(Int32Array.from(idsOf(prompt, engine)));
}
