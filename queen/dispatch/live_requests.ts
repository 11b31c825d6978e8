/** The requests that wait or run in this queen, by whichever route they came: to be looked at, and to be canceled. */
import { RbeeError } from "../../protocol/errors.ts";
import type { ClusterWorker } from "../cluster/cluster_worker.ts";
import type { FailoverRequest } from "./failover.ts";
import type { WaitNews } from "./lease.ts";

/** All of them. */
export class LiveRequests implements Iterable<LiveRequest> {
  readonly #all = new Map<string, LiveRequest>();
  #count = 0;

  /** One has come; it is over when the returned one is disposed of. */
  enter(request: FailoverRequest): LiveRequest {
    const { id } = request.wanted;
    const live = new LiveRequest(request, {
      place: ++this.#count,
      onEnd: () => {
        if (this.#all.get(id) === live) this.#all.delete(id);
      },
    });
    this.#all.set(id, live);
    return live;
  }

  get(id: string): LiveRequest | undefined {
    return this.#all.get(id);
  }

  /** In the order in which they came. */
  [Symbol.iterator](): Iterator<LiveRequest> {
    return this.#all.values();
  }
}

/** One of them. */
export class LiveRequest implements Disposable {
  readonly request: FailoverRequest;
  /** Grows from each to the next. */
  readonly place: number;
  readonly #onEnd: () => void;
  readonly #stop = new AbortController();
  readonly #ended = Promise.withResolvers<void>();
  #news: WaitNews | undefined;
  #worker: ClusterWorker | undefined;
  #sinceMs = Date.now();

  /** It waits. */
  constructor(request: FailoverRequest, how: { place: number; onEnd: () => void }) {
    this.request = request;
    this.place = how.place;
    this.#onEnd = how.onEnd;
  }

  /** Aborts when it is canceled. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** What it was told last, while it waits. */
  get news(): WaitNews | undefined {
    return this.#news;
  }

  /** Where it runs; undefined: it waits. */
  get worker(): ClusterWorker | undefined {
    return this.#worker;
  }

  /** Since when it waits, or runs where it does, in ms since 1970. */
  get sinceMs(): number {
    return this.#sinceMs;
  }

  /** It waits, or goes on doing so. */
  waits(news?: WaitNews): void {
    if (this.#worker !== undefined) this.#sinceMs = Date.now();
    this.#worker = undefined;
    this.#news = news;
  }

  /** It was given to a worker. */
  runs(worker: ClusterWorker): void {
    this.#sinceMs = Date.now();
    this.#worker = worker;
    this.#news = undefined;
  }

  /** Ends it; settles when that is done. */
  async cancel(): Promise<void> {
    this.#stop.abort(new RbeeError("REQUEST_CANCELED", "The request was canceled."));
    await this.#ended.promise;
  }

  [Symbol.dispose](): void {
    this.#onEnd();
    this.#ended.resolve();
  }
}
