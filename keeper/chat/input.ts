/** Where a person's messages come from: a terminal with line editing and history, or the lines of a pipe. */
import { TextLineStream } from "@std/streams";
import { MAX_INPUT_BYTES } from "../limits.ts";
import { UsageError } from "../cli.ts";

/** What a person may do instead of saying something. */
export type Heard =
  | { kind: "message"; text: string }
  /** Ctrl+C where nothing was being said. */
  | { kind: "interrupt" }
  /** Ctrl+D, or the end of the pipe. */
  | { kind: "end" };

/** Asks for messages. */
export interface ChatInput {
  /** Whether a person is typing. */
  readonly interactive: boolean;
  /** The next message: lines joined by a `\` at their end, or between two `"""`. */
  next(): Promise<Heard>;
}

const PROMPT = ">>> ";
const PROMPT_WITHIN = "... ";
const QUOTES = '"""';

type Line = { line: string } | "interrupt" | "end";

/** Makes messages of lines. */
export async function nextMessage(ask: (prompt: string) => Promise<Line>): Promise<Heard> {
  const lines: string[] = [];
  let quoted = false;
  let size = 0;
  for (;;) {
    const heard = await ask(lines.length === 0 && !quoted ? PROMPT : PROMPT_WITHIN);
    if (heard === "interrupt") return { kind: "interrupt" };
    if (heard === "end") {
      return lines.length === 0 ? { kind: "end" } : { kind: "message", text: lines.join("\n") };
    }
    let { line } = heard;
    size += line.length;
    if (size > MAX_INPUT_BYTES) {
      throw new UsageError([`A message may have ${MAX_INPUT_BYTES} characters at most.`], ["chat"]);
    }
    if (!quoted && lines.length === 0 && line.trimStart().startsWith(QUOTES)) {
      quoted = true;
      line = line.trimStart().slice(QUOTES.length);
      // An opening line of its own is no part of the message.
      if (line === "") continue;
    }
    if (quoted && line.endsWith(QUOTES)) {
      const last = line.slice(0, -QUOTES.length);
      return { kind: "message", text: [...lines, ...last === "" ? [] : [last]].join("\n") };
    }
    if (!quoted && line.endsWith("\\")) {
      lines.push(line.slice(0, -1));
      continue;
    }
    lines.push(line);
    if (!quoted) return { kind: "message", text: lines.join("\n") };
  }
}

/** Lines of a pipe: no prompt, no editing. */
export function pipedInput(stream: ReadableStream<Uint8Array<ArrayBuffer>>): ChatInput {
  const reader = stream.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream()).getReader();
  const ask = async (): Promise<Line> => {
    const { done, value } = await reader.read();
    return done ? "end" : { line: value };
  };
  return { interactive: false, next: () => nextMessage(ask) };
}

/** A terminal. `history` has the latest line first and grows as lines are entered; `complete` offers whole lines. */
export async function terminalInput(
  options: { history: string[]; complete: (line: string) => string[] },
): Promise<ChatInput> {
  // Loaded here: a pipe needs none of it.
  const { createInterface } = await import("node:readline");
  const { default: process } = await import("node:process");
  const ask = (prompt: string): Promise<Line> => {
    const { promise, resolve } = Promise.withResolvers<Line>();
    // One for each line: while an answer comes, the terminal is as it was, and Ctrl+C is a signal again.
    const lines = createInterface({
      ...{ input: process.stdin, output: process.stderr, terminal: true, prompt },
      history: options.history,
      removeHistoryDuplicates: true,
      completer: (line: string) => [options.complete(line), line],
    });
    lines.on("line", (line) => {
      resolve({ line });
      lines.close();
    });
    lines.on("SIGINT", () => {
      resolve("interrupt");
      lines.close();
    });
    lines.on("close", () => resolve("end"));
    lines.prompt();
    return promise;
  };
  return { interactive: true, next: () => nextMessage(ask) };
}
