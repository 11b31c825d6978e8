import { assert, assertEquals, assertMatch } from "@std/assert";
import { CORRELATION_HEADER, correlationIdOf, newCorrelationId } from "./correlation.ts";

const VALID = /^[a-zA-Z0-9-]{1,64}$/;

Deno.test("a well-formed id is taken as it is", () => {
  for (const id of ["a", "A-9", "-", "x".repeat(64), crypto.randomUUID()]) {
    assertEquals(correlationIdOf(new Headers({ [CORRELATION_HEADER]: id })), id);
  }
});

Deno.test("any other is replaced by a fresh one, never repaired", () => {
  for (const id of ["", "x".repeat(65), "a b", "a_b", "a,b", "a/b", "é", "a\tb", "a%0ab", "<script>"]) {
    const replaced = correlationIdOf(new Headers({ [CORRELATION_HEADER]: id }));
    assertMatch(replaced, VALID);
    assert(replaced !== id && !replaced.includes("x".repeat(60)));
  }
  const twice = new Headers([[CORRELATION_HEADER, "a"], [CORRELATION_HEADER, "b"]]);
  assertMatch(correlationIdOf(twice), VALID);
  assertMatch(correlationIdOf(new Headers()), VALID);
});

Deno.test("a fresh id is valid and never the same", () => {
  assertMatch(newCorrelationId(), VALID);
  assert(newCorrelationId() !== newCorrelationId());
});
