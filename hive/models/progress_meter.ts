/** From a count of bytes to events that a person can follow: seldom enough, speed smoothed, time left. */
import type { DownloadEvent } from "../../protocol/hive_schemas.ts";
import type { Timing } from "./timing.ts";

/** The speed shown forgets what is older than some multiples of this. */
const SMOOTHING_MS = 3_000;
const BYTES_PER_MB = 1_000_000;

/** Options of {@linkcode ProgressMeter}. */
export interface ProgressMeterOptions {
  /** Of the whole model. */
  totalBytes: number;
  /** There already. */
  doneBytes: number;
  /** Clock. */
  timing: Timing;
  /** Least time between two events. */
  intervalMs: number;
  /** Receives the events. */
  emit: (event: Extract<DownloadEvent, { stage: "downloading" }>) => void;
}

/** Measures one download. */
export class ProgressMeter {
  readonly #options: ProgressMeterOptions;
  #doneBytes: number;
  #bytesPerMs: number | undefined;
  #shownBytes: number;
  #shownAtMs: number;

  /** Emits the first event. */
  constructor(options: ProgressMeterOptions) {
    this.#options = options;
    this.#doneBytes = this.#shownBytes = options.doneBytes;
    this.#shownAtMs = options.timing.now();
    this.#emit();
  }

  /** So many bytes are there now; may go back. */
  update(doneBytes: number): void {
    this.#doneBytes = doneBytes;
    const passedMs = this.#options.timing.now() - this.#shownAtMs;
    if (passedMs >= this.#options.intervalMs) this.#show(passedMs);
  }

  /** Emits the present state: the last one, however soon. */
  flush(): void {
    if (this.#shownBytes !== this.#doneBytes) this.#show(this.#options.timing.now() - this.#shownAtMs);
  }

  #show(passedMs: number): void {
    if (passedMs > 0) {
      const cameBytes = Math.max(0, this.#doneBytes - this.#shownBytes);
      const share = this.#bytesPerMs === undefined ? 1 : 1 - Math.exp(-passedMs / SMOOTHING_MS);
      this.#bytesPerMs = (this.#bytesPerMs ?? 0) * (1 - share) + cameBytes / passedMs * share;
    }
    this.#shownBytes = this.#doneBytes;
    this.#shownAtMs += passedMs;
    this.#emit();
  }

  #emit(): void {
    const { totalBytes, emit } = this.#options;
    const bytesPerMs = this.#bytesPerMs ?? 0;
    const leftSeconds = (totalBytes - this.#doneBytes) / bytesPerMs / 1000;
    emit({
      stage: "downloading",
      bytes_downloaded: this.#doneBytes,
      bytes_total: totalBytes,
      speed_mbps: Math.round(bytesPerMs * 1000 / BYTES_PER_MB * 100) / 100,
      ...bytesPerMs > 0 && { eta_seconds: Math.ceil(leftSeconds) },
    });
  }
}
