import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { RbeeError } from "../../protocol/errors.ts";
import type { Device } from "../../protocol/hive_schemas.ts";
import { SpawnRequest } from "../../protocol/spawn_request.ts";
import type { GgufFacts } from "../models/gguf.ts";
import { planSpawn, type SpawnSituation } from "./preflight.ts";

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
  const context = (fields: Record<string, unknown>, contextLength: number, recurrentStateLength = 0) =>
    planSpawn(request(fields), {
      ...SITUATION,
      model: { path: "/m.gguf", facts: { ...FACTS, contextLength, recurrentStateLength } },
    }).ctxSize;
  assertEquals(context({}, 512), 512);
  assertEquals(context({}, 131_072), 4096);
  assertEquals(context({}, 0), 4096);
  assertEquals(context({ ctx_size: 512 }, 512), 512);
  assertEquals(context({ ctx_size: 8192 }, 0), 8192);
  assertEquals(context({ ctx_size: 8192 }, 512, 64), 8192);
  const error = assertThrows(() => context({ ctx_size: 513 }, 512), RbeeError);
  assertEquals([error.code, error.message], [
    "INVALID_REQUEST",
    "builtin:stories was trained for 512 tokens, and 513 were asked for.",
  ]);
});
