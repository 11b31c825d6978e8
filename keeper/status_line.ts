/**
 * One line of a terminal that is written over again and again. Lines are cut to the window's width and wrapping is
 * off while it is up, so that narrowing the window tears nothing.
 */

const HIDE_CURSOR_AND_WRAP = "\x1b[?25l\x1b[?7l";
const SHOW_CURSOR_AND_WRAP = "\x1b[?7h\x1b[?25h";
const CLEAR_TO_END = "\x1b[J";
const DEFAULT_COLUMNS = 80;

/** Where a status line draws. */
export interface Terminal {
  /** Writes at once. */
  write(text: string): void;
  /** The window's present width. */
  columns(): number;
}

/** See the file's comment. Whoever shows a line must {@linkcode finish} or {@linkcode clear} it. */
export class StatusLine {
  readonly #terminal: Terminal;
  #shown: string | undefined;

  /** Draws nothing yet. */
  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** Whether there is a line up. */
  get active(): boolean {
    return this.#shown !== undefined;
  }

  /** Shows `text` in place of what was shown before. */
  update(text: string): void {
    const columns = Math.max(2, this.#terminal.columns() || DEFAULT_COLUMNS);
    const cut = text.slice(0, columns - 1);
    if (cut === this.#shown) return;
    this.#terminal.write(`${this.#shown === undefined ? HIDE_CURSOR_AND_WRAP : this.#back(columns)}${cut}`);
    this.#shown = cut;
  }

  /** Leaves the line where it is and goes on below it. */
  finish(): void {
    this.#end("\n");
  }

  /** Takes the line away. */
  clear(): void {
    this.#end(this.#back(this.#terminal.columns() || DEFAULT_COLUMNS));
  }

  /** To the line's beginning; a window made narrower has folded it into several rows. */
  #back(columns: number): string {
    const rows = Math.ceil((this.#shown?.length ?? 0) / columns);
    return `${rows > 1 ? `\x1b[${rows - 1}A` : ""}\r${CLEAR_TO_END}`;
  }

  #end(how: string): void {
    if (this.#shown === undefined) return;
    this.#terminal.write(how + SHOW_CURSOR_AND_WRAP);
    this.#shown = undefined;
  }
}
