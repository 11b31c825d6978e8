import { assertEquals, assertThrows } from "@std/assert";
import * as fc from "fast-check";
import { RbeeError } from "../protocol/errors.ts";
import { type JsonBounds, JsonCounter } from "./json_bounds.ts";

const encoder = new TextEncoder();
/** Bounds of a test, and how many bytes a piece of the text has. */
type Check = Partial<JsonBounds> & { pieceBytes?: number };

function check(text: string, { pieceBytes = Infinity, ...bounds }: Check = {}): void {
  const counter = new JsonCounter({ maxValues: 100, ...bounds });
  const bytes = encoder.encode(text);
  for (let at = 0; at < bytes.length; at += pieceBytes) counter.push(bytes.subarray(at, at + pieceBytes));
}

function violated(text: string, bounds: Check = {}): string {
  const error = assertThrows(() => check(text, bounds), RbeeError);
  return (error.details.errors as { constraint: string }[])[0].constraint;
}

/** What the check bounds, counted in the values themselves. */
function measures(value: unknown): { values: number; depth: number; members: number } {
  if (typeof value !== "object" || value === null) return { values: 1, depth: 0, members: 0 };
  const inner = Object.values(value).map(measures);
  return {
    values: 1 + inner.reduce((sum, { values }) => sum + values, 0),
    depth: 1 + Math.max(0, ...inner.map(({ depth }) => depth)),
    members: Math.max(Array.isArray(value) ? 0 : inner.length, ...inner.map(({ members }) => members)),
  };
}

Deno.test("any JSON passes exactly when it is within the bounds, whatever its texts hold and however it is cut", () => {
  const text = fc.oneof(fc.string(), fc.constantFrom('"', '\\"', "\\\\", '[[{",:', "\\", "]}"));
  const json = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: "medium" },
      text,
      fc.integer(),
      fc.constant(null),
      tie("list"),
      tie("object"),
    ),
    list: fc.array(tie("value"), { maxLength: 5 }),
    object: fc.dictionary(text, tie("value"), { maxKeys: 5 }),
  })).value;
  const cut = fc.option(fc.integer({ min: 1, max: 20 }), { nil: undefined });
  fc.assert(fc.property(json, fc.boolean(), cut, (value, spaced, pieceBytes) => {
    const source = JSON.stringify(value, null, spaced ? 1 : 0);
    const { values, depth, members } = measures(value);
    // Empty lists and objects count one more than they hold.
    const most = { maxDepth: Math.max(1, depth), maxMembers: Math.max(1, members) };
    check(source, { pieceBytes, maxValues: 2 * values, ...most });
    const all = { pieceBytes, maxValues: 1e6 };
    if (depth > 1) assertEquals(violated(source, { ...all, maxDepth: depth - 1 }), "depth");
    if (members > 1) assertEquals(violated(source, { ...all, maxMembers: members - 1 }), "members");
    if (values > 2) {
      assertEquals(violated(source, { ...all, maxValues: Math.ceil(values / 2) - 1 }), "values");
    }
  }));
});

Deno.test("five million empty lists, a million brackets and an object of 10,000 members are refused", () => {
  const limits = { maxValues: 1_000_000 };
  assertEquals(violated(`{"prompt":[${"[],".repeat(5_000_000)}[]]}`, limits), "values");
  assertEquals(violated(`{"prompt":${"[".repeat(1_000_000)}`, limits), "depth");
  assertEquals(violated('{"a":'.repeat(1_000_000), limits), "depth");
  assertEquals(
    violated(`{${Array.from({ length: 10_000 }, (_, i) => `"k${i}":1`).join()}}`, limits),
    "members",
  );
});

Deno.test("a text that is full of brackets is one value, and one that does not end does no harm", () => {
  check(`{"prompt":"${"[{,:".repeat(1_000_000)}"}`);
  check(`{"prompt":"${"[{,:".repeat(1_000_000)}`);
  check(`"${'\\"['.repeat(1_000_000)}"`);
  check("]".repeat(1_000_000));
});
