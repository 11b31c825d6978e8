import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { WorkerState } from "../../protocol/hive_schemas.ts";
import { type MemoryHolder, planEviction } from "./eviction.ts";

const NOW = 1_000_000_000;

function holder(workerId: string, of: Partial<MemoryHolder> = {}): MemoryHolder {
  return {
    ...{ workerId, modelRef: `hf:acme/${workerId}`, state: "idle", pinned: false, takenMb: 100, mappedMb: 0 },
    lastActivityMs: NOW,
    ...of,
  };
}

const idleFor = (seconds: number) => ({ lastActivityMs: NOW - seconds * 1000 });

function evicted(holders: MemoryHolder[], missingMb: number): string[] {
  return planEviction(holders, { missingMb, nowMs: NOW }).verdicts
    .filter(({ verdict }) => verdict === "evicted").map(({ worker_id }) => worker_id);
}

Deno.test("the least recently used go first, and no more than it takes", () => {
  const holders = [holder("new", idleFor(5)), holder("old", idleFor(500)), holder("mid", idleFor(50))];
  assertEquals(evicted(holders, 50), ["old"]);
  assertEquals(evicted(holders, 150), ["old", "mid"]);
  assertEquals(evicted(holders, 0), []);
});

Deno.test("one that turns out not to be needed stays", () => {
  const holders = [
    holder("small", { ...idleFor(500), takenMb: 10 }),
    holder("large", { ...idleFor(5), takenMb: 900 }),
  ];
  assertEquals(evicted(holders, 500), ["large"]);
  assertEquals(evicted(holders, 905), ["small", "large"]);
});

Deno.test("busy, loading and pinned ones never go, however long they have been there", () => {
  const old = idleFor(100_000);
  const holders = [
    holder("busy", { ...old, state: "busy" }),
    holder("loading", { ...old, state: "loading" }),
    holder("pinned", { ...old, pinned: true }),
  ];
  const plan = planEviction(holders, { missingMb: 1, nowMs: NOW });
  assertEquals(plan.enough, false);
  assertEquals(plan.verdicts.map(({ verdict }) => verdict), ["busy", "loading", "pinned"]);
});

Deno.test("when not even all of them would do, none goes", () => {
  const plan = planEviction([holder("a"), holder("b")], { missingMb: 201, nowMs: NOW });
  assertEquals([plan.enough, plan.verdicts.map(({ verdict }) => verdict)], [false, [
    "not needed",
    "not needed",
  ]]);
});

Deno.test("one that leaves anyway is waited for before another has to go", () => {
  const holders = [holder("idle", idleFor(500)), holder("leaving", { state: "draining", takenMb: 300 })];
  const plan = planEviction(holders, { missingMb: 200, nowMs: NOW });
  assertEquals(plan.enough, true);
  assertEquals(plan.verdicts.map(({ verdict }) => verdict), ["not needed", "leaving"]);
});

Deno.test("each verdict says what would be free and since when the worker is idle", () => {
  const { verdicts } = planEviction([holder("a", { ...idleFor(90), takenMb: 12.7 })], {
    missingMb: 1,
    nowMs: NOW,
  });
  assertEquals(verdicts, [{
    ...{ worker_id: "a", model_ref: "hf:acme/a", frees_mb: 12, idle_seconds: 90 },
    verdict: "evicted",
  }]);
});

Deno.test("whoever holds what: only idle ones that are not pinned go, in order of age, enough and none too many", () => {
  const holders = fc.uniqueArray(
    fc.record({
      workerId: fc.string(),
      modelRef: fc.constant("builtin:stories"),
      state: fc.constantFrom(...WorkerState.options),
      pinned: fc.boolean(),
      lastActivityMs: fc.integer({ min: 0, max: NOW }),
      takenMb: fc.integer({ min: 0, max: 1000 }),
      mappedMb: fc.constant(0),
    }),
    { selector: ({ workerId }) => workerId, maxLength: 12 },
  );
  fc.assert(fc.property(holders, fc.integer({ min: 0, max: 5000 }), (all, missingMb) => {
    const plan = planEviction(all, { missingMb, nowMs: NOW });
    const byId = new Map(all.map((each) => [each.workerId, each]));
    const sum = (verdict: string) =>
      plan.verdicts.filter((each) => each.verdict === verdict)
        .reduce((total, { worker_id }) => total + byId.get(worker_id)!.takenMb, 0);
    const gone = plan.verdicts.filter(({ verdict }) => verdict === "evicted")
      .map(({ worker_id }) => byId.get(worker_id)!);
    assertEquals(plan.verdicts.length, all.length);
    assert(gone.every(({ state, pinned }) => state === "idle" && !pinned));
    const evictable = all.filter(({ state, pinned }) => state === "idle" && !pinned);
    const possible = evictable.reduce((total, { takenMb }) => total + takenMb, 0) + sum("leaving");
    assertEquals(plan.enough, possible >= missingMb);
    if (!plan.enough) return assertEquals(gone, []);
    const free = sum("evicted") + sum("leaving");
    assert(free >= missingMb);
    // Each one was needed.
    for (const { takenMb } of gone) assert(free - takenMb < missingMb);
  }));
});
