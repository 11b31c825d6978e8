/** An engine's figures as the worker tells them. */
import type { EngineHeartbeat, WorkerMemory } from "../protocol/worker_schemas.ts";
import type { Engine } from "./engine.ts";

const NANOSECONDS_PER_SECOND = 1e9;

/** In MB of 1,000,000 bytes; without an engine only the process. */
export function memoryOf(engine: Engine | undefined): WorkerMemory {
  const native = engine?.memory() ??
    { weightsBytes: 0, mappedBytes: 0, privateBytes: 0, kvBytes: 0, computeBytes: 0 };
  const mb = (bytes: number) => Math.round(bytes / 1e4) / 100;
  return {
    weights_mb: mb(native.weightsBytes),
    mapped_mb: mb(native.mappedBytes),
    private_mb: mb(native.privateBytes),
    kv_mb: mb(native.kvBytes),
    compute_mb: mb(native.computeBytes),
    process_mb: mb(Deno.memoryUsage().rss),
  };
}

/** Whether its thread still makes steps; undefined without one. */
export function heartbeatOf(engine: Engine | undefined): EngineHeartbeat | undefined {
  if (engine === undefined || engine.closed) return undefined;
  const { stepMs, lastStepMs, limitMs, failure } = engine.heartbeat();
  const rounded = (ms: number | null) => ms === null ? null : Math.round(ms);
  return {
    step_ms: rounded(stepMs),
    last_step_ms: rounded(lastStepMs),
    limit_ms: Math.round(limitMs),
    failure,
  };
}

/** Where its thread's time went, in seconds; zeros without one, and of one that makes embeddings. */
export function timesOf(engine: Engine | undefined): { step: number; sampling: number; handover: number } {
  const times = engine?.facts.pooling === undefined ? engine?.times() : undefined;
  const seconds = (ns = 0) => ns / NANOSECONDS_PER_SECOND;
  return {
    step: seconds(times?.stepNs),
    sampling: seconds(times?.samplingNs),
    handover: seconds(times?.handoverNs),
  };
}
