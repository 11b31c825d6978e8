/** One worker: the only owner of its state and its process. */
import { secretsEqual } from "../../daemon/auth.ts";
import type { Logger } from "../../daemon/log.ts";
import { errorFromBody, RbeeError } from "../../protocol/errors.ts";
import type { WorkerInfo, WorkerState } from "../../protocol/hive_schemas.ts";
import { MAX_FAILURE_CHARS, type ReportedWorker } from "../../protocol/queen_schemas.ts";
import type { ReadyResponse } from "../../protocol/worker_schemas.ts";
import { type Clock, deadline, settlesWithin } from "../../daemon/clock.ts";
import {
  FAILED_EXIT_TIMEOUT_MS,
  FAILED_KEPT_MS,
  LAST_WORDS_TIMEOUT_MS,
  PROBE_TIMEOUT_MS,
  SHUTDOWN_ACK_TIMEOUT_MS,
} from "../limits.ts";
import type { WorkerApi } from "./connection.ts";
import { WorkerFigures } from "./figures.ts";
import { watchHealth } from "./health.ts";
import { IdleWatch } from "./idle.ts";
import { type LoadProgress, watchLoad } from "./load_watch.ts";
import type { ExitStatus, WorkerProcess } from "./process.ts";
import { PULSE_CAUSES, watchPulse } from "./pulse.ts";
import type { WorkerRecord } from "./registry.ts";
import {
  diedWhileLoading,
  diedWhileStarting,
  hasLostPulse,
  loadingTimeout,
  noCallback,
  tookTooMuchMemory,
} from "./start_errors.ts";
import { isUsable, nextState, type WorkerHappening } from "./state.ts";
import { awaitExit, killSoon, stopProcess } from "./stop.ts";
import { watchGeneration } from "./watchdog.ts";
import { WorkerMemoryLimit } from "./worker_memory.ts";
import type { ExitCause, LeaveReason, WorkerOptions } from "./worker_options.ts";

/** A worker from the start of its process to its end. */
export class Worker {
  /** What the registry stores of it. */
  readonly record: WorkerRecord;
  /** Resolves with the ready callback; rejects with the reason when none will come. */
  readonly started: Promise<void>;
  /** What it has told of itself. */
  readonly figures: WorkerFigures;
  readonly #start = Promise.withResolvers<void>();
  readonly #options: WorkerOptions;
  readonly #process: WorkerProcess;
  readonly #clock: Clock;
  readonly #log: Logger;
  /** Ends every call and every timer of the worker. */
  readonly #scope = new AbortController();
  readonly #hurry = new AbortController();
  readonly #idle: IdleWatch;
  #cancelLimit = () => {};
  #state: WorkerState = "starting";
  #api: WorkerApi | undefined;
  #over = false;
  #detached = false;
  #error: RbeeError | undefined;
  /** The first reason for its end that is known. */
  #cause: ExitCause | undefined;
  #load: Promise<void> = Promise.resolve();
  #progress: LoadProgress | undefined;
  #stopping: Promise<void> | undefined;
  readonly #memory: WorkerMemoryLimit;

  /** Takes over the process. Next comes {@linkcode acceptCallback} or {@linkcode resume}. */
  constructor(options: WorkerOptions) {
    this.#options = options;
    this.record = options.record;
    this.#process = options.process;
    this.#clock = options.clock;
    this.#log = options.log;
    this.figures = new WorkerFigures(options.record, options.clock);
    this.started = this.#start.promise;
    this.started.catch(() => {});
    this.#memory = new WorkerMemoryLimit(options, this.figures);
    this.#idle = new IdleWatch(options, (reason) => this.#leaving(reason, { busy: false }));
    this.#process.exited.then((status) => this.#onExit(status));
    this.#limit(options.callbackTimeoutMs, () => this.#callbackMissing());
  }

  /** See {@linkcode nextState}. */
  get state(): WorkerState {
    return this.#state;
  }

  /** Whether somebody who asks for such a worker can be given this one. */
  get usable(): boolean {
    return isUsable(this.#state) && !this.#over;
  }

  /** Whether its process may still hold memory. */
  get alive(): boolean {
    return !this.#over;
  }

  /** Settles when its process is over. */
  get exited(): Promise<unknown> {
    return this.#process.exited;
  }

  /** The ready callback: takes the token once and follows the load. False when it is not the token. */
  acceptCallback(token: string, url: string): boolean {
    const expected = this.#options.token;
    if (this.#state !== "starting" || expected === undefined || !secretsEqual(token, expected)) return false;
    this.#connected(url);
    this.#followLoad();
    return true;
  }

  /** Goes on with a worker of an earlier hive that has just shown `ready`. */
  resume(url: string, ready: ReadyResponse): void {
    this.#connected(url);
    if (ready.state === "loading") this.#followLoad();
    else this.#learn(ready);
  }

  /** Somebody is about to use it: it goes after so many seconds without a request from now on; 0 = never. */
  handOut(idleTimeoutSeconds: number): void {
    this.record.idleTimeoutSeconds = idleTimeoutSeconds;
    if (this.#state === "idle" || this.#state === "busy") this.#idle.arm(this.#api!, 0);
  }

  /** Asks the worker how it is, with `blocks` also what its slots hold; without an answer the last known stands. */
  async probe(options: { blocks?: boolean } = {}): Promise<void> {
    if (this.#state !== "idle" && this.#state !== "busy") return;
    using limit = deadline(this.#clock, PROBE_TIMEOUT_MS, this.#scope.signal);
    try {
      this.#learn(await this.#api!.ready({ ...options, signal: limit.signal }));
    } catch {
      await this.#process.look();
    }
  }

  /** It holds so much memory that no file stands behind. Too much of it is its end. */
  sawMemory(privateMb: number): void {
    if (this.#over || this.#cause === "memory") return;
    const { learned, tooMuch } = this.#memory.saw(privateMb);
    if (learned) this.#options.onEvent({ kind: "limited", worker: this });
    if (!tooMuch) return;
    const { limitMb } = this.#memory;
    if (!this.usable) {
      // It is on its way out, and may finish its answers only within its limit.
      this.#log.error("worker killed: it took too much memory", { private_mb: privateMb, limit_mb: limitMb });
      void this.#process.kill("SIGKILL");
      return;
    }
    // It must not take more in the moment that others need to hear of it.
    this.#process.kill("SIGSTOP").catch((error) => this.#log.warn("worker could not be stopped", { error }));
    this.#giveUp(tookTooMuchMemory(this.record, { privateMb, limitMb }), "memory");
  }

  /** As the wire has it and as last known. */
  info(): WorkerInfo {
    const info = this.figures.info(this.#state);
    const memory = { ...info.memory!, limit_mb: this.#memory.limitMb };
    return { ...info, memory, error: this.#error?.toBody("") };
  }

  /** As a queen is told. */
  report(): ReportedWorker {
    return { ...this.figures.report(this.#state), failure: this.#error?.message.slice(0, MAX_FAILURE_CHARS) };
  }

  /** Stops it by the ladder and waits until its process is over. Idempotent. */
  stop(): Promise<void> {
    return this.#stopping ??= this.#stop();
  }

  /** Asks it to leave unless anything runs: the worker itself decides, in one step. Whether it has agreed. */
  async yield(reason: LeaveReason): Promise<boolean> {
    if (this.#state !== "idle") return false;
    using limit = deadline(this.#clock, SHUTDOWN_ACK_TIMEOUT_MS, this.#scope.signal);
    try {
      const { accepted } = await this.#api!.shutdown({ ifIdleMs: 0, signal: limit.signal });
      if (accepted) this.#leaving(reason, { busy: false });
      return accepted;
    } catch (error) {
      this.#log.warn("worker did not say whether it leaves", { reason, error });
      return false;
    }
  }

  /** Ends all patience: a stop that is waiting goes on to SIGKILL. */
  hurry(): void {
    this.#hurry.abort();
  }

  /** Lets go of it; the process runs on. */
  detach(): void {
    this.#detached = true;
    this.#release();
    this.#process.detach();
  }

  /** Takes a failed worker off the list. */
  forget(): void {
    if (this.#move("forgotten")) this.#release();
  }

  #connected(url: string): void {
    this.record.url = url;
    this.#api = this.#options.connect({ url, apiKey: this.record.apiKey });
    this.#cancelLimit();
    this.figures.healthy();
    this.#move("called_back");
    this.#start.resolve();
    watchHealth(this.#api, {
      signal: this.#scope.signal,
      clock: this.#clock,
      log: this.#log,
      intervalMs: this.#options.healthIntervalMs,
      onAlive: () => this.figures.healthy(),
      onSilence: () => void this.#process.look(),
    }).then(() => this.#healthLost(), () => {});
  }

  #followLoad(): void {
    const { loadTimeoutMs } = this.#options;
    const beganMs = performance.now();
    this.#limit(loadTimeoutMs, () => {
      this.#fail(loadingTimeout(this.record, { ms: loadTimeoutMs, at: this.#progress }), "load_timeout");
      this.#stopUnasked();
    });
    this.#load = watchLoad(this.#api!, {
      signal: this.#scope.signal,
      clock: this.#clock,
      exited: this.#process.exited,
      onProgress: (progress) => this.#progress = progress,
    }).then((result) => {
      if (result === "over" || this.#state !== "loading") return;
      if (result !== "ready") return this.#reportedFailure(result);
      this.#loaded(0);
      this.#options.onEvent({ kind: "loaded", worker: this, loadMs: performance.now() - beganMs });
      // What it takes is known from now on.
      return this.probe();
    }, () => {});
  }

  #loaded(idleMs: number): void {
    this.#cancelLimit();
    this.figures.loaded(idleMs);
    this.#move("became_idle");
    this.#idle.arm(this.#api!, idleMs);
    watchGeneration(this.#api!, { signal: this.#scope.signal, clock: this.#clock, log: this.#log })
      .then((why) => this.#degraded(why), () => {});
    if (this.#options.pulse) {
      watchPulse(this.#api!, { signal: this.#scope.signal, clock: this.#clock, log: this.#log })
        .then((lost) => this.#giveUp(hasLostPulse(this.record, lost), PULSE_CAUSES[lost.kind]), () => {});
    }
    this.#log.info("worker ready");
  }

  #learn(ready: ReadyResponse): void {
    if (ready.state === "loading") return;
    if (ready.state === "failed") return this.#reportedFailure(errorFromBody(ready.error));
    if (ready.state === "draining") return this.#leaving("itself", { busy: true });
    if (this.#state === "loading") this.#loaded(ready.idle_ms);
    this.#move(ready.state === "idle" ? "became_idle" : "became_busy");
    if (this.figures.learn(ready)) this.#options.onEvent({ kind: "measured", worker: this });
  }

  /** It has said that it is going to leave. */
  #leaving(reason: LeaveReason, { busy }: { busy: boolean }): void {
    if (!this.#move("stop_asked")) return;
    this.#cause ??= reason;
    this.#options.onEvent({ kind: "leaving", worker: this, reason });
    this.#stopping ??= awaitExit(this.#process, this.#stopOptions(busy));
    this.#stopUnasked();
  }

  /** Stops it where nobody waits for that. */
  #stopUnasked(): void {
    this.stop().catch((error) => this.#log.error("worker could not be stopped", { error }));
  }

  async #stop(): Promise<void> {
    if (this.#over) return this.forget();
    const busy = this.#state === "busy";
    this.#cause ??= "asked";
    this.#move("stop_asked");
    this.#start.reject(new RbeeError("SHUTTING_DOWN", `The worker for ${this.record.modelRef} was stopped.`));
    await stopProcess(this.#process, { ...this.#stopOptions(busy), api: this.#api });
  }

  #stopOptions(busy: boolean) {
    return { busy, hurry: this.#hurry.signal, clock: this.#clock, log: this.#log };
  }

  /** Its own report: it leaves by itself once that is out. */
  #reportedFailure(error: RbeeError): void {
    this.#fail(error, "load_failed");
    const options = { clock: this.#clock, ms: FAILED_EXIT_TIMEOUT_MS, signal: this.#hurry.signal };
    settlesWithin(this.#process.exited, options).then((left) => left || this.#stopUnasked());
  }

  #fail(error: RbeeError, cause: ExitCause): void {
    if (nextState(this.#state, "gave_up") === undefined) return;
    this.#cancelLimit();
    this.#cause ??= cause;
    this.#error = error;
    this.#log.warn("worker failed", { code: error.code, reason: error.message });
    this.#move("gave_up");
  }

  async #callbackMissing(): Promise<void> {
    if (!this.#move("stop_asked")) return;
    this.#cause ??= "no_callback";
    this.#kill();
    const tail = await this.#options.tail();
    this.#log.error("worker killed: it did not call back", { log_tail: tail });
    this.#start.reject(noCallback(this.record, { ms: this.#options.callbackTimeoutMs, tail }));
  }

  #degraded(reason: string): void {
    if (!isUsable(this.#state)) return;
    this.#cause ??= "degraded";
    this.#log.error("worker is degraded and has to go: it answers but can't generate", { reason });
    this.#stopUnasked();
  }

  /** Kills it, after a moment in which queens hear that nothing new may go there. */
  #giveUp(error: RbeeError, cause: ExitCause): void {
    if (!this.usable) return;
    this.#cause ??= cause;
    this.#start.reject(error);
    this.#fail(error, cause);
    this.#stopping ??= killSoon(this.#process, { clock: this.#clock, hurry: this.#hurry.signal });
    this.#stopUnasked();
  }

  #healthLost(): void {
    if (!this.#move("stop_asked")) return;
    this.#cause ??= "health_lost";
    this.#log.error("worker killed: it does not answer health checks");
    this.#kill();
  }

  #kill(): void {
    this.#stopping ??= this.#process.kill("SIGKILL").then(async () => void await this.#process.exited);
    this.#stopUnasked();
  }

  async #onExit(status: ExitStatus): Promise<void> {
    if (this.#detached) return;
    this.#over = true;
    this.#cancelLimit();
    if (this.#state === "loading") {
      // What it said last may still be on its way through the socket.
      await settlesWithin(this.#load, { clock: this.#clock, ms: LAST_WORDS_TIMEOUT_MS });
    }
    if (await this.#memory.leave(status, { known: this.#cause !== undefined })) {
      this.#fail(tookTooMuchMemory(this.record, { limitMb: this.#memory.wholeLimitMb }), "memory");
      this.#cause = "memory";
    }
    if (this.#detached) return;
    const during = this.#state;
    const cause = this.#cause ?? (status.signal === null ? "died" : "signal");
    const fields = { exit_code: status.code, signal: status.signal, during, cause };
    // Whoever waits for the load reads the error in the list, and that has its last words.
    const tail = during === "loading" ? await this.#options.tail() : undefined;
    if (tail !== undefined) this.#error = diedWhileLoading(this.record, { status, tail });
    this.#options.onEvent({ kind: "exited", worker: this, status, during, cause });
    this.#move("exited");
    this.#release();
    if (this.#state === "failed") this.#limit(FAILED_KEPT_MS, () => this.forget());
    if (!isUsable(during)) return this.#log.info("worker left", fields);
    const lastWords = tail ?? await this.#options.tail();
    this.#log.error("worker died", { ...fields, log_tail: lastWords });
    if (during === "starting") {
      this.#start.reject(diedWhileStarting(this.record, { status, tail: lastWords }));
    }
  }

  #move(happening: WorkerHappening): boolean {
    const from = this.#state;
    const to = nextState(from, happening);
    if (to === undefined) return false;
    this.#state = to;
    if (!isUsable(to)) this.#idle.disarm();
    if (from !== to) this.#options.onEvent({ kind: "state", worker: this, from, to });
    return true;
  }

  /** Takes the place of whatever limit was running: a worker is only ever waited for in one way. */
  #limit(ms: number, task: () => void): void {
    this.#cancelLimit();
    this.#cancelLimit = this.#clock.after(ms, task);
  }

  #release(): void {
    this.#cancelLimit();
    this.#idle.disarm();
    this.#scope.abort();
  }
}
