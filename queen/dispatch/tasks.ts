/**
 * Tasks: work that survives its client's connection and its queen. The one owner of each; what a client is told was
 * stored before.
 *
 * | from | to | when |
 * | --- | --- | --- |
 * | queued | running | a worker has begun |
 * | queued, running | done | its answer is over |
 * | | failed | it can't be brought to its end |
 * | | canceled | its owner, or the queen's, said so; or its key was removed |
 */
import { createHash } from "node:crypto";
import type { Logger } from "../../daemon/log.ts";
import { RbeeError, toRbeeError } from "../../protocol/errors.ts";
import type { TaskEvent, TaskInfo, TaskReceipt, TaskRequest } from "../../protocol/queen_schemas.ts";
import { DEFAULT_MAX_TOKENS } from "../../protocol/limits.ts";
import { RelayProgress } from "../../protocol/relay_reader.ts";
import { type Caller, may } from "../../protocol/rights.ts";
import { QUEEN_ROUTES, routePath, WORKER_ROUTES } from "../../protocol/routes.ts";
import { type PromptText, promptTextOf } from "../cluster/prefixes.ts";
import { ABANDONED_AFTER_MS, PRUNE_INTERVAL_MS, TASK_KEPT_MS } from "../limits.ts";
import type { QueenParts } from "../parts.ts";
import type { Seal } from "../store/seal.ts";
import type { Store, StoredTask, TaskChange } from "../store/store.ts";
import type { AnswerJob } from "./answers.ts";
import { askedIn, type Charge } from "./charges.ts";
import { newJobId } from "./front_door.ts";
import { type Admission, admit, admitAgain } from "./admission.ts";
import { expectedTokens, promptTokensOf } from "./requests.ts";
import { shuttingDown } from "./scheduler.ts";
import { Feed, type PlainChange, progressOf, RunningTask, type TaskFollower } from "./running_task.ts";

/** Options of {@linkcode Tasks}. */
export interface TasksOptions {
  parts: QueenParts;
  store: Store;
  seal: Seal;
  log: Logger;
}

/** See above. */
export class Tasks {
  readonly #parts: QueenParts;
  readonly #store: Store;
  readonly #seal: Seal;
  readonly #log: Logger;
  readonly #running = new Map<string, RunningTask>();
  #closing = false;
  #prunedMs = 0;

  /** Nothing runs before {@linkcode submit} or {@linkcode resume}. */
  constructor(options: TasksOptions) {
    this.#parts = options.parts;
    this.#store = options.store;
    this.#seal = options.seal;
    this.#log = options.log;
  }

  /** Takes work in; it is stored when this resolves. */
  async submit(request: TaskRequest, by: { caller: Caller; correlationId: string }): Promise<TaskReceipt> {
    const { config, scheduler, charges, keys } = this.#parts;
    const { caller, correlationId } = by;
    if (this.#closing) throw shuttingDown();
    const { timeout = config.job_timeout, stream, ...rest } = request;
    const admission = admit(this.#parts, { caller, request, wishes: request });
    const { model, priority, places, context } = admission;
    const asked = { ...rest, model, priority };
    const text = this.#textOf(asked, caller.id);
    // Refused at once rather than accepted and failed.
    const { node, backend, device } = asked;
    const decision = scheduler.decide({ ...places, model, node, backend, device, embeds: false });
    if (decision.kind === "never") throw new RbeeError(decision.code, decision.why);
    const releasePlace = scheduler.reserve({ key: caller.id, share: keys.shareOf(caller.id), model });
    const payer = { id: newJobId(), key: caller.id, model };
    const bound = charges.boundOf({ ...payer, context }, costOf(asked, text));
    asked.max_tokens ??= bound && Math.min(bound, DEFAULT_MAX_TOKENS);
    const cost = { ...costOf(asked, text), bounded: bound !== undefined };
    const charge = await charges.reserve({ ...payer, context }, cost).catch((error) => {
      releasePlace();
      throw error;
    });
    const createdMs = Date.now();
    const json = JSON.stringify(asked);
    const record: StoredTask = {
      ...payer,
      priority,
      status: "queued",
      promptHash: createHash("sha256").update(asked.prompt ?? JSON.stringify(asked.messages)).digest("hex"),
      createdMs,
      deadlineMs: createdMs + timeout * 1000,
      endedMs: null,
      tokens: 0,
      state: null,
      strikes: 0,
      outcome: null,
      revision: 0,
    };
    try {
      await this.#store.addTask(record, await this.#seal.closeLong(json));
    } catch (error) {
      charge.end();
      throw error;
    } finally {
      releasePlace();
    }
    const task = this.#start(record, { admission, asked, text, charge, correlationId, attached: stream });
    return {
      job_id: record.id,
      status: task.status,
      queue_position: task.queued?.position,
      eta_ms: task.queued?.eta_ms,
      events_url: routePath(QUEEN_ROUTES.taskEvents, { id: record.id }),
    };
  }

  /** Goes on with what an earlier queen left. */
  async resume(): Promise<void> {
    const { charges, accounts } = this.#parts;
    for (const record of await this.#store.unfinishedTasks()) {
      const prompt = await this.#store.sealedPrompt(record.id);
      const text = prompt && await this.#seal.openLong(prompt);
      const state = record.state === null ? undefined : this.#seal.open(record.state);
      if (text === undefined || (record.state !== null && state === undefined)) {
        await this.#giveUp(record, lost());
        continue;
      }
      const asked = JSON.parse(text) as Asked;
      let admission: Admission;
      try {
        admission = admitAgain(this.#parts, { key: record.key, request: asked, priority: record.priority });
      } catch (error) {
        await this.#giveUp(record, toRbeeError(error));
        continue;
      }
      const promptText = this.#textOf(asked, record.key);
      const cost = { ...costOf(asked, promptText), bounded: true };
      const charge = charges.adopt({ ...record, context: admission.context }, cost);
      const events = await this.#stored(record.id, 0);
      const progress = state === undefined ? undefined : progressOf(JSON.parse(state), events);
      this.#log.info("task resumed", { job_id: record.id, status: record.status, tokens: record.tokens });
      const correlationId = crypto.randomUUID();
      this.#start(record, {
        ...{ admission, asked, text: promptText, charge, correlationId, attached: false },
        ...{ events, progress },
      });
    }
    // What ran beside the tasks has ended with its queen.
    accounts.chargeLeft();
  }

  /**
   * How a task is.
   *
   * @throws {RbeeError} `TASK_NOT_FOUND`.
   */
  async info(id: string, caller: Caller): Promise<TaskInfo> {
    const record = await this.#require(id, caller);
    const outcome = record.outcome === null ? undefined : JSON.parse(record.outcome);
    return {
      job_id: id,
      status: record.status,
      model: record.model,
      priority: record.priority,
      created_unix: record.createdMs / 1000,
      ended_unix: record.endedMs === null ? null : record.endedMs / 1000,
      tokens: record.tokens,
      ...outcome,
    };
  }

  /**
   * Tells all events after one, and then those that come. Returns how to stop that.
   *
   * @throws {RbeeError} `TASK_NOT_FOUND`.
   */
  async follow(
    id: string,
    options: { caller: Caller; afterSeq: number; follower: TaskFollower },
  ): Promise<() => void> {
    const { caller, afterSeq, follower } = options;
    const running = this.#running.get(id);
    if (running !== undefined) {
      requireOwn(running.record, caller);
      return running.follow(follower, afterSeq);
    }
    await this.#require(id, caller);
    const feed = new Feed(await this.#stored(id, afterSeq), { afterSeq, follower });
    feed.end();
    return () => feed.stop();
  }

  /**
   * Ends a task; idempotent.
   *
   * @throws {RbeeError} `TASK_NOT_FOUND`.
   */
  async cancel(id: string, caller: Caller): Promise<void> {
    const running = this.#running.get(id);
    if (running === undefined) return void await this.#require(id, caller);
    requireOwn(running.record, caller);
    running.cancel(new RbeeError("REQUEST_CANCELED", "The task was canceled."));
    await running.ended;
  }

  /** Forgets what ended long ago. */
  tick(): void {
    const nowMs = Date.now();
    if (nowMs - this.#prunedMs < PRUNE_INTERVAL_MS) return;
    this.#prunedMs = nowMs;
    this.#store.prune(nowMs - TASK_KEPT_MS).catch((error) => this.#log.error("old tasks stay", { error }));
  }

  /** Takes nothing more; what runs is left to the next queen, as it stands. */
  async close(): Promise<void> {
    this.#closing = true;
    const all = [...this.#running.values()];
    for (const task of all) task.leave(shuttingDown());
    await Promise.all(all.map(({ ended }) => ended));
  }

  /** Beginnings are shared with what the same key has asked, and with nothing else. */
  #textOf(asked: Asked, key: string): PromptText {
    return promptTextOf(asked.model, { request: asked, scope: this.#parts.keys.cacheScopeOf(key) });
  }

  #start(
    record: StoredTask,
    how: {
      admission: Admission;
      asked: Asked;
      text: PromptText;
      charge: Charge;
      correlationId: string;
      attached: boolean;
      events?: { seq: number; event: TaskEvent }[];
      progress?: RelayProgress;
    },
  ): RunningTask {
    const { admission, asked, text, charge, correlationId, attached, events, progress } = how;
    const { model, priority, places } = admission;
    const task: RunningTask = new RunningTask(record, {
      events,
      abandonedAfterMs: attached ? ABANDONED_AFTER_MS : undefined,
      append: (events, change) => this.#append(task, { events, change }),
    });
    this.#running.set(record.id, task);
    const { answers, cluster, commonPrefixes, keys, now, sessions, metrics } = this.#parts;
    if (progress !== undefined) charge.began(progress);
    const key = keys.use(record.key);
    const endWithKey = () => task.cancel(key.signal.reason);
    if (key.signal.aborted) endWithKey();
    key.signal.addEventListener("abort", endWithKey, { once: true });
    const { model: _, priority: __, node, backend, device, session_id, ...request } = asked;
    const leftMs = record.deadlineMs - Date.now();
    const sinceMs = now() - Math.max(0, Date.now() - record.createdMs);
    const job: AnswerJob = {
      route: QUEEN_ROUTES.submit.path,
      path: WORKER_ROUTES.inference.path,
      request: { ...request, stream: true },
      stream: true,
      text,
      cacheScope: keys.cacheScopeOf(record.key),
      common: commonPrefixes.headerFor(model, asked),
      wanted: {
        ...{ id: record.id, key: record.key, share: keys.shareOf(record.key) },
        ...{ ...places, model, node, backend, device, priority },
        ...{ sinceMs, deadlineMs: now() + leftMs, embeds: false, promptTokens: promptTokensOf(text) },
        tokens: expectedTokens(text, { maxTokens: asked.max_tokens, usual: cluster.paces.tokens(model) }),
        accepted: true,
        patient: events === undefined ? "gone" : "any",
        preferred: session_id && sessions.get(session_id),
      },
      startedUnix: Math.floor(record.createdMs / 1000),
      correlationId,
      progress,
      strikes: record.strikes,
    };
    const run = async () => {
      try {
        await answers.run(job, {
          signal: task.signal,
          sink: {
            waiting: (news) => task.waiting(news),
            started: (worker, progress) => {
              if (session_id !== undefined) sessions.set(session_id, worker.id);
              charge.began(progress);
              return task.started(worker, progress.told);
            },
            struck: (strikes) => task.struck(strikes),
            piece: (piece, progress) => {
              charge.advanced();
              return task.piece(piece, progress);
            },
          },
        });
        metrics.ended(task.status === "done" ? "done" : "failed");
        if (task.status !== "done" && task.status !== "failed") throw new Error("The answer has no end.");
      } catch (thrown) {
        if (task.left) return;
        const canceled = task.signal.aborted;
        const error = toRbeeError(canceled ? task.signal.reason : thrown);
        if (error.code === "INTERNAL") {
          this.#log.error("task failed", { job_id: record.id, error: error.cause });
        }
        metrics.ended(canceled ? "canceled" : "failed");
        await task.fail(error.toBody(correlationId), canceled ? "canceled" : "failed");
      }
    };
    run().then(() => undefined, (error) => {
      this.#log.error("the end of a task was not stored", { job_id: record.id, error });
      return toRbeeError(error);
    }).then((failure) => {
      key[Symbol.dispose]();
      // One that is left keeps what is reserved for it, for the next queen.
      if (!task.left) charge.end();
      this.#running.delete(record.id);
      task.close(failure);
    });
    return task;
  }

  async #append(
    task: RunningTask,
    what: { events: { seq: number; event: TaskEvent }[]; change: PlainChange },
  ): Promise<void> {
    const { events, change: { state, ...plain } } = what;
    const sealed = state && this.#seal.close(JSON.stringify(state));
    const stored: TaskChange = state === undefined ? plain : { ...plain, state: sealed };
    await this.#store.append(task.record.id, {
      revision: task.revision,
      change: stored,
      events: events.length === 0 ? undefined : {
        seq: events[0].seq,
        count: events.length,
        data: this.#seal.close(JSON.stringify(events.map(({ event }) => event))),
      },
    });
  }

  /** Ends a task of an earlier queen that nobody goes on with. */
  async #giveUp(record: StoredTask, reason: RbeeError): Promise<void> {
    const error = reason.toBody(crypto.randomUUID());
    const seq = (await this.#store.events(record.id, 0)).reduce(
      (last, { seq, count }) => Math.max(last, seq + count - 1),
      0,
    );
    await this.#store.append(record.id, {
      revision: record.revision,
      events: { seq: seq + 1, count: 1, data: this.#seal.close(JSON.stringify([{ type: "error", error }])) },
      change: {
        ...{ status: "failed", endedMs: Date.now(), state: null },
        outcome: JSON.stringify({ error }),
      },
    });
    // Of one that no worker has had nothing was taken; the rest is charged with what nobody goes on with.
    if (record.status !== "queued") return;
    this.#parts.accounts.adopt(record.key, { id: record.id, tokens: 0 }).settle(0);
  }

  async #stored(id: string, afterSeq: number): Promise<{ seq: number; event: TaskEvent }[]> {
    const all = await this.#store.events(id, afterSeq);
    return all.flatMap(({ seq, data }) => {
      const events: TaskEvent[] = JSON.parse(this.#seal.open(data) ?? "[]");
      return events.map((event, i) => ({ seq: seq + i, event }));
    }).filter(({ seq }) => seq > afterSeq);
  }

  async #require(id: string, caller: Caller): Promise<StoredTask> {
    const running = this.#running.get(id);
    const record = running?.now ?? await this.#store.task(id);
    if (record === undefined) throw notFound(id);
    requireOwn(record, caller);
    return record;
  }
}

/** A request as it is kept. */
type Asked = Omit<TaskRequest, "timeout" | "stream">;

/** What a task may take of its key's budget. */
function costOf(asked: Asked, text: PromptText) {
  return askedIn(WORKER_ROUTES.inference.path, asked, promptTokensOf(text));
}

function requireOwn({ id, key }: { id: string; key: string }, caller: Caller): void {
  // Whose it is not learns nothing of it.
  if (!may(caller, "owner") && caller.id !== key) throw notFound(id);
}

function lost(): RbeeError {
  return new RbeeError(
    "SHUTTING_DOWN",
    "The machine was started anew, and what was asked went with its memory. Send it again.",
  );
}

function notFound(id: string): RbeeError {
  return new RbeeError("TASK_NOT_FOUND", `There is no task ${JSON.stringify(id.slice(0, 64))}.`);
}
