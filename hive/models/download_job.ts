/** One download as others see it: an id, its latest event, and those who follow it. */
import type { DownloadEvent } from "../../protocol/hive_schemas.ts";
import { RbeeError, toRbeeError } from "../../protocol/errors.ts";

/** The event that ends a download. */
export type TerminalEvent = Extract<DownloadEvent, { stage: "complete" | "error" }>;

/** Whether nothing follows this event. */
export function isTerminal(event: DownloadEvent): event is TerminalEvent {
  return event.stage === "complete" || event.stage === "error";
}

/** How a download ended: with the file's path, or with an error. */
export type DownloadOutcome = { localPath: string } | { error: RbeeError };

/** States: running (no outcome) → ended (an outcome, for good). Only its owner emits and ends. */
export class DownloadJob {
  /** What a follower asks for; also the correlation id of its error. */
  readonly id: string = crypto.randomUUID();
  /** The reference it is for, in normal form. */
  readonly reference: string;
  /** Which bytes it fetches, once known; two jobs with the same key must not run at once. */
  transferKey: string | undefined;
  readonly #cancel = new AbortController();
  readonly #listeners = new Set<(event: DownloadEvent) => void>();
  readonly #worthFollowing = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<DownloadOutcome>();
  #present: DownloadEvent | undefined;
  #running = true;
  readonly #followers = new Set<() => void>();

  /** A job that runs and has nothing to tell yet. */
  constructor(reference: string) {
    this.reference = reference;
  }

  /** Whether it still runs. */
  get running(): boolean {
    return this.#running;
  }

  /** Aborts when the job is canceled. */
  get signal(): AbortSignal {
    return this.#cancel.signal;
  }

  /** Resolves when the first bytes are about to be fetched, or the hub must be asked again; maybe never. */
  get worthFollowing(): Promise<void> {
    return this.#worthFollowing.promise;
  }

  /** Resolves with the outcome; never rejects. */
  get ended(): Promise<DownloadOutcome> {
    return this.#ended.promise;
  }

  /** Asks the work to stop; resolves when it has. What was fetched is kept. */
  async cancel(reason: RbeeError): Promise<void> {
    this.#cancel.abort(reason);
    await this.ended;
  }

  /** Passes an event on. After the end, nothing happens. */
  emit(event: DownloadEvent): void {
    if (!this.#running) return;
    if (event.stage === "downloading" || event.stage === "retrying") this.#worthFollowing.resolve();
    this.#present = event;
    for (const listener of [...this.#listeners]) listener(event);
  }

  /** Ends the job. `thrown` that is not meant to be seen becomes `INTERNAL`. */
  end(outcome: { localPath: string } | { thrown: unknown }): void {
    if ("localPath" in outcome) {
      this.emit({ stage: "complete", local_path: outcome.localPath });
      this.#settle(outcome);
    } else {
      const error = toRbeeError(outcome.thrown);
      this.emit({ stage: "error", error: error.toBody(this.id) });
      this.#settle({ error });
    }
  }

  /** Tells `listener` the present state at once and every event to come, up to the terminal one. */
  subscribe(listener: (event: DownloadEvent) => void): () => void {
    if (this.#running) this.#listeners.add(listener);
    if (this.#present !== undefined) listener(this.#present);
    return () => this.#listeners.delete(listener);
  }

  /** The same for whoever the download runs for: counted as a follower until the returned function is called. */
  follow(listener: (event: DownloadEvent) => void): () => void {
    const unsubscribe = this.subscribe(listener);
    const leave = () => {
      this.#followers.delete(leave);
      unsubscribe();
    };
    this.#followers.add(leave);
    return leave;
  }

  /** How many follow it. */
  get followers(): number {
    return this.#followers.size;
  }

  #settle(outcome: DownloadOutcome): void {
    this.#running = false;
    this.#listeners.clear();
    this.#ended.resolve(outcome);
  }
}
