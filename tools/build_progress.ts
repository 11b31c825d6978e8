/** What a person sees of a build: one line that is redrawn on a terminal, a line every ten percent elsewhere. */

/** How far a build is. */
export interface BuildStep {
  /** 0 … 100, whole. */
  percent: number;
  /** `3/129`; make does not tell. */
  count?: string;
  /** What is being made, as short as can be: `common/chat.cpp`. */
  what: string;
}

/** Where the lines go. */
export interface BuildProgressOptions {
  /** Whether lines can be redrawn. */
  terminal: boolean;
  /** Width of the terminal. */
  columns: number;
  /** Takes text as it stands, control sequences included. */
  write: (text: string) => void;
}

/** Without a terminal, a line each time this share more is done. */
const PERCENT_PER_LINE = 10;
/** Below this many steps a build is over before a line could be read. */
const STEPS_WORTH_SHOWING = 10;

/** Reads ninja's `[3/129] Building …` or make's `[ 12%] Building …`; anything else is no step. */
export function parseBuildStep(line: string): BuildStep | undefined {
  const match = /^\[\s*(\d+)(?:\/(\d+)|%)\]\s*(.*)$/.exec(line);
  if (!match) return undefined;
  const [done, total, what] = [Number(match[1]), Number(match[2]), shortName(match[3])];
  if (!match[2]) return { percent: done, what };
  if (total < STEPS_WORTH_SHOWING) return undefined;
  return { percent: Math.floor(100 * done / total), count: `${done}/${total}`, what };
}

/** Draws the progress of one build. */
export class BuildProgress {
  readonly #options: BuildProgressOptions;
  #isDrawn = false;
  #shownPercent = 0;

  constructor(options: BuildProgressOptions) {
    this.#options = options;
  }

  /** One step further. */
  step(step: BuildStep): void {
    const { percent, count, what } = step;
    const text = `Building the engine: ${String(percent).padStart(3)} %${count ? ` (${count})` : ""}`;
    const { terminal, columns, write } = this.#options;
    if (terminal) {
      write(`\r\x1b[2K${`${text}  ${what}`.slice(0, columns - 1)}`);
      this.#isDrawn = true;
    } else if (percent >= this.#shownPercent + PERCENT_PER_LINE) {
      this.#shownPercent = percent - percent % PERCENT_PER_LINE;
      write(`${text}\n`);
    }
  }

  /** A line that stays. */
  say(line: string): void {
    this.clear();
    this.#options.write(`${line}\n`);
  }

  /** Takes the redrawn line away. */
  clear(): void {
    if (this.#isDrawn) this.#options.write("\r\x1b[2K");
    this.#isDrawn = false;
  }
}

/** `Building CXX object llama.cpp/common/CMakeFiles/llama-common.dir/chat.cpp.o` → `llama.cpp/common/chat.cpp` */
function shortName(text: string): string {
  const object = /(\S+)\.o$/.exec(text);
  return object ? object[1].replace(/CMakeFiles\/[^/]+\.dir\//, "") : text;
}
