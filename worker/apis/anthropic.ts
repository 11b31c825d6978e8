/** `POST /v1/messages` and `/v1/messages/count_tokens`. */
import type { Handler } from "../../daemon/serve.ts";
import { CountTokensRequest, type MessageBlock, MessagesRequest } from "../../protocol/anthropic_schemas.ts";
import { errorIn } from "../../protocol/dialects.ts";
import type { RbeeError } from "../../protocol/errors.ts";
import type { ChatCompletionMessage, ChatCompletionRequest } from "../../protocol/openai_schemas.ts";
import { type EventWriter, STREAM_TEXTS } from "../../protocol/sse.ts";
import type { InferenceStats } from "../../protocol/worker_schemas.ts";
import type { Accepted } from "../work.ts";
import type { Worker } from "../worker.ts";
import { type AnswerTeller, NamedEvents, streamedAnswers, wholeAnswers } from "./answer_responses.ts";
import { type Block, type BlockListener, BlockRow, blocksOf } from "./blocks.ts";
import { argumentsIn, type Delta } from "./chat_reader.ts";
import { chatRequestOf } from "./conversation.ts";
import { chatWorks } from "./openai_chat.ts";
import { originOf } from "./openai_parts.ts";
import type { AnswerHandler } from "./relay.ts";

/** Answers in the name of one worker. */
export function messages(worker: Worker): AnswerHandler {
  return async (context) => {
    const { engine } = worker;
    const request = await context.body(MessagesRequest);
    const { id } = originOf(context, "msg_");
    const { max_tokens, temperature, top_p, top_k, stop_sequences } = request;
    const works = await chatWorks(
      { ...conversationOf(request), max_tokens, temperature, top_p, top_k, stop: stop_sequences },
      engine,
      context.request.signal,
    );
    const what = { worker, context, asked: { works, requestId: id } };
    const head = { id, type: "message", role: "assistant", model: worker.modelRef };
    if (request.stream) {
      const open = (writer: EventWriter) =>
        new MessageStream(writer, {
          head,
          stops: [stop_sequences ?? []].flat(),
          correlationId: context.correlationId,
        });
      return await streamedAnswers(what, open, {
        dialect: "anthropic",
        texts: STREAM_TEXTS.anthropic,
      });
    }
    const [{ message, stats }] = await wholeAnswers(what);
    return Response.json({
      ...head,
      content: blocksOf(message).map(contentOf),
      ...stopOf(stats, { calls: message.calls.length > 0, stops: [stop_sequences ?? []].flat() }),
      usage: usageOf(stats),
    }, { headers: { "X-Request-Id": id } });
  };
}

/** Counts a conversation's tokens as the model's template renders it. */
export function countTokens(worker: Worker): Handler {
  return async ({ body, request: { signal } }) => {
    const { engine } = worker;
    const conversation = conversationOf(await body(CountTokensRequest));
    const { prompt } = await engine.renderChat(chatRequestOf(conversation), signal);
    return Response.json({ input_tokens: (await engine.tokenize(prompt, { signal })).length });
  };
}

/** The same as a chat request. */
function conversationOf(request: CountTokensRequest): ChatCompletionRequest {
  const { system, tool_choice: choice, thinking } = request;
  const rules: ChatCompletionMessage[] = system ? [{ role: "system", content: system }] : [];
  return {
    messages: [
      ...rules,
      ...request.messages.flatMap(({ role, content }) =>
        typeof content === "string" ? [{ role, content }] : messagesOf(role, content)
      ),
    ],
    tools: request.tools?.map(({ name, description, input_schema }) => ({
      type: "function",
      function: { name, description, parameters: input_schema },
    })),
    tool_choice: choice?.type === "tool"
      ? { type: "function", function: { name: choice.name } }
      : choice?.type === "any"
      ? "required"
      : choice?.type,
    parallel_tool_calls: choice && "disable_parallel_tool_use" in choice && choice.disable_parallel_tool_use
      ? false
      : undefined,
    chat_template_kwargs: thinking ? { enable_thinking: thinking.type !== "disabled" } : undefined,
  };
}

/** Results of tools are messages of their own there. */
function messagesOf(role: string, blocks: readonly MessageBlock[]): ChatCompletionMessage[] {
  const results: ChatCompletionMessage[] = [];
  const texts: string[] = [];
  const thoughts: string[] = [];
  const calls: NonNullable<ChatCompletionMessage["tool_calls"]> = [];
  for (const block of blocks) {
    if (block.type === "text") texts.push(block.text);
    if (block.type === "thinking") thoughts.push(block.thinking);
    if (block.type === "tool_use") {
      const { id, name, input } = block;
      calls.push({ id, type: "function", function: { name, arguments: JSON.stringify(input) } });
    }
    if (block.type === "tool_result") {
      results.push({ role: "tool", tool_call_id: block.tool_use_id, content: block.content ?? "" });
    }
  }
  if (texts.length + thoughts.length + calls.length === 0) return results;
  return [...results, {
    role,
    content: texts.length === 1 ? texts[0] : texts.map((text) => ({ type: "text" as const, text })),
    ...thoughts.length > 0 ? { reasoning_content: thoughts.join("") } : {},
    ...calls.length > 0 ? { tool_calls: calls } : {},
  }];
}

function contentOf(block: Block) {
  switch (block.kind) {
    case "reasoning":
      return { type: "thinking", thinking: block.text, signature: "" };
    case "text":
      return { type: "text", text: block.text };
    case "call":
      return { type: "tool_use", id: block.call.id, name: block.call.name, input: argumentsIn(block.text) };
  }
}

/** `stops` are those of the request; the template's own are ends like any other. */
function stopOf(stats: InferenceStats, answer: { calls: boolean; stops: readonly string[] }) {
  const { stop_reason: reason, stop_string: text } = stats;
  if (reason === "length" || reason === "deadline") return { stop_reason: "max_tokens", stop_sequence: null };
  if (answer.calls) return { stop_reason: "tool_use", stop_sequence: null };
  return text !== undefined && answer.stops.includes(text)
    ? { stop_reason: "stop_sequence", stop_sequence: text }
    : { stop_reason: "end_turn", stop_sequence: null };
}

function usageOf(stats: InferenceStats) {
  return {
    input_tokens: stats.prompt_tokens - stats.cached_tokens,
    cache_read_input_tokens: stats.cached_tokens,
    cache_creation_input_tokens: 0,
    output_tokens: stats.total_tokens,
  };
}

class MessageStream implements AnswerTeller, BlockListener {
  readonly #events: NamedEvents;
  readonly #what: { head: Record<string, unknown>; stops: readonly string[]; correlationId: string };
  readonly #row = new BlockRow(this);

  constructor(
    writer: EventWriter,
    what: { head: Record<string, unknown>; stops: readonly string[]; correlationId: string },
  ) {
    this.#events = new NamedEvents(writer);
    this.#what = what;
  }

  begin({ promptTokens }: Accepted): void {
    // How many of them were in the cache is told with the end.
    const usage = { input_tokens: promptTokens, output_tokens: 0 };
    const message = { ...this.#what.head, content: [], stop_reason: null, stop_sequence: null, usage };
    this.#events.add("message_start", { message });
    this.#events.flush();
  }

  news(_choice: number, { deltas }: { deltas: Delta[] }): void {
    this.#row.add(deltas);
    this.#events.flush();
  }

  ended(_choice: number, stats: InferenceStats): void {
    this.#row.end();
    const calls = this.#row.blocks.some(({ kind }) => kind === "call");
    this.#events.add("message_delta", {
      delta: stopOf(stats, { calls, stops: this.#what.stops }),
      usage: usageOf(stats),
    });
    this.#events.add("message_stop", {});
    this.#events.flush();
  }

  failed(error: RbeeError): void {
    const { type, ...what } = errorIn("anthropic", error, this.#what.correlationId);
    this.#events.add(String(type), what);
    this.#events.flush();
  }

  opened(block: Block, index: number): void {
    const content_block = block.kind === "call" ? { ...contentOf(block), input: {} } : contentOf(block);
    this.#events.add("content_block_start", { index, content_block });
  }

  grown(block: Block, { index, text }: { index: number; text: string }): void {
    const delta = block.kind === "reasoning"
      ? { type: "thinking_delta", thinking: text }
      : block.kind === "text"
      ? { type: "text_delta", text }
      : { type: "input_json_delta", partial_json: text };
    this.#events.add("content_block_delta", { index, delta });
  }

  closed(_block: Block, index: number): void {
    this.#events.add("content_block_stop", { index });
  }
}
