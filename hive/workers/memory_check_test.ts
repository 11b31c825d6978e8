import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { RbeeError } from "../../protocol/errors.ts";
import type { GgufFacts } from "../models/gguf.ts";
import { estimateMemory } from "../models/memory_estimate.ts";
import type { MemoryHolder } from "./eviction.ts";
import { checkMemory, type MemorySituation } from "./memory_check.ts";
import type { SpawnPlan } from "./preflight.ts";

const FACTS: GgufFacts = {
  architecture: "llama",
  blockCount: 22,
  contextLength: 2048,
  embeddingLength: 2048,
  headCount: Array(22).fill(32),
  headCountKv: Array(22).fill(4),
  keyLength: 64,
  valueLength: 64,
  feedForwardLength: 5632,
  expertsUsed: 0,
  expertFeedForwardLength: 5632,
  vocabularySize: 32_000,
  recurrentStateLength: 0,
  recurrentWidth: 2048,
  tensors: [],
  tensorBytes: 620_000_000,
  fileBytes: 621_000_000,
};
const PLAN: SpawnPlan = {
  ...{ modelRef: "hf:acme/bee:Q8_0", modelPath: "/m.gguf" },
  ...{ backend: "cpu", device: 0, slots: 4, ctxSize: 2048 },
};
const NOW = 1_000_000_000;
const { required_mb: REQUIRED_MB } = estimateMemory(FACTS, PLAN);

function situation(of: Partial<MemorySituation>): MemorySituation {
  return {
    ...{ facts: FACTS, correctionMb: 0, freeMb: 100_000, reserveMb: 0, holders: [], nowMs: NOW },
    ...of,
  };
}

function holder(workerId: string, of: Partial<MemoryHolder> = {}): MemoryHolder {
  return {
    ...{ workerId, modelRef: `hf:acme/${workerId}`, state: "idle", pinned: false },
    ...{ takenMb: 500, mappedMb: 0, lastActivityMs: NOW },
    ...of,
  };
}

function refusal(of: Partial<MemorySituation>, plan = PLAN): RbeeError {
  return assertThrows(() => checkMemory(plan, situation(of)), RbeeError);
}

Deno.test("too little RAM is refused with both numbers and something that fits", () => {
  const error = refusal({ freeMb: 800 });
  assertEquals(error.code, "INSUFFICIENT_RAM");
  assertEquals([error.details.available_mb, error.details.required_mb], [800, REQUIRED_MB]);
  const { slots, ctx_size } = error.details.suggestion as { slots: number; ctx_size: number };
  assert(estimateMemory(FACTS, { slots, ctxSize: ctx_size }).required_mb <= 800);
  assertStringIncludes(error.message, `--slots ${slots} --ctx-size ${ctx_size}`);
});

Deno.test("where nothing would fit, the advice does not pretend that something does", () => {
  const error = refusal({ freeMb: 100 });
  assertEquals(
    [error.details.suggestion, error.details.smaller_models, error.details.advice],
    [undefined, [], []],
  );
  assertStringIncludes(error.message, "Stop another program, or use a smaller model");
});

Deno.test("a GPU's memory has an error of its own", () => {
  assertEquals(refusal({ freeMb: 500 }, { ...PLAN, backend: "cuda", device: 1 }).code, "VRAM_EXHAUSTED");
});

Deno.test("memory promised to workers that are still loading is not promised twice", () => {
  const loading = [holder("loading", { state: "loading", takenMb: 10 })];
  assertEquals(checkMemory(PLAN, situation({ freeMb: REQUIRED_MB + 10, holders: loading })).leave, []);
  assertThrows(() => checkMemory(PLAN, situation({ freeMb: REQUIRED_MB + 9, holders: loading })), RbeeError);
});

Deno.test("what a loaded worker has mapped looks free and is not", () => {
  const busy = [holder("busy", { state: "busy", mappedMb: 300 })];
  assertEquals(checkMemory(PLAN, situation({ freeMb: REQUIRED_MB + 300, holders: busy })).leave, []);
  assertThrows(() => checkMemory(PLAN, situation({ freeMb: REQUIRED_MB + 299, holders: busy })), RbeeError);
});

Deno.test("the reserve is nobody's, and the refusal says so", () => {
  assertEquals(checkMemory(PLAN, situation({ freeMb: REQUIRED_MB + 512, reserveMb: 512 })).leave, []);
  assertStringIncludes(
    refusal({ freeMb: REQUIRED_MB + 511, reserveMb: 512 }).message,
    "512 MB are kept for other programs",
  );
});

Deno.test("what earlier loads took corrects the estimate, but never below 1.2 times the file", () => {
  const required = (correctionMb: number) =>
    checkMemory(PLAN, situation({ correctionMb })).estimate.required_mb;
  const { expected_mb } = estimateMemory(FACTS, PLAN);
  assert(Math.abs(required(200) - (expected_mb + 200)) <= 1);
  assertEquals(required(-10_000), Math.ceil(1.2 * 621));
});

Deno.test("an idle worker leaves when that makes room, and the one used last stays", () => {
  const holders = [
    holder("new"),
    holder("old", { lastActivityMs: 0 }),
    holder("pinned", { lastActivityMs: 0, pinned: true }),
  ];
  const { leave } = checkMemory(PLAN, situation({ freeMb: REQUIRED_MB - 400, holders }));
  assertEquals(leave.map(({ worker_id, verdict }) => [worker_id, verdict]), [["old", "evicted"]]);
});

Deno.test("what is suggested counts on the room that idle workers would make", () => {
  const error = refusal({ freeMb: 300, holders: [holder("idle", { takenMb: 500 })] });
  const { required_mb } = error.details.suggestion as { required_mb: number };
  assert(required_mb <= 800 && required_mb > 300);
});

Deno.test("smaller quantisations that fit are named, the best of them first", () => {
  const alternatives = [40, 90, 100, 620, 80].map((mb) => ({
    modelRef: `hf:acme/bee:Q${mb}`,
    bytes: mb * 1e6,
  }));
  const error = refusal({ freeMb: 500, alternatives });
  const models = error.details.smaller_models as { model_ref: string; required_mb: number }[];
  assertEquals(models.map(({ model_ref }) => model_ref), [
    "hf:acme/bee:Q100",
    "hf:acme/bee:Q90",
    "hf:acme/bee:Q80",
  ]);
  assert(models.every(({ required_mb }) => required_mb <= 500));
  assertStringIncludes(error.message, "hf:acme/bee:Q100");
});

Deno.test("the worker to stop is named: the smallest that would do, all if only all would", () => {
  const stop = (holders: MemoryHolder[]) =>
    [refusal({ freeMb: 0, holders }).message, refusal({ freeMb: 0, holders }).details.advice].flat().join(
      " ",
    );
  const busy = (id: string, takenMb: number) => holder(id, { state: "busy", takenMb });
  assertStringIncludes(
    stop([busy("small", 10), busy("enough", REQUIRED_MB), busy("more", 9_000)]),
    "Stopping worker enough (hf:acme/enough, busy) would make room.",
  );
  assertStringIncludes(
    stop([busy("a", REQUIRED_MB - 50), holder("b", { pinned: true, takenMb: 60 })]),
    "Stopping worker b (hf:acme/b, pinned) and worker a (hf:acme/a, busy) would make room.",
  );
  assert(!stop([busy("a", 10)]).includes("Stopping"));
});

Deno.test("whatever is free: a plan fits or is refused, and what is suggested fits and is no larger", () => {
  fc.assert(fc.property(
    fc.record({
      freeMb: fc.nat(5_000),
      reserveMb: fc.nat(500),
      idleMb: fc.nat(500),
      slots: fc.integer({ min: 1, max: 64 }),
      ctxSize: fc.integer({ min: 16, max: 65_536 }),
    }),
    ({ freeMb, reserveMb, idleMb, slots, ctxSize }) => {
      const plan = { ...PLAN, slots, ctxSize };
      const roomMb = freeMb - reserveMb + idleMb;
      const holders = [holder("idle", { takenMb: idleMb })];
      try {
        const { estimate } = checkMemory(plan, situation({ freeMb, reserveMb, holders }));
        assert(estimate.required_mb <= roomMb);
      } catch (error) {
        if (!(error instanceof RbeeError)) throw error;
        assert(Number(error.details.required_mb) > roomMb);
        const suggestion = error.details.suggestion as { slots: number; ctx_size: number } | undefined;
        if (suggestion === undefined) return;
        const smaller = estimateMemory(FACTS, { slots: suggestion.slots, ctxSize: suggestion.ctx_size });
        assert(smaller.required_mb <= roomMb);
        assert(suggestion.slots <= slots && suggestion.ctx_size <= ctxSize);
      }
    },
  ));
});
