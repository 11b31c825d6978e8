/**
 * The last step of preflight: whether a worker fits into memory, who has to leave for it, and what would fit if it
 * doesn't. Pure.
 */
import { RbeeError } from "../../protocol/errors.ts";
import type { GgufFacts } from "../models/gguf.ts";
import type { Quantisation } from "../models/model_files.ts";
import { estimateMemory, type MemoryEstimate } from "../models/memory_estimate.ts";
import { SUGGESTED_CTX_SIZE_MIN, SUGGESTED_MODELS_MAX } from "../limits.ts";
import { type MemoryHolder, planEviction, type Verdict } from "./eviction.ts";
import type { SpawnPlan } from "./preflight.ts";

/** What {@linkcode checkMemory} goes by, in MB. */
export interface MemorySituation {
  /** Read from the model's file. */
  facts: GgufFacts;
  /** What the estimate has to be corrected by. */
  correctionMb: number;
  /** As the system or the device tells. */
  freeMb: number;
  /** Left to other programs. */
  reserveMb: number;
  /** The workers that hold memory of this kind. */
  holders: readonly MemoryHolder[];
  /** For how long they have been idle is told by it. */
  nowMs: number;
  /** The same model in other quantisations; asked for only once it doesn't fit. */
  alternatives?: readonly Quantisation[];
}

/** A plan that fits, maybe only after somebody has left. */
export interface MemoryDecision {
  /** What the worker will take. */
  estimate: MemoryEstimate;
  /** Those that have to be gone first: `evicted` ones are to be asked, `leaving` ones only waited for. */
  leave: Verdict[];
}

/**
 * Whether the plan fits into free memory.
 *
 * @throws {RbeeError} `INSUFFICIENT_RAM` or `VRAM_EXHAUSTED` with what would fit, if anything would.
 */
export function checkMemory(plan: SpawnPlan, situation: MemorySituation): MemoryDecision {
  const { facts, correctionMb, holders, nowMs } = situation;
  const estimate = estimateMemory(facts, { ...plan, correctionMb });
  const availableMb = availableFor(situation);
  if (estimate.required_mb <= availableMb) return { estimate, leave: [] };
  const eviction = planEviction(holders, { missingMb: estimate.required_mb - availableMb, nowMs });
  if (!eviction.enough) throw refusal(plan, { ...situation, estimate, availableMb, ...eviction });
  const leave = eviction.verdicts.filter(({ verdict }) => verdict === "evicted" || verdict === "leaving");
  return { estimate, leave };
}

/** Free memory less what is promised already, what only looks available, and what others may count on. */
export function availableFor(situation: Pick<MemorySituation, "freeMb" | "reserveMb" | "holders">): number {
  const { freeMb, reserveMb, holders } = situation;
  const spokenFor = holders.reduce((sum, { state, takenMb, mappedMb }) => {
    const promised = state === "starting" || state === "loading";
    return sum + (promised ? takenMb : mappedMb);
  }, 0);
  return Math.floor(freeMb - spokenFor - reserveMb);
}

/** Workers that were to leave have not, time and again: they were needed themselves. */
export function noRoomMade(plan: SpawnPlan, leave: readonly Verdict[]): RbeeError {
  return new RbeeError(
    plan.backend === "cpu" ? "INSUFFICIENT_RAM" : "VRAM_EXHAUSTED",
    `No room could be made for ${plan.modelRef}: ${
      leave.map(describe).join(" and ")
    } were asked to leave and are needed themselves, or memory did not come free. Try again in a moment.`,
    { details: { workers: leave } },
  );
}

interface Shortage extends MemorySituation {
  estimate: MemoryEstimate;
  availableMb: number;
  verdicts: Verdict[];
}

function refusal(plan: SpawnPlan, shortage: Shortage): RbeeError {
  const { estimate, reserveMb, verdicts } = shortage;
  const availableMb = Math.max(0, shortage.availableMb);
  // Idle workers would leave for it: what they hold counts as room for anything smaller.
  const roomMb = shortage.availableMb + sumOf(verdicts, ["not needed", "leaving"]);
  const smaller = smallerPlan(plan, { ...shortage, roomMb });
  const models = smallerModels(plan, { ...shortage, roomMb });
  const stop = whomToStop(verdicts, estimate.required_mb - roomMb);
  // Where not even the reserve is free, it is what stands in the way.
  const lowerMb = Math.ceil(estimate.required_mb - roomMb);
  const lower = reserveMb > 0 && lowerMb <= reserveMb &&
    `Lower hive.reserve_mb by ${lowerMb} MB, and it fits.`;
  const advice = [
    shortage.availableMb < 0 && lower,
    smaller &&
    `With --slots ${smaller.slots} --ctx-size ${smaller.ctx_size} it needs ${smaller.required_mb} MB and fits.`,
    models.length > 0 &&
    `A smaller quantisation fits: ${
      models.map((at) => `${at.model_ref} (${at.required_mb} MB)`).join(", ")
    }.`,
    stop.length > 0 && `Stopping ${stop.map(describe).join(" and ")} would make room.`,
    shortage.availableMb >= 0 && lower,
  ].filter((text) => typeof text === "string");
  const [first = "Stop another program, or use a smaller model or quantisation.", ...further] = advice;
  const kept = reserveMb > 0 ? `; ${Math.round(reserveMb)} MB are kept for other programs` : "";
  return new RbeeError(
    plan.backend === "cpu" ? "INSUFFICIENT_RAM" : "VRAM_EXHAUSTED",
    `${plan.modelRef} with ${plan.slots} slots of ${plan.ctxSize} tokens needs ${estimate.required_mb} MB and ` +
      `${availableMb} MB are free on ${plan.backend} device ${plan.device}${kept}. ${first}`,
    {
      details: {
        ...estimate,
        available_mb: availableMb,
        suggestion: smaller,
        smaller_models: models,
        workers: verdicts,
        advice: further,
      },
    },
  );
}

function describe({ worker_id, model_ref, verdict }: Verdict): string {
  return `worker ${worker_id} (${model_ref}, ${verdict})`;
}

function sumOf(verdicts: readonly Verdict[], which: readonly Verdict["verdict"][]): number {
  return verdicts.filter(({ verdict }) => which.includes(verdict))
    .reduce((sum, { frees_mb }) => sum + frees_mb, 0);
}

/** Of those that don't leave by themselves: the smallest one that would do, else all if they would. */
function whomToStop(verdicts: readonly Verdict[], missingMb: number): Verdict[] {
  const staying = verdicts.filter(({ verdict }) => ["busy", "loading", "pinned"].includes(verdict))
    .toSorted((a, b) => a.frees_mb - b.frees_mb);
  const one = staying.find(({ frees_mb }) => frees_mb >= missingMb);
  if (one !== undefined) return [one];
  return staying.reduce((sum, { frees_mb }) => sum + frees_mb, 0) >= missingMb ? staying : [];
}

/** The nearest thing that fits: first fewer slots, then less context, then both. */
function smallerPlan(plan: SpawnPlan, room: Pick<Shortage, "facts" | "correctionMb"> & { roomMb: number }) {
  const { facts, correctionMb, roomMb } = room;
  const contexts = [plan.ctxSize];
  for (let size = plan.ctxSize / 2; size >= SUGGESTED_CTX_SIZE_MIN; size /= 2) {
    contexts.push(Math.floor(size));
  }
  const candidates = [
    { slots: 1, ctxSize: plan.ctxSize },
    ...contexts.map((ctxSize) => ({ slots: plan.slots, ctxSize })),
    ...contexts.map((ctxSize) => ({ slots: 1, ctxSize })),
  ];
  for (const candidate of candidates) {
    const { required_mb } = estimateMemory(facts, { ...candidate, backend: plan.backend, correctionMb });
    if (required_mb <= roomMb) return { slots: candidate.slots, ctx_size: candidate.ctxSize, required_mb };
  }
  return undefined;
}

/** Other quantisations that fit as planned, the largest (and so best) first. The shape of the model is the same. */
function smallerModels(plan: SpawnPlan, room: Shortage & { roomMb: number }) {
  const { facts, correctionMb, roomMb, alternatives = [] } = room;
  return alternatives
    .map(({ modelRef, bytes }) => ({
      model_ref: modelRef,
      ...estimateMemory({ ...facts, tensors: [], tensorBytes: bytes, fileBytes: bytes }, {
        ...plan,
        correctionMb,
      }),
    }))
    .filter(({ required_mb }) => required_mb <= roomMb)
    .toSorted((a, b) => b.required_mb - a.required_mb)
    .slice(0, SUGGESTED_MODELS_MAX)
    .map(({ model_ref, required_mb }) => ({ model_ref, required_mb }));
}
