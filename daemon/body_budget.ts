/** How many bytes of bodies a daemon holds at a time: a bound on each of them is none on all of them together. */
import { RbeeError } from "../protocol/errors.ts";

/** The bodies of one daemon's requests. */
export class BodyBudget {
  readonly #maxBytes: number;
  #heldBytes = 0;

  /** `maxBytes` may be exceeded by a body that is alone. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The share of one request. Release it when its answer is over. */
  open(): BodyShare {
    let own = 0;
    return {
      take: (bytes) => {
        const others = this.#heldBytes - own;
        if (others > 0 && this.#heldBytes + bytes > this.#maxBytes) {
          throw new RbeeError("QUEUE_FULL", "Too many large requests are under way. Try again in a moment.", {
            details: { held_bytes: others, limit_bytes: this.#maxBytes },
          });
        }
        own += bytes;
        this.#heldBytes += bytes;
      },
      release: () => {
        this.#heldBytes -= own;
        own = 0;
      },
    };
  }
}

/** See {@linkcode BodyBudget.open}. */
export interface BodyShare {
  /**
   * Takes more.
   *
   * @throws {RbeeError} `QUEUE_FULL` when the other requests leave too little.
   */
  take(bytes: number): void;
  /** Gives all of it back. Idempotent. */
  release(): void;
}
