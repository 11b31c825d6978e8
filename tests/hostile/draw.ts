/** What the generators of hostile input draw from: the same for the same seed, and smaller when it is to be shrunk. */
import { Random } from "../soak/random.ts";

/** Which entry of the corpus is drawn. */
export interface DrawAt {
  seed: number;
  /** A number for each kind, so that no two draw alike. */
  stream: number;
  index: number;
  /** Share of the drawn sizes, above 0 up to 1: a failing entry is made smaller with it. Default: 1. */
  scale?: number;
}

/** Random choices for one entry. */
export class Draw extends Random {
  readonly #scale: number;

  constructor({ seed, stream, index, scale = 1 }: DrawAt) {
    super(seed, stream, index);
    this.#scale = scale;
  }

  /** How large something is: small sizes are as likely as large ones. */
  size(least: number, most: number): number {
    return this.scaled(least * (most / least) ** this.next());
  }

  /** The share of a size that is asked for. */
  scaled(size: number): number {
    return Math.max(1, Math.round(size * this.#scale));
  }

  /** So many, each made on its own. */
  list<T>(count: number, make: (index: number) => T): T[] {
    return Array.from({ length: count }, (_, index) => make(index));
  }

  /** Some of them joined, about so many characters. */
  text(units: readonly string[], characters: number): string {
    const parts: string[] = [];
    for (let length = 0; length < characters;) {
      const unit = this.pick(units);
      parts.push(unit);
      length += unit.length;
    }
    return parts.join("");
  }
}

/** `unit` over and over, about so many characters. */
export function repeated(unit: string, characters: number): string {
  return unit.repeat(Math.max(1, Math.ceil(characters / unit.length)));
}
