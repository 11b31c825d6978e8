import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { InferenceRequest } from "../../protocol/worker_requests.ts";
import { drawPlan, type ModelShape, storyText } from "./requests.ts";

const MODEL: ModelShape = { context: 512, chatTemplate: true, charactersPerToken: 4 };
const NUMBERS = [...Array(2000).keys()];

Deno.test("the same seed gives the same requests, another seed others", () => {
  const draw = (seed: number) => NUMBERS.slice(0, 50).map((number) => drawPlan(MODEL, { seed, number }));
  assertEquals(draw(1), draw(1));
  assertNotEquals(draw(1), draw(2));
});

Deno.test("every request that is to be answered fits the schema", () => {
  for (const number of NUMBERS) {
    const { expect, body } = drawPlan(MODEL, { seed: 1, number });
    if (expect.startsWith("answer")) InferenceRequest.parse(body);
  }
});

Deno.test("every way to go back on a request occurs, before the first token as well", () => {
  const cancels = NUMBERS.flatMap((number) => drawPlan(MODEL, { seed: 1, number }).cancel ?? []);
  assertEquals([...new Set(cancels.map(({ how }) => how))].sort(), [
    "abort",
    "delete",
    "delete twice",
    "unknown",
  ]);
  assert(cancels.some(({ after }) => "tokens" in after && after.tokens === 0));
});

Deno.test("a model without a chat template is asked no conversations", () => {
  for (const number of NUMBERS) {
    const { body, expect } = drawPlan({ ...MODEL, chatTemplate: false }, { seed: 1, number });
    if (expect === "answer" && typeof body !== "string") assertEquals(body.messages, undefined);
  }
});

Deno.test("story text is cut between characters", () => {
  for (let tokens = 1; tokens < 100; tokens++) {
    assert(storyText(tokens, { charactersPerToken: 1 }).isWellFormed());
  }
});
