/** stdout for tokens and results, stderr for everything else; colours and redrawing only on a terminal. */
import { bold, green, red } from "@std/fmt";
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

/** Whatever would move, colour or retitle a terminal. Line feeds and tabs may pass. */
// deno-lint-ignore no-control-regex
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** A command's mouth. */
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

  /** Part of an answer, as it stands. What a model says can't steer the terminal. */
  async text(text: string): Promise<void> {
    if (text === "") return;
    this.#midLine = !text.endsWith("\n");
    await this.#stdout.write(this.#stdout.terminal ? text.replace(CONTROLS, "\ufffd") : text);
  }

  /** A line of a result. */
  async line(text: string): Promise<void> {
    await this.text(`${text}\n`);
  }

  /** Whether results may have colours. */
  get colors(): boolean {
    return this.#stdout.terminal;
  }

  /** A line of a result with this program's own colours in it; what others have said in it must be printable. */
  async coloredLine(text: string): Promise<void> {
    await this.#stdout.write(`${text}\n`);
  }

  /** One JSON document on one line. */
  async document(value: unknown): Promise<void> {
    await this.#stdout.write(`${JSON.stringify(value)}\n`);
  }

  /** Ends the line that the answer's last token left open. */
  async endText(): Promise<void> {
    if (this.#midLine) await this.text("\n");
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
      this.#status.update(line);
    } else if (stage !== this.#lastStage) {
      this.#note(stage);
    }
    this.#lastStage = stage;
  }

  /** The stage that ends them all. */
  ready(): void {
    this.#lastStage = "";
    this.say(this.#stderr.terminal ? green(STAGES.ready) : STAGES.ready);
  }

  /** What failed, and below it what was tried and what to do. */
  error(headline: string, notes: readonly string[] = []): void {
    const label = this.#stderr.terminal ? bold(red("Error:")) : "Error:";
    this.#note([`${label} ${headline}`, ...notes.map((note) => `  ${note}`)].join("\n"));
  }

  /** Gives the terminal back as it was. For whoever ends the process. */
  restore(): void {
    this.#status.finish();
  }

  #note(line: string): void {
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
