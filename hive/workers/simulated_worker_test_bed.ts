/** A worker process that is not there: what a hive can see of one, on a clock that the test moves. */
import { RbeeError } from "../../protocol/errors.ts";
import type { ReadyCallback } from "../../protocol/hive_schemas.ts";
import type { HealthResponse, LoadingEvent, ReadyResponse } from "../../protocol/worker_schemas.ts";
import type { FakeClock } from "../../tests/helpers/fake_clock.ts";
import type { GgufFacts } from "../models/gguf.ts";
import { estimateMemory } from "../models/memory_estimate.ts";
import type { WorkerApi } from "./connection.ts";
import type { ExitStatus, LaunchOptions } from "./process.ts";

/** What a simulated worker does wrong. */
export const FAULTS = [
  "none",
  "never-calls-back",
  "wrong-token",
  "calls-back-twice",
  "dies-before-callback",
  "dies-during-load",
  "load-fails",
  "stuck-load",
  "ignores-shutdown",
  "ignores-sigterm",
  "stays-after-shutdown",
  "health-stalls",
  "health-refuses",
  "cannot-generate",
  "engine-stuck",
  "eats-memory",
] as const;
/** See {@linkcode FAULTS}. */
export type Fault = typeof FAULTS[number];

/** What one that eats memory takes in a second. */
const EATS_MB_PER_SECOND = 300;
const STEP_LIMIT_MS = 5_000;
/** What a worker takes beyond its estimate: its runtime. */
export const RUNTIME_MB = 60;
const LOAD_MS = 4_000;
const START_MS = 300;
const CALL_MS = 2;

/** Where a simulated worker lives. */
export interface Surroundings {
  readonly clock: FakeClock;
  /** Who takes its callback. */
  readonly hive: { acceptCallback(token: string, callback: ReadyCallback): void } | undefined;
}

/** One process of the machine. */
export class SimulatedWorker {
  readonly id: string;
  readonly pid: number;
  readonly url: string;
  readonly apiKey: string;
  readonly slots: number;
  readonly takesMb: number;
  readonly fault: Fault;
  readonly exited = Promise.withResolvers<ExitStatus>();
  stage: "starting" | "loading" | "ready" | "failed" | "draining" | "dead" = "starting";
  running = 0;
  idleSinceMs = 0;
  readonly #machine: Surroundings;
  readonly #token: string;
  #share = 0;
  #readySinceMs = 0;
  #stoppedMs: number | undefined;
  readonly #followers = new Set<(event: LoadingEvent | Error) => void>();

  constructor(machine: Surroundings, options: LaunchOptions & { pid: number; fault: Fault }) {
    const flag = (name: string) => options.args[options.args.indexOf(name) + 1];
    this.#machine = machine;
    this.id = flag("--worker-id");
    this.pid = options.pid;
    this.url = `http://127.0.0.1:${10_000 + options.pid}`;
    this.apiKey = options.env.RBEE_WORKER_API_KEY;
    this.#token = options.env.RBEE_CALLBACK_TOKEN;
    this.fault = options.fault;
    const facts = factsOf(flag("--model"));
    this.slots = Number(flag("--slots"));
    const sizes = { slots: this.slots, ctxSize: Number(flag("--ctx-size")) };
    this.takesMb = estimateMemory(facts, sizes).expected_mb + RUNTIME_MB;
    this.#after(START_MS, () => this.#start());
  }

  get alive(): boolean {
    return this.stage !== "dead";
  }

  get idleMs(): number {
    return this.running > 0 ? 0 : this.#machine.clock.elapsedMs - this.idleSinceMs;
  }

  /** What it has taken so far of what it will take. */
  get holdsMb(): number {
    return this.takesMb * this.#share + this.#eatenMb;
  }

  get #eatenMb(): number {
    if (this.fault !== "eats-memory" || this.#share < 1) return 0;
    const untilMs = this.#stoppedMs ?? this.#machine.clock.elapsedMs;
    return EATS_MB_PER_SECOND * (untilMs - this.#readySinceMs) / 1000;
  }

  /** Begins a request if it can; whoever began it ends it. */
  begin(): boolean {
    if (this.stage !== "ready" || this.running === this.slots) return false;
    this.running++;
    return true;
  }

  end(): void {
    if (this.stage === "dead") return;
    this.running--;
    if (this.running > 0) return;
    this.idleSinceMs = this.#machine.clock.elapsedMs;
    if (this.stage === "draining") this.die({ code: 0, signal: null });
  }

  die(status: ExitStatus): void {
    if (this.stage === "dead") return;
    this.stage = "dead";
    this.#share = 0;
    this.running = 0;
    this.exited.resolve(status);
    for (const follower of this.#followers) follower(new Error("cut"));
  }

  kill(signal: Deno.Signal): void {
    if (signal === "SIGKILL") return this.die({ code: null, signal });
    if (signal === "SIGSTOP") return void (this.#stoppedMs ??= this.#machine.clock.elapsedMs);
    if (this.fault !== "ignores-sigterm") this.#drain();
  }

  api(isHiveAlive: () => boolean): WorkerApi {
    const call = <T>(signal: AbortSignal | undefined, answer: () => T, stalls = false): Promise<T> =>
      new Promise((resolve, reject) => {
        signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
        if (signal?.aborted) return reject(signal.reason);
        if (stalls) return;
        this.#machine.clock.after(CALL_MS, () => {
          if (!isHiveAlive()) return;
          try {
            if (!this.alive) throw new RbeeError("NODE_UNREACHABLE", "Nobody listens there.");
            resolve(answer());
          } catch (error) {
            reject(error);
          }
        });
      });
    const deaf = this.fault === "ignores-shutdown" || this.fault === "ignores-sigterm";
    return {
      health: ({ signal } = {}) =>
        call(
          signal,
          () => this.#health(),
          this.fault === "health-stalls",
        ),
      ready: ({ signal } = {}) => call(signal, () => this.#ready()),
      selfTest: ({ signal, ifIdleMs = 0 } = {}) =>
        call(
          signal,
          () => this.running > 0 || this.idleMs < ifIdleMs ? { ran: false } : { ran: true, token_id: 1 },
          this.fault === "cannot-generate",
        ),
      shutdown: ({ signal, ifIdleMs } = {}) =>
        call(signal, () => {
          const idleMs = this.idleMs;
          const accepted = ifIdleMs === undefined || (this.running === 0 && idleMs >= ifIdleMs);
          if (accepted && this.fault !== "stays-after-shutdown") this.#drain();
          return { accepted, idle_ms: idleMs };
        }, deaf),
      loadingProgress: ({ signal } = {}) =>
        call(signal, () => ({ headers: new Headers(), events: this.#loading(signal) })),
    };
  }

  #start(): void {
    if (this.fault === "dies-before-callback") return this.die({ code: 3, signal: null });
    if (this.fault === "never-calls-back") return;
    const callBack = (token: string) => {
      this.#machine.hive?.acceptCallback(token, {
        ...{ worker_id: this.id, url: this.url, model_ref: "", backend: "cpu", device: 0, pid: this.pid },
      });
    };
    try {
      if (this.#machine.hive === undefined) throw new Error("Nobody takes the callback.");
      callBack(this.fault === "wrong-token" ? "made up" : this.#token);
    } catch {
      // The real one leaves when its callback is refused; the misbehaving one stays.
      if (this.fault !== "wrong-token") this.die({ code: 1, signal: null });
      return;
    }
    if (this.fault === "calls-back-twice") {
      try {
        callBack(this.#token);
      } catch {
        // Refused, as it should be.
      }
    }
    this.stage = "loading";
    this.#after(LOAD_MS / 2, () => {
      this.#share = 0.5;
      if (this.fault === "dies-during-load") return this.die({ code: null, signal: "SIGSEGV" });
      if (this.fault === "stuck-load") return;
      if (this.fault === "load-fails") return this.#fail();
      this.#after(LOAD_MS / 2, () => {
        if (this.stage !== "loading") return;
        this.stage = "ready";
        this.#share = 1;
        this.idleSinceMs = this.#readySinceMs = this.#machine.clock.elapsedMs;
        this.#tell({ stage: "ready" });
      });
    });
  }

  #fail(): void {
    this.stage = "failed";
    this.#tell({ stage: "error", error: BROKEN.toBody("") });
    this.#after(5_000, () => this.die({ code: 1, signal: null }));
  }

  #drain(): void {
    if (this.stage === "dead") return;
    this.stage = "draining";
    if (this.running === 0) this.#after(CALL_MS, () => this.die({ code: 0, signal: null }));
  }

  /** A process's own time passes whether its hive lives or not. */
  #after(ms: number, task: () => void): void {
    this.#machine.clock.after(ms, () => {
      if (this.alive) task();
    });
  }

  #tell(event: LoadingEvent): void {
    for (const follower of this.#followers) follower(event);
  }

  #health(): HealthResponse {
    if (this.fault === "health-refuses") throw new RbeeError("INTERNAL", "Not an answer to a health check.");
    const isStuck = this.fault === "engine-stuck" && this.stage === "ready";
    const stepMs = isStuck
      ? this.#machine.clock.elapsedMs - this.#readySinceMs
      : this.running > 0
      ? 20
      : null;
    return {
      status: "alive",
      version: "0",
      api_version: "v1",
      engine: { step_ms: stepMs, last_step_ms: null, limit_ms: STEP_LIMIT_MS },
    };
  }

  #ready(): ReadyResponse {
    if (this.stage === "failed") return { ready: false, state: "failed", error: BROKEN.toBody("") };
    if (this.stage === "draining") {
      return { ready: false, state: "draining", slots_total: this.slots, slots_available: 0 };
    }
    if (this.stage !== "ready") return { ready: false, state: "loading", progress_url: "" };
    return {
      ready: true,
      state: this.running > 0 ? "busy" : "idle",
      model_loaded: true,
      model_ref: "",
      slots_total: this.slots,
      slots_available: this.slots - this.running,
      idle_ms: this.idleMs,
      // What else there is nobody reads.
      model: {} as Extract<ReadyResponse, { ready: true }>["model"],
      memory: {
        weights_mb: 0,
        mapped_mb: 0,
        private_mb: this.takesMb,
        kv_mb: 0,
        compute_mb: 0,
        process_mb: 0,
      },
    };
  }

  async *#loading(signal: AbortSignal | undefined): AsyncGenerator<LoadingEvent> {
    if (this.stage === "ready") return yield { stage: "ready" };
    if (this.stage === "failed") return yield { stage: "error", error: BROKEN.toBody("") };
    if (!this.alive) throw new Error("cut");
    const { promise, resolve, reject } = Promise.withResolvers<LoadingEvent>();
    const follower = (event: LoadingEvent | Error) => event instanceof Error ? reject(event) : resolve(event);
    this.#followers.add(follower);
    const onAbort = () => reject(signal!.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      yield await promise;
    } finally {
      this.#followers.delete(follower);
      signal?.removeEventListener("abort", onAbort);
    }
  }
}

const BROKEN = new RbeeError("INVALID_MODEL", "The simulated model is damaged on purpose.");

/** Models of the machine: `…/300.gguf` is one of 300 MB. */
export function factsOf(path: string): GgufFacts {
  const bytes = Number(/(\d+)\.gguf$/.exec(path)![1]) * 1e6;
  return {
    architecture: "llama",
    blockCount: 8,
    contextLength: 1024,
    embeddingLength: 512,
    headCount: Array(8).fill(8),
    headCountKv: Array(8).fill(8),
    keyLength: 64,
    valueLength: 64,
    feedForwardLength: 1408,
    expertsUsed: 0,
    expertFeedForwardLength: 1408,
    vocabularySize: 8_000,
    recurrentStateLength: 0,
    recurrentWidth: 512,
    tensors: [],
    tensorBytes: bytes,
    fileBytes: bytes,
  };
}
