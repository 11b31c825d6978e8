/**
 * Everything that the keeper writes: tokens and results to stdout, the rest to stderr, colours and redrawing only on a
 * terminal. Hubs, hives, models and ssh have a say in all of it, so it is escaped here, and nothing writes past this.
 */
import { bold, green, red } from "@std/fmt";
import { printable, printableText } from "../protocol/printable.ts";
import { STAGES } from "./progress.ts";
import { StatusLine } from "./status_line.ts";

/** One of the two ends. */
export interface Sink {
  /** Writes all of it; rejects with `Deno.errors.BrokenPipe` when nobody reads any more. */
  write(text: string): Promise<void>;
  /** The same, blocking. */
  writeSync(text: string): void;
  /** Whether a person is looking. */
  readonly terminal: boolean;
}

/** Options of {@linkcode Output}. */
export interface OutputOptions {
  /** Results as JSON. */
  json?: boolean;
  /** No narration; errors are still shown. */
  quiet?: boolean;
  /** Default: the process's. */
  stdout?: Sink;
  /** Default: the process's. */
  stderr?: Sink;
}

/** Part of a line, and how it is painted where there are colours. */
export interface Piece {
  /** What it says; may be somebody else's words. */
  text: string;
  /** One of `@std/fmt`'s. */
  paint?: (text: string) => string;
}

/** Writes a command's output. */
export class Output {
  /** Whether results are wanted as JSON. */
  readonly json: boolean;
  readonly #quiet: boolean;
  readonly #stdout: Sink;
  readonly #stderr: Sink;
  readonly #status: StatusLine;
  #lastStage = "";
  #midLine = false;

  /** Writes nothing yet. */
  constructor(options: OutputOptions = {}) {
    this.json = options.json ?? false;
    this.#quiet = options.quiet ?? false;
    this.#stdout = options.stdout ?? sinkOf(Deno.stdout);
    this.#stderr = options.stderr ?? sinkOf(Deno.stderr);
    this.#status = new StatusLine({
      write: (text) => this.#tell(text),
      columns: windowColumns,
    });
  }

  /** Part of an answer. A pipe or a file gets it as it is; on a terminal the model can't steer what is shown. */
  async answer(text: string): Promise<void> {
    if (text === "") return;
    this.#midLine = !text.endsWith("\n");
    await this.#stdout.write(this.#stdout.terminal ? printableText(text) : text);
  }

  /** A result of several lines, each with its line feed. */
  async text(text: string): Promise<void> {
    await this.#stdout.write(text.split("\n").map(printable).join("\n"));
  }

  /** A line of a result. */
  async line(text: string): Promise<void> {
    await this.#stdout.write(`${printable(text)}\n`);
  }

  /** Whether results may have colours. */
  get colors(): boolean {
    return this.#stdout.terminal;
  }

  /** The same in colours, where there are any. */
  async painted(...pieces: readonly Piece[]): Promise<void> {
    const shown = pieces.map(({ text, paint }) =>
      paint === undefined || !this.#stdout.terminal ? printable(text) : paint(printable(text))
    );
    await this.#stdout.write(`${shown.join("")}\n`);
  }

  /** One JSON document on one line. What is escaped stays the same JSON. */
  async document(value: unknown): Promise<void> {
    await this.line(JSON.stringify(value));
  }

  /** Ends the line that the answer's last token left open. */
  async endText(): Promise<void> {
    if (this.#midLine) await this.answer("\n");
  }

  /** What is going on, for a person. */
  say(line: string): void {
    if (!this.#quiet) this.#note(line);
  }

  /** The same, but also when quiet: asked for, or too important to be held back. */
  insist(line: string): void {
    this.#note(line);
  }

  /** Progress within a stage: redrawn on a terminal; elsewhere the stage's name, once. */
  progress(stage: string, line: string): void {
    if (this.#quiet) return;
    if (this.#stderr.terminal) {
      if (stage !== this.#lastStage) this.#status.finish();
      this.#status.update(printable(line));
    } else if (stage !== this.#lastStage) {
      this.#note(stage);
    }
    this.#lastStage = stage;
  }

  /** The stage that ends them all. */
  ready(): void {
    this.#lastStage = "";
    if (!this.#quiet) this.#note(STAGES.ready, green);
  }

  /** What failed, and below it what was tried and what to do. */
  error(headline: string, notes: readonly string[] = []): void {
    const label = this.#stderr.terminal ? bold(red("Error:")) : "Error:";
    this.#write([`${label} ${block(headline)}`, ...notes.map((note) => `  ${block(note)}`)].join("\n"));
  }

  /** Gives the terminal back as it was. For whoever ends the process. */
  restore(): void {
    this.#status.finish();
  }

  #note(line: string, paint: (text: string) => string = (text) => text): void {
    this.#write(this.#stderr.terminal ? paint(block(line)) : block(line));
  }

  /** What is escaped, on lines of its own. */
  #write(line: string): void {
    this.#status.finish();
    // On a terminal both ends share the line that the answer left open.
    const apart = this.#midLine && this.#stdout.terminal && this.#stderr.terminal;
    if (apart) this.#midLine = false;
    this.#tell(`${apart ? "\n" : ""}${line}\n`);
  }

  #tell(text: string): void {
    try {
      this.#stderr.writeSync(text);
    } catch (error) {
      // Nobody listens any more: no reason to stop the answer.
      if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
    }
  }
}

/** Somebody else's lines stay lines, but set in: none of them passes for one of this program's. */
function block(text: string): string {
  return text.split("\n").map(printable).join("\n  ");
}

function windowColumns(): number {
  try {
    return Deno.consoleSize().columns;
  } catch {
    return 0;
  }
}

function sinkOf(stream: typeof Deno.stdout): Sink {
  const encoder = new TextEncoder();
  // A dumb terminal can neither draw over a line nor show colours.
  const terminal = stream.isTerminal() && Deno.env.get("TERM") !== "dumb";
  return {
    terminal,
    async write(text) {
      for (let rest = encoder.encode(text); rest.length > 0;) rest = rest.subarray(await stream.write(rest));
    },
    writeSync(text) {
      for (let rest = encoder.encode(text); rest.length > 0;) rest = rest.subarray(stream.writeSync(rest));
    },
  };
}
