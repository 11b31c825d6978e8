import { assert, assertEquals, assertThrows } from "@std/assert";
import * as fc from "fast-check";
import { RbeeError } from "../../protocol/errors.ts";
import { BATCH_PROMOTED_AFTER_MS } from "../limits.ts";
import { FairQueue, type Waiting } from "./fair_queue.ts";

let count = 0;
function item(over: Partial<Waiting> = {}): Waiting {
  return {
    ...{
      id: String(count++),
      key: "a",
      share: 1,
      model: "m",
      priority: "interactive",
      sinceMs: 0,
      tokens: 100,
    },
    ...over,
  };
}

/** Serves everything, each taking what was expected, and tells whose it was. */
function served(queue: FairQueue, rounds: number, nowMs = 0): Waiting[] {
  return Array.from({ length: rounds }, () => queue.next("m", nowMs)!).map((_, i, all) => {
    const next = i === 0 ? all[0] : queue.next("m", nowMs)!;
    queue.serve(next.id);
    queue.ended(next, next.tokens);
    return next;
  });
}

function sum(items: readonly Waiting[], key: string): number {
  return items.filter((one) => one.key === key).reduce((tokens, one) => tokens + one.tokens, 0);
}

Deno.test("keys get tokens by their shares, however many requests they send and however long these are", () => {
  const queue = new FairQueue({ limit: 1_000 });
  for (let i = 0; i < 120; i++) queue.add(item({ key: "short", tokens: 10 }));
  for (let i = 0; i < 120; i++) queue.add(item({ key: "long", tokens: 50 }));
  for (let i = 0; i < 120; i++) queue.add(item({ key: "double", tokens: 20, share: 2 }));
  const all = served(queue, 110);
  const [short, long, double] = ["short", "long", "double"].map((key) => sum(all, key));
  assert(Math.abs(short - long) <= 60, `${short} ${long}`);
  assert(Math.abs(double - 2 * short) <= 60, `${double} ${short}`);
});

Deno.test("who comes back from idleness has saved up nothing, and who was served a moment ago is not forgiven", () => {
  const queue = new FairQueue({ limit: 1_000 });
  for (let i = 0; i < 20; i++) queue.add(item({ key: "busy" }));
  served(queue, 10);
  for (let i = 0; i < 20; i++) queue.add(item({ key: "late" }));
  const all = served(queue, 10);
  assert(Math.abs(sum(all, "busy") - sum(all, "late")) <= 100, "they share from now on");
});

Deno.test("interactive work comes before batch work, until that has waited for long", () => {
  const queue = new FairQueue({ limit: 10 });
  queue.add(item({ id: "batch", priority: "batch", sinceMs: 0 }));
  queue.add(item({ id: "now", sinceMs: 5 }));
  assertEquals(queue.next("m", 10)?.id, "now");
  assertEquals(queue.order("m", 10), ["now", "batch"]);
  assertEquals(queue.next("m", BATCH_PROMOTED_AFTER_MS)?.id, "batch");
});

Deno.test("what was begun goes first, and is let in when the queue is full", () => {
  const queue = new FairQueue({ limit: 1 });
  queue.add(item({ id: "waiting" }));
  queue.add(item({ id: "begun", begun: true, sinceMs: 9 }));
  assertEquals(queue.order("m", 10), ["begun", "waiting"]);
});

Deno.test("a full queue refuses, and no key fills it while others wait", () => {
  const queue = new FairQueue({ limit: 10 });
  queue.add(item({ key: "other" }));
  for (let i = 0; i < 5; i++) queue.add(item({ key: "greedy" }));
  const refused = assertThrows(() => queue.add(item({ key: "greedy" })), RbeeError);
  assertEquals([refused.code, refused.details.queue_share], ["QUEUE_FULL", 5]);
  for (let i = 0; i < 4; i++) queue.add(item({ key: "other" }));
  assertEquals(assertThrows(() => queue.add(item({ key: "third" })), RbeeError).code, "QUEUE_FULL");
  assertEquals(queue.size, 10);
});

Deno.test("whatever comes and goes, each is served once, in the order that was told, and nothing is left", () => {
  const action = fc.record({
    key: fc.constantFrom("a", "b", "c"),
    priority: fc.constantFrom("interactive" as const, "batch" as const),
    tokens: fc.integer({ min: 1, max: 500 }),
    model: fc.constantFrom("m", "n"),
    begun: fc.boolean(),
    what: fc.constantFrom("add", "add", "serve", "remove"),
  });
  fc.assert(fc.property(fc.array(action, { maxLength: 80 }), (actions) => {
    const queue = new FairQueue({ limit: 1_000 });
    const waiting = new Map<string, Waiting>();
    actions.forEach(({ what, ...fields }, atMs) => {
      if (what === "add") {
        const added = item({ ...fields, sinceMs: atMs });
        queue.add(added);
        waiting.set(added.id, added);
        return;
      }
      const order = queue.order(fields.model, atMs);
      const next = queue.next(fields.model, atMs);
      assertEquals(order[0], next?.id);
      assertEquals(
        order.toSorted(),
        [...waiting.values()].filter(({ model }) => model === fields.model).map(({ id }) => id).toSorted(),
      );
      if (next === undefined) return;
      assert(waiting.delete(next.id));
      if (what === "remove") return queue.remove(next.id);
      queue.serve(next.id);
      queue.ended(next, fields.tokens);
    });
    assertEquals(queue.size, waiting.size);
    for (const id of waiting.keys()) queue.remove(id);
    assertEquals([queue.size, [...queue.models()]], [0, []]);
  }));
});
