/** Downloads that a hive did not bring to their end: the next one goes on, however long the network stays away. */
import type { Logger } from "../../daemon/log.ts";
import { RbeeError } from "../../protocol/errors.ts";
import type { Catalog } from "./catalog.ts";
import type { DownloadJob } from "./download_job.ts";
import { MAX_RESUMED_DOWNLOAD, RESUME_RETRY_MAX_MS, RESUME_RETRY_MS } from "./limits.ts";
import type { Timing } from "./timing.ts";

/** What time may heal: a network or a hub that is away, a disk that is full or gone. */
const PASSING = ["DOWNLOAD_FAILED", "DOWNLOAD_TIMEOUT", "INSUFFICIENT_DISK", "MODEL_UNREACHABLE"];

type Note = "downloadBegan" | "downloadEnded" | "downloadIsHarmless";

/** Notes which downloads run, and takes up what an earlier hive has left. */
export class UnfinishedDownloads {
  readonly #options: { catalog: Catalog; timing: Timing; log: Logger };
  /** References that an earlier hive began with; they are tried until they come to an end. */
  readonly #resuming = new Set<string>();
  #closed = false;

  /** Nothing is noted before {@linkcode follow}. */
  constructor(options: { catalog: Catalog; timing: Timing; log: Logger }) {
    this.#options = options;
  }

  /** So that the next hive goes on with it when this one can't. */
  follow(job: DownloadJob): void {
    const { reference } = job;
    this.#note("downloadBegan", reference);
    void job.ended.then(() => {
      if (!this.#resuming.has(reference)) this.#note("downloadEnded", reference);
    });
  }

  /** Takes up what is left, until `signal` ends that. `obtain` brings one model here. */
  resume(obtain: (reference: string) => Promise<void>, signal: AbortSignal): void {
    for (const reference of this.#options.catalog.takeUpDownloads({ maxResumed: MAX_RESUMED_DOWNLOAD })) {
      this.#resuming.add(reference);
      void this.#resumeOne(reference, { obtain, signal }).then(() => {
        this.#resuming.delete(reference);
        this.#note("downloadEnded", reference);
      });
    }
  }

  /** Nothing is noted any more: what runs is left to the next hive. */
  close(): void {
    this.#closed = true;
  }

  /** Tries until the model is here, or can't come, or the signal ends it. Never throws. */
  async #resumeOne(
    reference: string,
    by: { obtain: (reference: string) => Promise<void>; signal: AbortSignal },
  ): Promise<void> {
    const { signal } = by;
    const log = this.#options.log.child({ model_ref: reference });
    log.info("download resumed");
    for (let waitMs = RESUME_RETRY_MS; !signal.aborted; waitMs = Math.min(2 * waitMs, RESUME_RETRY_MAX_MS)) {
      try {
        return await by.obtain(reference);
      } catch (error) {
        if (signal.aborted) return;
        const passing = error instanceof RbeeError && PASSING.includes(error.code);
        log.warn("resumed download failed", { error, tried_again: passing });
        if (!passing) return;
        // The hive has lived through it: it is not what ends hives.
        this.#note("downloadIsHarmless", reference);
      }
      await this.#options.timing.delay(waitMs, signal).catch(() => {});
    }
  }

  /** What can't be noted costs the resumption, not the download. */
  #note(what: Note, reference: string): void {
    try {
      if (!this.#closed) this.#options.catalog[what](reference);
    } catch (error) {
      this.#options.log.error("download not noted", { model_ref: reference, error });
    }
  }
}
