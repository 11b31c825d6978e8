import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import fc from "fast-check";
import { RbeeError } from "../../protocol/errors.ts";
import { type Device, SpawnRequest } from "../../protocol/hive_schemas.ts";
import type { GgufFacts } from "../models/gguf.ts";
import { estimateMemory } from "../models/memory_estimate.ts";
import { checkMemory, planSpawn, type SpawnPlan, type SpawnSituation } from "./preflight.ts";

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

function device(backend: Device["backend"], index = 0, freeMb = 8_000): Device {
  const name = `${backend} ${index}`;
  return { backend, index, name, description: name, memory_total_mb: 16_000, memory_free_mb: freeMb };
}

const CPU = device("cpu");
const SITUATION: SpawnSituation = {
  model: { path: "/m.gguf", facts: FACTS },
  devices: [CPU],
  freeDiskMb: 1_000,
};
const PLAN: SpawnPlan = {
  ...{ modelRef: "builtin:stories", modelPath: "/m.gguf" },
  ...{ backend: "cpu", device: 0, slots: 4, ctxSize: 2048 },
};

function request(fields: Record<string, unknown> = {}): SpawnRequest {
  return SpawnRequest.parse({ model_ref: "builtin:stories", ...fields });
}

function refusal(fields: Record<string, unknown>, situation: Partial<SpawnSituation>): RbeeError {
  return assertThrows(() => planSpawn(request(fields), { ...SITUATION, ...situation }), RbeeError);
}

Deno.test("a model that is absent is refused with the way to get it", () => {
  const error = refusal({ model_ref: "hf:a/b:Q4_0" }, { model: undefined });
  assertEquals(error.code, "MODEL_NOT_FOUND");
  assertStringIncludes(error.message, "/v1/models/download");
  assertStringIncludes(refusal({ model_ref: "file:/x/y.gguf" }, { model: undefined }).message, "/x/y.gguf");
});

Deno.test("the first thing that is wrong is the one that is told: model, disk, backend, device, memory", () => {
  const everything = { model: undefined, freeDiskMb: 0, devices: [] };
  assertEquals(refusal({ device: 9 }, everything).code, "MODEL_NOT_FOUND");
  assertEquals(refusal({ device: 9 }, { freeDiskMb: 0, devices: [] }).code, "INSUFFICIENT_DISK");
  assertEquals(refusal({ device: 9 }, { devices: [] }).code, "BACKEND_UNAVAILABLE");
  assertEquals(refusal({ device: 9 }, {}).code, "DEVICE_NOT_FOUND");
});

Deno.test("a backend or device that is not there is refused with those that are", () => {
  const noCuda = refusal({ backend: "cuda" }, { devices: [CPU, device("vulkan")] });
  assertEquals([noCuda.code, noCuda.details.available], ["BACKEND_UNAVAILABLE", ["vulkan", "cpu"]]);
  const noSecond = refusal({ backend: "cuda", device: 2 }, {
    devices: [CPU, device("cuda"), device("cuda", 1)],
  });
  assertEquals(noSecond.code, "DEVICE_NOT_FOUND");
  assertEquals(noSecond.details.available, [
    { backend: "cuda", device: 0, name: "cuda 0" },
    { backend: "cuda", device: 1, name: "cuda 1" },
  ]);
});

Deno.test("auto takes the best backend there is, a named one is never replaced", () => {
  const devices = [CPU, device("vulkan"), device("metal"), device("cuda")];
  const chosen = (fields: Record<string, unknown>, present: Device[]) =>
    planSpawn(request(fields), { ...SITUATION, devices: present }).backend;
  assertEquals(chosen({}, devices), "cuda");
  assertEquals(chosen({}, devices.slice(0, 3)), "metal");
  assertEquals(chosen({}, devices.slice(0, 2)), "vulkan");
  assertEquals(chosen({}, [CPU]), "cpu");
  assertEquals(chosen({ backend: "cpu" }, devices), "cpu");
});

Deno.test("the context is what was asked for, else what the model was trained for, at most 4096", () => {
  const context = (fields: Record<string, unknown>, contextLength: number) =>
    planSpawn(request(fields), {
      ...SITUATION,
      model: { path: "/m.gguf", facts: { ...FACTS, contextLength } },
    }).ctxSize;
  assertEquals(context({}, 512), 512);
  assertEquals(context({}, 131_072), 4096);
  assertEquals(context({}, 0), 4096);
  assertEquals(context({ ctx_size: 8192 }, 512), 8192);
});

Deno.test("too little RAM is refused with both numbers and something that fits", () => {
  const error = assertThrows(
    () => checkMemory(PLAN, { facts: FACTS, devices: [CPU], freeRamMb: 800, promisedMb: 0 }),
    RbeeError,
  );
  assertEquals(error.code, "INSUFFICIENT_RAM");
  assertEquals(error.details.available_mb, 800);
  assertEquals(error.details.required_mb, estimateMemory(FACTS, PLAN).required_mb);
  const { slots, ctx_size } = error.details.suggestion as { slots: number; ctx_size: number };
  assert(estimateMemory(FACTS, { slots, ctxSize: ctx_size }).required_mb <= 800);
  assertStringIncludes(error.message, `--slots ${slots} --ctx-size ${ctx_size}`);
});

Deno.test("where nothing would fit, the advice does not pretend that something does", () => {
  const error = assertThrows(
    () => checkMemory(PLAN, { facts: FACTS, devices: [CPU], freeRamMb: 100, promisedMb: 0 }),
    RbeeError,
  );
  assertEquals(error.details.suggestion, undefined);
  assertStringIncludes(error.message, "smaller quantisation");
});

Deno.test("a GPU's own memory counts, not the machine's", () => {
  const plan: SpawnPlan = { ...PLAN, backend: "cuda", device: 1 };
  const devices = [CPU, device("cuda", 0, 80_000), device("cuda", 1, 500)];
  const error = assertThrows(
    () => checkMemory(plan, { facts: FACTS, devices, freeRamMb: 100_000, promisedMb: 0 }),
    RbeeError,
  );
  assertEquals([error.code, error.details.available_mb], ["VRAM_EXHAUSTED", 500]);
});

Deno.test("memory promised to workers that are still loading is not promised twice", () => {
  const { required_mb } = estimateMemory(FACTS, PLAN);
  const situation = { facts: FACTS, devices: [CPU], freeRamMb: required_mb + 10 };
  assertEquals(checkMemory(PLAN, { ...situation, promisedMb: 10 }).required_mb, required_mb);
  assertThrows(() => checkMemory(PLAN, { ...situation, promisedMb: 11 }), RbeeError);
});

Deno.test("whatever is free: a plan fits or is refused, and what is suggested fits and is no larger", () => {
  fc.assert(fc.property(
    fc.record({
      freeRamMb: fc.nat(5_000),
      slots: fc.integer({ min: 1, max: 64 }),
      ctxSize: fc.integer({ min: 16, max: 65_536 }),
    }),
    ({ freeRamMb, slots, ctxSize }) => {
      const plan = { ...PLAN, slots, ctxSize };
      try {
        const { required_mb } = checkMemory(plan, { facts: FACTS, devices: [CPU], freeRamMb, promisedMb: 0 });
        assert(required_mb <= freeRamMb);
      } catch (error) {
        if (!(error instanceof RbeeError)) throw error;
        assert(Number(error.details.required_mb) > freeRamMb);
        const suggestion = error.details.suggestion as { slots: number; ctx_size: number } | undefined;
        if (suggestion === undefined) return;
        assert(
          estimateMemory(FACTS, { slots: suggestion.slots, ctxSize: suggestion.ctx_size }).required_mb <=
            freeRamMb,
        );
        assert(suggestion.slots <= slots && suggestion.ctx_size <= ctxSize);
      }
    },
  ));
});
