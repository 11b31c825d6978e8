/** The last lines of one log in memory, within two bounds. */
import type { LogLine } from "../../protocol/hive_schemas.ts";
import { LOG_RING_MAX_CHARS, LOG_RING_MAX_LINES } from "../limits.ts";

/** A line that is kept. */
export interface KeptLine {
  /** Grows with every line of a hive, whatever log it is in. */
  readonly seq: number;
  /** Its time, in ms since 1970. */
  readonly timeMs: number;
  /** Whose it is or of whom it speaks. */
  readonly workerId?: string;
  /** As the wire has it. */
  readonly json: string;
}

/** A line with its place in the order of all. */
export function keptLine(seq: number, line: LogLine): KeptLine {
  return { seq, timeMs: Date.parse(line.time), workerId: line.worker_id, json: JSON.stringify(line) };
}

/** Keeps the latest lines and lets the oldest go. */
export class LogRing {
  readonly #maxLines: number;
  readonly #maxChars: number;
  #lines: KeptLine[] = [];
  /** Lines before this place are given up already: moving all others for each of them would cost more. */
  #first = 0;
  #chars = 0;

  /** Bounds default to {@linkcode LOG_RING_MAX_LINES} and {@linkcode LOG_RING_MAX_CHARS}. */
  constructor(bounds: { maxLines?: number; maxChars?: number } = {}) {
    this.#maxLines = bounds.maxLines ?? LOG_RING_MAX_LINES;
    this.#maxChars = bounds.maxChars ?? LOG_RING_MAX_CHARS;
  }

  /** Adds a line; its `seq` is above that of every line before it. */
  push(line: KeptLine): void {
    this.#lines.push(line);
    this.#chars += line.json.length;
    while (this.#lines.length - this.#first > this.#maxLines || this.#chars > this.#maxChars) {
      this.#chars -= this.#lines[this.#first].json.length;
      this.#first++;
    }
    if (this.#first > this.#lines.length / 2) {
      this.#lines = this.#lines.slice(this.#first);
      this.#first = 0;
    }
  }

  /** Lines that came after the one with this `seq`, oldest first. */
  after(seq: number): KeptLine[] {
    let from = this.#lines.length;
    while (from > this.#first && this.#lines[from - 1].seq > seq) from--;
    return this.#lines.slice(from);
  }
}
