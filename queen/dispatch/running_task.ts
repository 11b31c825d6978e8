/** One task while it waits or runs: its events, who follows them, and where it stands. */
import { type ErrorBody, ErrorBodySchema, RbeeError } from "../../protocol/errors.ts";
import type { TaskEvent, TaskStatus } from "../../protocol/queen_schemas.ts";
import { type RelayPiece, RelayProgress } from "../../protocol/relay_reader.ts";
import type { BegunAnswer } from "../../protocol/relay_schemas.ts";
import { DONE } from "../../protocol/sse.ts";
import { InferenceEvent } from "../../protocol/worker_schemas.ts";
import type { ClusterWorker } from "../cluster/cluster_worker.ts";
import type { StoredTask, TaskChange } from "../store/store.ts";
import type { WaitNews } from "./lease.ts";

/** Who is told what happens to a task. */
export interface TaskFollower {
  /** `seq` is absent for news of the moment. Settles when the next one can be taken. */
  event(event: TaskEvent, seq?: number): Promise<void>;
  /** Nothing more will come. */
  over(): void;
}

/** An event and its number. */
export interface NumberedEvent {
  readonly seq: number;
  readonly event: TaskEvent;
}

/** Tells one follower all events after one of a list that may grow, as fast as it takes them. */
export class Feed {
  readonly #events: readonly NumberedEvent[];
  readonly #follower: TaskFollower;
  #next: number;
  #busy = false;
  #last: (() => void) | undefined;

  /** Begins with {@linkcode wake}. */
  constructor(events: readonly NumberedEvent[], how: { afterSeq: number; follower: TaskFollower }) {
    this.#events = events;
    this.#follower = how.follower;
    const first = events.findIndex(({ seq }) => seq > how.afterSeq);
    this.#next = first < 0 ? events.length : first;
  }

  /** There may be more to tell. */
  wake(): void {
    if (!this.#busy) void this.#tell();
  }

  /** News of the moment: left out while older events are on their way. */
  news(event: TaskEvent): void {
    if (!this.#busy) void this.#follower.event(event);
  }

  /** Nothing is added any more; `failure`: why its end is not among the events. */
  end(failure?: TaskEvent): void {
    this.#last = () => {
      if (failure !== undefined) void this.#follower.event(failure);
      this.#follower.over();
    };
    this.wake();
  }

  /** Nobody follows any more. */
  stop(): void {
    this.#next = Infinity;
    this.#last = undefined;
  }

  async #tell(): Promise<void> {
    this.#busy = true;
    while (this.#next < this.#events.length) {
      const { seq, event } = this.#events[this.#next++];
      await this.#follower.event(event, seq);
    }
    this.#busy = false;
    this.#last?.();
    this.#last = undefined;
  }
}

/** Where an answer stands, as it is stored: with the tokens that were told, a worker can go on from there. */
interface State {
  seed: number;
  held: number[];
  logprobs?: unknown;
  draws: number;
  prompt_tokens: number;
}

/** A change to be stored; `state` is not sealed yet. */
export type PlainChange = Omit<TaskChange, "state"> & { state?: State | null };

/** Options of {@linkcode RunningTask}. */
export interface RunningTaskOptions {
  /** What an earlier queen has told. */
  events?: readonly NumberedEvent[];
  /** It is canceled when nobody has followed it for so long; absent: never. */
  abandonedAfterMs?: number;
  /** Stores events and a change, in one step. */
  append(events: NumberedEvent[], change: PlainChange): Promise<void>;
}

/** See above. */
export class RunningTask {
  readonly record: StoredTask;
  readonly #options: RunningTaskOptions;
  readonly #events: NumberedEvent[];
  readonly #feeds = new Set<Feed>();
  readonly #stop = new AbortController();
  readonly #ended = Promise.withResolvers<void>();
  #revision: number;
  #status: TaskStatus;
  #tokens: number;
  #strikes: number;
  #news: TaskEvent | undefined;
  #left = false;
  #abandoned: ReturnType<typeof setTimeout> | undefined;

  /** It waits. */
  constructor(record: StoredTask, options: RunningTaskOptions) {
    this.record = record;
    this.#options = options;
    this.#events = [...options.events ?? []];
    this.#revision = record.revision;
    this.#status = record.status;
    this.#tokens = record.tokens;
    this.#strikes = record.strikes;
    this.#watchFollowers();
  }

  get status(): TaskStatus {
    return this.#status;
  }

  get revision(): number {
    return this.#revision;
  }

  /** As it is now. */
  get now(): StoredTask {
    return {
      ...this.record,
      ...{ status: this.#status, tokens: this.#tokens, strikes: this.#strikes, revision: this.#revision },
    };
  }

  /** Aborts when it is to end. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Whether it is left to the next queen. */
  get left(): boolean {
    return this.#left;
  }

  /** Settles once it has ended and that is stored, or it was left. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Where it stands in the queue, if it does. */
  get queued(): Extract<TaskEvent, { type: "queued" }> | undefined {
    return this.#news?.type === "queued" ? this.#news : undefined;
  }

  /** Ends it. */
  cancel(reason: RbeeError): void {
    this.#stop.abort(reason);
  }

  /** Lets go of it as it stands. */
  leave(reason: RbeeError): void {
    this.#left = true;
    this.#stop.abort(reason);
  }

  /** Tells all after `afterSeq`, the news of the moment, and what comes. Returns how to stop that. */
  follow(follower: TaskFollower, afterSeq: number): () => void {
    const feed = new Feed(this.#events, { afterSeq, follower });
    this.#feeds.add(feed);
    feed.wake();
    if (this.#news !== undefined) feed.news(this.#news);
    clearTimeout(this.#abandoned);
    return () => {
      feed.stop();
      this.#feeds.delete(feed);
      this.#watchFollowers();
    };
  }

  /** It waits, or a model is loaded for it. */
  waiting(news: WaitNews): void {
    this.#news = news.type === "loading"
      ? news
      : { type: "queued", position: news.position, eta_ms: news.etaMs, why: news.why };
    for (const feed of [...this.#feeds]) feed.news(this.#news);
  }

  /** A worker has it. */
  async started(worker: ClusterWorker, tokens: number): Promise<void> {
    this.#news = undefined;
    await this.#append([{ type: "started", worker_id: worker.id, node: worker.node, tokens }], {
      status: "running",
    });
  }

  /** It cost a worker: stored before the next one gets it, so that a restart forgives nothing. */
  async struck(strikes: number): Promise<void> {
    await this.#append([], { strikes });
  }

  /** More of its answer: stored first, and then told. */
  async piece(piece: RelayPiece, progress: RelayProgress): Promise<void> {
    const events: TaskEvent[] = [];
    for (const block of piece.text.split("\n\n")) {
      const data = block.slice("data: ".length);
      if (data === "" || data === DONE) continue;
      const event = InferenceEvent.parse(JSON.parse(data));
      if ("token" in event) {
        events.push({ type: "token", ...event });
      } else if ("done" in event) {
        const { done: _, ...stats } = event;
        events.push({ type: "end", stats });
      } else {
        events.push({ type: "error", error: ErrorBodySchema.parse(event.error) });
      }
    }
    const last = events.at(-1);
    if (last?.type === "end") {
      return await this.#end(events, { status: "done", outcome: { stats: last.stats } });
    }
    if (last?.type === "error") {
      return await this.#end(events, { status: "failed", outcome: { error: last.error } });
    }
    const [answer] = progress.begun ?? [];
    if (answer === undefined || piece.marks.length === 0) return;
    const held = answer.held.length === 0 ? [] : answer.generated.slice(-answer.held.length);
    const state: State = {
      ...{ seed: answer.seed, held, draws: answer.draws, prompt_tokens: progress.promptTokens },
      logprobs: answer.held.some(({ logprob }) => logprob !== undefined) ? answer.held : undefined,
    };
    // A token clears it.
    const cleared = events.length > 0 && this.#strikes > 0 ? { strikes: 0 } : {};
    await this.#append(events, { tokens: progress.told, state, ...cleared });
  }

  /** It can't be brought to its end, or need not. */
  async fail(error: ErrorBody, status: "failed" | "canceled"): Promise<void> {
    await this.#end([{ type: "error", error }], { status, outcome: { error } });
  }

  /**
   * Nothing more happens here. Who follows one that is left hears nothing of that: the connection breaks off with the
   * queen, and its other end asks the next one. `failure` is the reason why its end could not be stored.
   */
  close(failure?: RbeeError): void {
    clearTimeout(this.#abandoned);
    if (!this.#left) {
      const end = failure && { type: "error" as const, error: failure.toBody(this.record.id) };
      for (const feed of [...this.#feeds]) feed.end(end);
    }
    this.#feeds.clear();
    this.#ended.resolve();
  }

  async #end(events: TaskEvent[], what: { status: TaskStatus; outcome: unknown }): Promise<void> {
    this.#news = undefined;
    await this.#append(events, {
      ...{ status: what.status, outcome: JSON.stringify(what.outcome), endedMs: Date.now() },
      ...{ state: null, tokens: this.#tokens },
    });
  }

  async #append(events: TaskEvent[], change: PlainChange): Promise<void> {
    const first = (this.#events.at(-1)?.seq ?? 0) + 1;
    const numbered = events.map((event, i) => ({ seq: first + i, event }));
    const tokens = this.#tokens + events.filter(({ type }) => type === "token").length;
    await this.#options.append(numbered, { ...change, tokens });
    this.#revision++;
    this.#tokens = tokens;
    this.#strikes = change.strikes ?? this.#strikes;
    this.#status = change.status ?? this.#status;
    this.#events.push(...numbered);
    for (const feed of [...this.#feeds]) feed.wake();
  }

  #watchFollowers(): void {
    const { abandonedAfterMs } = this.#options;
    if (abandonedAfterMs === undefined || this.#feeds.size > 0) return;
    clearTimeout(this.#abandoned);
    this.#abandoned = setTimeout(
      () => this.cancel(new RbeeError("REQUEST_CANCELED", "Nobody listened to the task any more.")),
      abandonedAfterMs,
    );
  }
}

/** Where an answer stood: what was stored of it, and the tokens that were told. */
export function progressOf(
  state: {
    seed: number;
    held: number[];
    logprobs?: BegunAnswer["held"];
    draws: number;
    prompt_tokens: number;
  },
  events: readonly { event: TaskEvent }[],
): RelayProgress {
  const told = events.flatMap(({ event }) => event.type === "token" ? [event.id] : []);
  const held = state.logprobs ?? state.held.map(() => ({}));
  return new RelayProgress({
    answers: [{ seed: state.seed, generated: [...told, ...state.held], held, draws: state.draws }],
    promptTokens: state.prompt_tokens,
    told: told.length,
  });
}
