/** How a load goes. Whoever follows late hears of the present state first. */
import type { LoadingEvent } from "../protocol/worker_schemas.ts";

/** The progress of one load. */
export class LoadingProgress {
  readonly #listeners = new Set<(event: LoadingEvent) => void>();
  #last: LoadingEvent = { stage: "loading_to_vram", layers_loaded: 0, layers_total: 0, vram_mb: 0 };

  /** Tells everybody who follows. */
  publish(event: LoadingEvent): void {
    this.#last = event;
    for (const listener of this.#listeners) listener(event);
  }

  /** Tells the present state at once, then every change. Returns how to stop listening. */
  follow(listener: (event: LoadingEvent) => void): () => void {
    this.#listeners.add(listener);
    listener(this.#last);
    return () => this.#listeners.delete(listener);
  }
}
