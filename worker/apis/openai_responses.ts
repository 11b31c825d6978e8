/** `POST /v1/responses`. */
import type { RbeeError } from "../../protocol/errors.ts";
import type { ChatCompletionMessage, ChatCompletionRequest } from "../../protocol/openai_schemas.ts";
import { type InputItem, ResponsesRequest } from "../../protocol/responses_schemas.ts";
import { type EventWriter, STREAM_TEXTS } from "../../protocol/sse.ts";
import type { InferenceStats } from "../../protocol/worker_schemas.ts";
import type { Worker } from "../worker.ts";
import { type AnswerTeller, NamedEvents, streamedAnswers, wholeAnswers } from "./answer_responses.ts";
import type { Delta } from "./chat_reader.ts";
import { type Block, type BlockListener, BlockRow, blocksOf } from "./blocks.ts";
import { chatWorks } from "./openai_chat.ts";
import { originOf } from "./openai_parts.ts";
import type { AnswerHandler } from "./relay.ts";

/** Answers in the name of one worker. */
export function responses(worker: Worker): AnswerHandler {
  return async (context) => {
    const { engine } = worker;
    const request = await context.body(ResponsesRequest);
    const { id, createdUnix } = originOf(context, "resp_");
    const works = await chatWorks(asChat(request), engine, context.request.signal);
    const what = { worker, context, asked: { works, requestId: id } };
    const head = { id, created_at: createdUnix, model: worker.modelRef };
    if (request.stream) {
      return await streamedAnswers(what, (writer) => new ResponseStream(writer, { head, request }), {
        dialect: "openai",
        texts: STREAM_TEXTS.lastEvent,
      });
    }
    const [{ message, stats }] = await wholeAnswers(what);
    const output = blocksOf(message).map((block, i) =>
      itemOf(block, { id: idOf(block, { head, index: i }), status: "completed" })
    );
    return Response.json(responseOf({ head, request, output, stats }), { headers: { "X-Request-Id": id } });
  };
}

/** The same as a chat request. */
function asChat(request: ResponsesRequest): ChatCompletionRequest {
  const { tools, tool_choice, text, reasoning, instructions, max_output_tokens, input, ...same } = request;
  const items: InputItem[] = typeof input === "string" ? [{ role: "user", content: input }] : input;
  const system: ChatCompletionMessage[] = instructions ? [{ role: "system", content: instructions }] : [];
  const format = text?.format;
  return {
    ...same,
    messages: [...system, ...messagesOf(items)],
    max_completion_tokens: max_output_tokens,
    tools: tools?.map(({ type, ...fn }) => ({ type, function: fn })),
    tool_choice: typeof tool_choice === "object" && tool_choice !== null
      ? { type: "function", function: { name: tool_choice.name } }
      : tool_choice,
    response_format: format?.type === "json_schema" ? { type: "json_schema", json_schema: format } : format,
    reasoning_effort: reasoning?.effort,
  };
}

/** Calls and thoughts are items of their own here, and parts of the assistant's message there. */
function messagesOf(items: readonly InputItem[]): ChatCompletionMessage[] {
  const messages: ChatCompletionMessage[] = [];
  let reasoning = "";
  for (const item of items) {
    const last = messages[messages.length - 1];
    if (item.type === "reasoning") {
      reasoning += (item.content ?? []).map(({ text }) => text).join("");
      continue;
    }
    const thoughts = reasoning === "" ? {} : { reasoning_content: reasoning };
    if (item.type === "function_call") {
      const call = {
        id: item.call_id,
        type: "function" as const,
        function: { name: item.name, arguments: item.arguments },
      };
      if (last?.role === "assistant") last.tool_calls = [...last.tool_calls ?? [], call];
      else messages.push({ role: "assistant", content: "", tool_calls: [call], ...thoughts });
    } else if (item.type === "function_call_output") {
      messages.push({ role: "tool", tool_call_id: item.call_id, content: item.output });
    } else {
      messages.push({
        role: item.role,
        content: item.content,
        ...item.role === "assistant" ? thoughts : {},
      });
    }
    reasoning = "";
  }
  return messages;
}

interface Head {
  id: string;
  created_at: number;
  model: string;
}

function responseOf(
  what: {
    head: Head;
    request: ResponsesRequest;
    output: unknown[];
    stats?: InferenceStats;
    error?: RbeeError;
  },
) {
  const { head, request, output, stats, error } = what;
  const cut = stats?.stop_reason === "length" || stats?.stop_reason === "deadline";
  const status = error ? "failed" : stats === undefined ? "in_progress" : cut ? "incomplete" : "completed";
  return {
    ...head,
    object: "response",
    status,
    error: error ? { code: error.code, message: error.message } : null,
    incomplete_details: cut ? { reason: "max_output_tokens" } : null,
    instructions: request.instructions ?? null,
    max_output_tokens: request.max_output_tokens ?? null,
    metadata: request.metadata ?? {},
    output,
    parallel_tool_calls: request.parallel_tool_calls ?? true,
    previous_response_id: null,
    reasoning: { effort: request.reasoning?.effort ?? null, summary: null },
    store: false,
    temperature: request.temperature ?? null,
    text: { format: request.text?.format ?? { type: "text" } },
    tool_choice: request.tool_choice ?? "auto",
    tools: request.tools ?? [],
    top_p: request.top_p ?? null,
    truncation: "disabled",
    usage: stats === undefined ? null : {
      input_tokens: stats.prompt_tokens,
      input_tokens_details: { cached_tokens: stats.cached_tokens },
      output_tokens: stats.total_tokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: stats.prompt_tokens + stats.total_tokens,
    },
  };
}

const ID_PREFIXES = { reasoning: "rs_", text: "msg_", call: "fc_" };

/** After the response, so that it is the same wherever that is gone on with. */
function idOf(block: Block, of: { head: Head; index: number }): string {
  return `${ID_PREFIXES[block.kind]}${of.head.id.replace(/^resp_/, "")}x${of.index}`;
}

function itemOf(block: Block, what: { id: string; status: "in_progress" | "completed" }) {
  const { id, status } = what;
  switch (block.kind) {
    case "reasoning":
      return {
        id,
        type: "reasoning",
        status,
        summary: [],
        content: block.text === "" ? [] : [partOf(block)],
      };
    case "text":
      return {
        id,
        type: "message",
        status,
        role: "assistant",
        content: block.text === "" ? [] : [partOf(block)],
      };
    case "call":
      return {
        id,
        type: "function_call",
        status,
        call_id: block.call.id,
        name: block.call.name,
        arguments: block.text,
      };
  }
}

function partOf({ kind, text }: Block) {
  return kind === "text"
    ? { type: "output_text", text, annotations: [], logprobs: [] }
    : { type: "reasoning_text", text };
}

/** Each block's opening, growth and end as the events that OpenAI's clients follow. */
class ResponseStream implements AnswerTeller, BlockListener {
  readonly #events: NamedEvents;
  readonly #what: { head: Head; request: ResponsesRequest };
  readonly #row = new BlockRow(this);
  readonly #ids: string[] = [];
  #sequence = 0;

  constructor(writer: EventWriter, what: { head: Head; request: ResponsesRequest }) {
    this.#events = new NamedEvents(writer);
    this.#what = what;
  }

  begin(): void {
    const response = responseOf({ ...this.#what, output: [] });
    this.#send("response.created", { response });
    this.#send("response.in_progress", { response });
    this.#events.flush();
  }

  news(_choice: number, { deltas }: { deltas: Delta[] }): void {
    this.#row.add(deltas);
    this.#events.flush();
  }

  ended(_choice: number, stats: InferenceStats): void {
    this.#row.end();
    const output = this.#row.blocks.map((block, i) =>
      itemOf(block, { id: this.#ids[i], status: "completed" })
    );
    const response = responseOf({ ...this.#what, output, stats });
    this.#send(`response.${response.status}`, { response });
    this.#events.flush();
  }

  failed(error: RbeeError): void {
    this.#send("error", { code: error.code, message: error.message, param: null });
    this.#send("response.failed", { response: responseOf({ ...this.#what, output: [], error }) });
    this.#events.flush();
  }

  opened(block: Block, output_index: number): void {
    const item_id = this.#ids[output_index] = idOf(block, { head: this.#what.head, index: output_index });
    const empty = { ...block, text: "" };
    const item = itemOf(empty, { id: item_id, status: "in_progress" });
    this.#send("response.output_item.added", { output_index, item });
    if (block.kind === "call") return;
    this.#send("response.content_part.added", {
      item_id,
      output_index,
      content_index: 0,
      part: partOf(empty),
    });
  }

  grown(block: Block, more: { index: number; text: string }): void {
    const at = { item_id: this.#ids[more.index], output_index: more.index };
    if (block.kind === "call") {
      return this.#send("response.function_call_arguments.delta", { ...at, delta: more.text });
    }
    const name = block.kind === "text" ? "output_text" : "reasoning_text";
    this.#send(`response.${name}.delta`, {
      ...at,
      content_index: 0,
      delta: more.text,
      ...block.kind === "text" ? { logprobs: [] } : {},
    });
  }

  closed(block: Block, output_index: number): void {
    const item_id = this.#ids[output_index];
    const { text } = block;
    if (block.kind === "call") {
      const { name } = block.call;
      this.#send("response.function_call_arguments.done", { item_id, output_index, name, arguments: text });
    } else {
      const at = { item_id, output_index, content_index: 0 };
      if (block.kind === "text") this.#send("response.output_text.done", { ...at, text, logprobs: [] });
      else this.#send("response.reasoning_text.done", { ...at, text });
      this.#send("response.content_part.done", { ...at, part: partOf(block) });
    }
    const item = itemOf(block, { id: item_id, status: "completed" });
    this.#send("response.output_item.done", { output_index, item });
  }

  #send(type: string, what: Record<string, unknown>): void {
    this.#events.add(type, { sequence_number: this.#sequence++, ...what });
  }
}
