/** An answer as a row of blocks, each of one kind, as OpenAI's responses and Anthropic's messages tell it. */
import type { Delta, WholeCall, WholeMessage } from "./chat_reader.ts";

/** One block, as far as it has grown. */
export type Block =
  | { kind: "reasoning" | "text"; text: string }
  | { kind: "call"; text: string; call: Pick<WholeCall, "id" | "name"> };

/** Who is told; `text` of a call's block is its arguments. Blocks come one after the other. */
export interface BlockListener {
  opened(block: Block, index: number): void;
  grown(block: Block, more: { index: number; text: string }): void;
  closed(block: Block, index: number): void;
}

/** Makes blocks of deltas. */
export class BlockRow {
  /** All so far; the last may be open. */
  readonly blocks: Block[] = [];
  readonly #listener: BlockListener;
  #callIndex = -1;
  #open = false;

  constructor(listener: BlockListener) {
    this.#listener = listener;
  }

  /** Takes what is new. */
  add(deltas: readonly Delta[]): void {
    for (const { reasoning, content, tool } of deltas) {
      if (reasoning) this.#text("reasoning", reasoning);
      if (content) this.#text("text", content);
      if (tool === undefined) continue;
      if (tool.index !== this.#callIndex || this.#last?.kind !== "call") {
        this.#callIndex = tool.index;
        this.#begin({ kind: "call", text: "", call: { id: tool.id ?? "", name: tool.name ?? "" } });
      }
      if (tool.arguments !== "") this.#grow(tool.arguments);
    }
  }

  /** Closes the last. */
  end(): void {
    if (this.#open) this.#listener.closed(this.#last!, this.blocks.length - 1);
    this.#open = false;
  }

  get #last(): Block | undefined {
    return this.blocks[this.blocks.length - 1];
  }

  #text(kind: "reasoning" | "text", text: string): void {
    if (!this.#open || this.#last?.kind !== kind) this.#begin({ kind, text: "" });
    this.#grow(text);
  }

  #begin(block: Block): void {
    this.end();
    this.#open = true;
    const index = this.blocks.push(block) - 1;
    this.#listener.opened(block, index);
  }

  #grow(text: string): void {
    const block = this.#last!;
    block.text += text;
    this.#listener.grown(block, { index: this.blocks.length - 1, text });
  }
}

/** The blocks of a whole answer. */
export function blocksOf({ reasoning, content, calls }: WholeMessage): Block[] {
  const blocks: Block[] = [];
  if (reasoning !== "") blocks.push({ kind: "reasoning", text: reasoning });
  if (content !== "") blocks.push({ kind: "text", text: content });
  for (const { id, name, arguments: text } of calls) blocks.push({ kind: "call", text, call: { id, name } });
  return blocks;
}
