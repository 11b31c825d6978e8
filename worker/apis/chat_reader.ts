/** An answer's text as what it says: content, thoughts, calls of functions. */
import { loadAddon, type NativeChat, type NativeChatDelta, type NativeChatParser } from "../native/addon.ts";
import { unwrap } from "../native/errors.ts";

/** What is new of an answer. */
export interface Delta {
  /** Of the thoughts before the answer. */
  reasoning?: string;
  content?: string;
  tool?: ToolDelta;
}

/** What is new of a call; `id` and `name` come once, before or with the first arguments. */
export interface ToolDelta {
  index: number;
  id?: string;
  name?: string;
  /** More of the JSON text. */
  arguments: string;
}

/** Reads one answer as it grows. */
export interface ChatReader {
  /** The text is the content. */
  readonly plain: boolean;
  /** More text, `last` with the end of the answer. */
  push(text: string, last: boolean): Delta[];
}

/**
 * The reader that a conversation's template asks for; without one the text is the content. `name` tells the answer from
 * all others: calls without a name of their own are called after it.
 */
export function readerFor(rendered: NativeChat | undefined, name: string): ChatReader {
  return rendered === undefined || rendered.parser.plain
    ? { plain: true, push: (text) => text === "" ? [] : [{ content: text }] }
    : new TemplateReader(rendered, name);
}

interface Call {
  id: string;
  name: string;
  /** Its name went out. */
  told: boolean;
}

class TemplateReader implements ChatReader {
  readonly plain = false;
  readonly #parser: NativeChatParser;
  readonly #name: string;
  readonly #calls: Call[] = [];
  /** What was given and not told: all of it, until something was. */
  #untold: string | undefined = "";

  constructor(rendered: NativeChat, name: string) {
    this.#name = name.replace(/[^A-Za-z0-9]/g, "");
    this.#parser = unwrap(() => new (loadAddon().ChatParser)(JSON.stringify(rendered.parser)));
  }

  push(text: string, last: boolean): Delta[] {
    if (this.#untold !== undefined) this.#untold += text;
    const deltas = this.#read(text, last).flatMap((delta) => this.#deltas(delta));
    if (last) deltas.push(...this.#headers());
    if (deltas.length > 0) this.#untold = undefined;
    // What the template does not foresee is told as it stands, rather than lost.
    return last && this.#untold ? [{ content: this.#untold }] : deltas;
  }

  #read(text: string, last: boolean): NativeChatDelta[] {
    try {
      return JSON.parse(unwrap(() => this.#parser.push(text, last)));
    } catch {
      return [];
    }
  }

  #deltas({ reasoning, content, tool_call }: NativeChatDelta): Delta[] {
    const deltas: Delta[] = [];
    if (tool_call === undefined) deltas.push(...this.#headers());
    if (reasoning !== undefined) deltas.push({ reasoning });
    if (content !== undefined) deltas.push({ content });
    if (tool_call === undefined) return deltas;
    const { index, id, name } = tool_call;
    const call = this.#calls[index] ??= { id: "", name: "", told: false };
    if (id !== "") call.id = id;
    if (name !== "") call.name = name;
    deltas.push(...this.#headers(index));
    // A name may still grow until there are arguments.
    if (tool_call.arguments !== "") deltas.push(...this.#header(call, index), argumentsOf(tool_call));
    return deltas;
  }

  /** Of the calls before another, or of all, whose names are certain by now. */
  #headers(before = this.#calls.length): Delta[] {
    return this.#calls.slice(0, before).flatMap((call, index) => this.#header(call, index));
  }

  #header(call: Call, index: number): Delta[] {
    if (call.told || call.name === "") return [];
    call.told = true;
    // Most models give their calls no ids; clients need something to answer to.
    return [{
      tool: { index, id: call.id || `call_${this.#name}x${index}`, name: call.name, arguments: "" },
    }];
  }
}

function argumentsOf(call: { index: number; arguments: string }): Delta {
  return { tool: { index: call.index, arguments: call.arguments } };
}

/** A whole call. */
export interface WholeCall {
  id: string;
  name: string;
  arguments: string;
}

/** The arguments of a call, for interfaces that have them as JSON; one that was cut off has none. */
export function argumentsIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

/** A whole answer. */
export interface WholeMessage {
  content: string;
  reasoning: string;
  calls: WholeCall[];
}

/** Puts deltas together. */
export class MessageBuilder {
  /** So far. */
  readonly message: WholeMessage = { content: "", reasoning: "", calls: [] };

  /** Adds what is new. */
  add(deltas: readonly Delta[]): void {
    for (const { content = "", reasoning = "", tool } of deltas) {
      this.message.content += content;
      this.message.reasoning += reasoning;
      if (tool === undefined) continue;
      const call = this.message.calls[tool.index] ??= { id: tool.id!, name: tool.name!, arguments: "" };
      call.arguments += tool.arguments;
    }
  }
}
