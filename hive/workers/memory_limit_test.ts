import { assert, assertEquals } from "@std/assert";
import * as fc from "fast-check";
import { loadedPlanMb, looksOver, type MemoryPlan, privateLimitMb, wholeLimitMb } from "./memory_limit.ts";

const CPU: MemoryPlan = { backend: "cpu", requiredMb: 1_000, planMb: 0, mappedMb: 0, marginMb: 256 };

Deno.test("a worker that loads may take a quarter more than its plan, and the margin", () => {
  assertEquals(privateLimitMb(CPU), 1_506);
});

Deno.test("a loaded worker may take its plan and the margin, less what lies in mapped files", () => {
  const planMb = loadedPlanMb({ ...CPU, mappedMb: 700 }, { privateMb: 250, slotKvMb: 0 });
  assertEquals(planMb, 1_000);
  assertEquals(privateLimitMb({ ...CPU, mappedMb: 700, planMb }), 556);
  assertEquals(wholeLimitMb({ ...CPU, mappedMb: 700, planMb }), 1_256);
});

Deno.test("what a load really took counts where it is more than was planned, and so do copies of a slot's state", () => {
  assertEquals(loadedPlanMb(CPU, { privateMb: 1_100, slotKvMb: 50 }), 1_200);
});

Deno.test("the libraries of a GPU have room beside a small model", () => {
  const gpu: MemoryPlan = { ...CPU, backend: "cuda", requiredMb: 100 };
  assert(privateLimitMb(gpu) > 2_000);
  assert(privateLimitMb({ ...gpu, planMb: loadedPlanMb(gpu, { privateMb: 500, slotKvMb: 10 }) }) > 2_000);
});

Deno.test("whatever a worker tells of itself, it may never take more than its load's limit and copies of its plan", () => {
  const mb = fc.integer({ min: 0, max: 1_000_000 });
  fc.assert(fc.property(mb, mb, mb, mb, (requiredMb, mappedMb, privateMb, slotKvMb) => {
    const plan = { ...CPU, requiredMb, mappedMb };
    const planMb = loadedPlanMb(plan, { privateMb, slotKvMb });
    assert(privateLimitMb({ ...plan, planMb }) <= wholeLimitMb(plan) + 2 * requiredMb + 256 + 2);
    assert(privateLimitMb({ ...plan, planMb }) >= 256);
  }));
});

Deno.test("one look over the limit is a warning, two in a row or one far over it are too much", () => {
  const look = (before: number, privateMb: number) =>
    looksOver(before, { privateMb, limitMb: 1_000, marginMb: 256 });
  assertEquals(look(0, 1_000), { over: 0, tooMuch: false });
  assertEquals(look(0, 1_001), { over: 1, tooMuch: false });
  assertEquals(look(1, 1_001), { over: 2, tooMuch: true });
  assertEquals(look(1, 999), { over: 0, tooMuch: false });
  assertEquals(look(0, 1_257).tooMuch, true);
});
